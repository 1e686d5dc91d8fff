"""Fixtures for every room: tiny checkpoints with their tokenizer, Korean rows, recipes.

Nothing here reaches for a network or for torch before a test asks for a checkpoint.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_models import (
    SENTENCES,
    SPECIAL_IDS,
    SPECIALS,
    VOCABULARY,
    encoder_shape,
    save_checkpoint,
)

ROOT = Path(__file__).resolve().parents[1]
REAL_DATA = Path(os.environ.get("KFT_TEST_DATA") or ROOT.parent / "shared").resolve()

Rows = Sequence[Mapping[str, Any]]
WriteJsonl = Callable[[Path, Iterable[Mapping[str, Any]]], Path]
RecipeFile = Callable[..., Path]


@pytest.fixture(autouse=True)
def _auto_is_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """`precision: auto` is the same on every CPU; what bfloat16 does is tested by name.

    With three digits a tiny random model answers otherwise for each way of computing the same.
    """
    from kft.models import precision

    asked = precision.has_fast_bfloat16
    monkeypatch.setattr(
        precision, "has_fast_bfloat16", lambda device: device.type != "cpu" and asked(device)
    )


@pytest.fixture(scope="session")
def tiny_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a byte-level BPE of 500 pieces: `<s>` 0, `</s>` 1, `<unk>` 2, `<pad>` 3."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIALS.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(SENTENCES.read_text(encoding="utf-8").splitlines(), trainer)
    assert bpe.get_vocab_size() == VOCABULARY
    folder = tmp_path_factory.mktemp("tiny_tokenizer")
    PreTrainedTokenizerFast(tokenizer_object=bpe, **SPECIALS).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_wordpiece(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a WordPiece of BERT: `[PAD]` 0, `[UNK]` 1, `[CLS]` 2, `[SEP]` 3, `[MASK]` 4."""
    from transformers import BertTokenizer

    from kft.models.new_tokenizer import ENCODER_TOKENS, piece_vocabulary
    from kft.models.tokenizer_measures import SENTENCES as PLAIN_KOREAN

    sentences = SENTENCES.read_text(encoding="utf-8").splitlines()
    # A vocabulary that knows neither plain Korean nor the tests' own words would be refused.
    known = [*sentences, *PLAIN_KOREAN, "하늘이 높고 바람이 선선하다 싫어요 좋아요"]
    vocabulary = piece_vocabulary(known, VOCABULARY, ENCODER_TOKENS)
    folder = tmp_path_factory.mktemp("tiny_wordpiece")
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    tokenizer = BertTokenizer(
        vocab=vocabulary, do_lower_case=False, strip_accents=False, model_max_length=128
    )
    assert len(tokenizer) == len(vocabulary) <= VOCABULARY
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_gpt(tiny_tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a GPT-2: 2 layers, width 32, 4 heads, 128 positions, head tied."""
    from transformers import GPT2Config

    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=128,
        n_embd=32,
        n_layer=2,
        n_head=4,
        initializer_range=0.2,  # ten times the usual: logits that aren't flat
        **SPECIAL_IDS,
    )
    return save_checkpoint(config, tiny_tokenizer, tmp_path_factory.mktemp("tiny_gpt"))


@pytest.fixture(scope="session")
def tiny_llama(tiny_tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a Llama: 2 layers, width 32, 4 heads on 2 of keys and values, head untied."""
    from transformers import LlamaConfig

    config = LlamaConfig(
        vocab_size=VOCABULARY,
        max_position_embeddings=128,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=False,
        initializer_range=0.2,
        **SPECIAL_IDS,
    )
    return save_checkpoint(config, tiny_tokenizer, tmp_path_factory.mktemp("tiny_llama"))


@pytest.fixture(scope="session")
def tiny_neox(tiny_tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a GPT-NeoX: 2 layers, width 32, 4 heads, 128 positions, head untied."""
    from transformers import GPTNeoXConfig

    config = GPTNeoXConfig(
        vocab_size=VOCABULARY,
        max_position_embeddings=128,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        tie_word_embeddings=False,
        initializer_range=0.2,
        **SPECIAL_IDS,
    )
    return save_checkpoint(config, tiny_tokenizer, tmp_path_factory.mktemp("tiny_neox"))


@pytest.fixture(scope="session")
def tiny_bert(tiny_wordpiece: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a BERT with the head of its masked language model, and without a pooler."""
    from transformers import BertConfig

    folder = tmp_path_factory.mktemp("tiny_bert")
    config = BertConfig(**encoder_shape())
    return save_checkpoint(config, tiny_wordpiece, folder, "AutoModelForMaskedLM")


@pytest.fixture(scope="session")
def tiny_roberta(tiny_wordpiece: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a RoBERTa with the tokenizer of a BERT, as KLUE's are; one token type."""
    from transformers import RobertaConfig

    folder = tmp_path_factory.mktemp("tiny_roberta")
    config = RobertaConfig(**encoder_shape(type_vocab_size=1, max_position_embeddings=129))
    return save_checkpoint(config, tiny_wordpiece, folder, "AutoModelForMaskedLM")


@pytest.fixture(scope="session")
def tiny_electra(tiny_wordpiece: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of an ELECTRA discriminator, which has no language head; embeddings narrower."""
    from transformers import ElectraConfig

    folder = tmp_path_factory.mktemp("tiny_electra")
    config = ElectraConfig(**encoder_shape(embedding_size=16))
    return save_checkpoint(config, tiny_wordpiece, folder, "AutoModelForPreTraining")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real Korean `data/` and `checkpoints/`; skips where there is none."""
    if not (REAL_DATA / "data").is_dir():
        pytest.skip(f"no real data in {REAL_DATA}; KFT_TEST_DATA names the folder that has it")
    return REAL_DATA


@pytest.fixture
def slices_logits() -> None:
    """Skip where transformers' ``logits_to_keep`` takes no mask of positions yet (5.17)."""
    from transformers import modeling_utils

    if not hasattr(modeling_utils, "slice_logits_to_keep"):
        pytest.skip("transformers makes the logits of every position")


@pytest.fixture
def korean_rows() -> list[dict[str, str]]:
    """24 rows of `prompt` and `completion`, 5 to 97 tokens under the tiny tokenizer."""
    sentences = SENTENCES.read_text(encoding="utf-8").splitlines()
    words = " ".join(sentences).split()
    rows = []
    for number in range(24):
        start = 5 * number
        asked, answered = 1 + number % 5, 1 + (7 * number) % 22  # words on either side
        prompt = " ".join(words[start : start + asked])
        completion = " ".join(words[start + asked : start + asked + answered])
        rows.append({"prompt": prompt, "completion": completion})
    return rows


@pytest.fixture(scope="session")
def write_jsonl() -> WriteJsonl:
    """`write_jsonl(path, rows) -> path`: one JSON object a line, Korean left readable."""

    def write(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        path.write_text("".join(lines), encoding="utf-8")
        return path

    return write


@pytest.fixture
def recipe_file(tmp_path: Path, write_jsonl: WriteJsonl) -> RecipeFile:
    """`recipe_file(checkpoint, rows, overrides={}, name="recipe.yaml") -> path` of a recipe.

    `rows` are written beside the recipe, or are the path of a file. `overrides` are dotted keys
    with their values. Without any: LoRA of rank 4, 4 steps of 4 rows that aren't packed,
    float32, half of the rows held out, no sample generations and no general text, `output_dir` a
    folder `run` beside the recipe.
    """

    def write(
        checkpoint: Path | str,
        rows: Rows | Path,
        overrides: Mapping[str, Any] | None = None,
        name: str = "recipe.yaml",
    ) -> Path:
        path = tmp_path / name
        file = rows if isinstance(rows, Path) else write_jsonl(path.with_suffix(".jsonl"), rows)
        recipe: dict[str, Any] = {
            "model": {"name_or_path": str(checkpoint)},
            "adapter": {"r": 4, "lora_alpha": 8},
            "data": {
                "train": str(file),
                "eval_fraction": 0.5,
                "max_length": 128,
                "packing": False,
            },
            "train": {
                "max_steps": 4,
                "per_device_train_batch_size": 4,
                "learning_rate": 0.01,
                "precision": "float32",
            },
            "evaluate": {"generate": 0, "scored_generations": 0, "general_text": None},
            "output_dir": str(tmp_path / "run"),
        }
        for key, value in (overrides or {}).items():
            section, _, leaf = key.rpartition(".")
            (recipe.setdefault(section, {}) if section else recipe)[leaf] = value
        text = yaml.safe_dump(recipe, allow_unicode=True, sort_keys=False)
        path.write_text(text, encoding="utf-8")
        return path

    return write
