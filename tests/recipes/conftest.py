"""Checkpoints of the architectures that the shipped recipes name, and rows in their layouts.

Sizes are the published ones, with a single block instead of all; weights are random. The
vocabulary is the true one where the folder of real data has it, else one of the same class and
size: trained on the tests' own Korean, and filled up with pieces that no text contains.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from public_layouts import known_sentences, made_up_words, rows_like

BERT_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@dataclass(frozen=True)
class Shape:
    """What a checkpoint is made of.

    Args:
        config: Name of transformers' configuration class.
        auto_class: What it was pre-trained as.
        sizes: Arguments of the configuration.
        vocabulary: Folder among the real checkpoints, or ``None`` where there is none.
        specials: Special tokens of a vocabulary made here, by role; in the order of their ids.
        types: The tokenizer numbers its segments.
    """

    config: str
    auto_class: str
    sizes: Mapping[str, Any]
    vocabulary: str | None = None
    specials: Mapping[str, str] = field(default_factory=dict)
    types: bool = False


def encoder(vocab_size: int, positions: int = 512, **more: Any) -> dict[str, Any]:
    return {
        "vocab_size": vocab_size,
        "max_position_embeddings": positions,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 1,
        "num_attention_heads": 12,
        "pad_token_id": 0,
        **more,
    }


KLUE_BERT = Shape("BertConfig", "AutoModelForMaskedLM", encoder(32_000))
SHAPES = {
    "klue/bert-base": KLUE_BERT,
    # [CLS] 0, [PAD] 1, [SEP] 2, one token type, two positions more than a row has
    "klue/roberta-base": Shape(
        "RobertaConfig",
        "AutoModelForMaskedLM",
        encoder(32_000, 514, type_vocab_size=1, pad_token_id=1, bos_token_id=0, eos_token_id=2),
    ),
    "beomi/kcbert-base": Shape(
        "BertConfig", "AutoModelForMaskedLM", encoder(30_000, 300), "kcbert-base"
    ),
    "monologg/koelectra-base-v3-discriminator": Shape(
        "ElectraConfig",
        "AutoModelForPreTraining",
        encoder(35_000, embedding_size=768),
        "koelectra-base-v1",
    ),
    "skt/kogpt2-base-v2": Shape(
        "GPT2Config",
        "AutoModelForCausalLM",
        {
            "vocab_size": 51_200,
            "n_positions": 1024,
            "n_embd": 768,
            "n_layer": 1,
            "n_head": 12,
            "bos_token_id": 0,
            "eos_token_id": 1,
            "pad_token_id": 3,
        },
        "kogpt2-v1",
        {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"},
    ),
    "EleutherAI/polyglot-ko-1.3b": Shape(
        "GPTNeoXConfig",
        "AutoModelForCausalLM",
        {
            "vocab_size": 30_080,  # 77 rows more than pieces
            "max_position_embeddings": 2048,
            "hidden_size": 2048,
            "intermediate_size": 8192,
            "num_hidden_layers": 1,
            "num_attention_heads": 16,
            "bos_token_id": 0,
            "eos_token_id": 0,
        },
        None,
        {"eos_token": "<|endoftext|>", "pad_token": "<|pad|>", "unk_token": "<|unused0|>"},
        types=True,
    ),
    # A sentencepiece-like vocabulary with bytes to fall back on, and no padding token.
    "beomi/open-llama-2-ko-7b": Shape(
        "LlamaConfig",
        "AutoModelForCausalLM",
        {
            "vocab_size": 46_336,
            "max_position_embeddings": 2048,
            "hidden_size": 4096,
            "intermediate_size": 11_008,
            "num_hidden_layers": 1,
            "num_attention_heads": 32,
            "tie_word_embeddings": False,
            "bos_token_id": 1,
            "eos_token_id": 2,
        },
    ),
}
"""The hub name in a recipe -> what is made in its place."""


def wordpiece_folder(folder: Path, size: int, padding: int) -> None:
    """A cased `BertTokenizer` of `size` pieces; `[PAD]` has the id `padding` (KLUE-RoBERTa: 1)."""
    from transformers import BertTokenizer

    from kft.models.new_tokenizer import piece_vocabulary

    specials = list(BERT_SPECIALS)
    if padding == 1:
        specials = ["[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"]
    vocabulary = piece_vocabulary(known_sentences(), size, specials)
    for number in range(size - len(vocabulary)):
        vocabulary[f"[unused{number}]"] = len(vocabulary)
    BertTokenizer(vocab=vocabulary, do_lower_case=False, strip_accents=False).save_pretrained(
        folder
    )


def byte_level_folder(folder: Path, size: int, shape: Shape) -> None:
    """A byte-level BPE of `size` pieces, saved as a plain fast tokenizer."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(shape.specials.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(known_sentences(), trainer)
    content = json.loads(bpe.to_str())
    vocabulary = content["model"]["vocab"]
    for number in range(size - len(vocabulary)):
        vocabulary[f"<|filler{number}|>"] = len(vocabulary)
    names = ["input_ids", *(["token_type_ids"] if shape.types else []), "attention_mask"]
    PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(content)),
        model_input_names=names,
        **shape.specials,
    ).save_pretrained(folder)


def llama_folder(folder: Path, size: int) -> None:
    """A `LlamaTokenizer` of `size` pieces: `<unk>` 0, `<s>` 1, `</s>` 2, then the 256 bytes."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import LlamaTokenizer

    bpe = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    bpe.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    specials = ["<unk>", "<s>", "</s>", *[f"<0x{byte:02X}>" for byte in range(256)]]
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=specials, show_progress=False)
    bpe.train_from_iterator(known_sentences(), trainer)
    model = json.loads(bpe.to_str())["model"]
    vocabulary = model["vocab"]
    for number in range(size - len(vocabulary)):
        vocabulary[f"<filler{number}>"] = len(vocabulary)
    merges = [tuple(pair) for pair in model["merges"]]
    LlamaTokenizer(vocab=vocabulary, merges=merges).save_pretrained(folder)


def save_vocabulary(shape: Shape, folder: Path, checkpoints: Path | None) -> None:
    """The true vocabulary, or one of the same class and size."""
    real = checkpoints / shape.vocabulary if checkpoints and shape.vocabulary else None
    if real is not None and real.is_dir():
        for file in sorted(real.iterdir()):
            if file.name != "config.json":
                shutil.copy(file, folder)
    elif shape.specials:
        pieces = shape.sizes["vocab_size"] - (77 if shape.types else 0)
        byte_level_folder(folder, pieces, shape)
    elif shape.config == "LlamaConfig":
        llama_folder(folder, shape.sizes["vocab_size"])
    else:
        wordpiece_folder(folder, shape.sizes["vocab_size"], shape.sizes["pad_token_id"])


@pytest.fixture(scope="session")
def checkpoint_like(tmp_path_factory: pytest.TempPathFactory) -> Iterable[Callable[[str], Path]]:
    """`checkpoint_like(hub_name) -> folder`; only the latest is kept, for they are large."""
    import torch
    import transformers

    real_data = os.environ.get("KFT_TEST_DATA") or Path(__file__).resolve().parents[3] / "shared"
    checkpoints = Path(real_data) / "checkpoints"
    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            for folder in made.values():
                shutil.rmtree(folder)
            made.clear()
            shape = SHAPES[name]
            folder = tmp_path_factory.mktemp(name.split("/")[-1])
            config = getattr(transformers, shape.config)(**shape.sizes)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                model = getattr(transformers, shape.auto_class).from_config(config)
            model.save_pretrained(folder)
            save_vocabulary(shape, folder, checkpoints if checkpoints.is_dir() else None)
            made[name] = folder
        return made[name]

    yield make
    for folder in made.values():
        shutil.rmtree(folder)


@pytest.fixture
def rows_for(tmp_path: Path) -> Callable[..., Path]:
    """`rows_for(path in a recipe, many_words=False) -> file` of rows in that file's layout."""

    def write(named: str, *, many_words: bool = False) -> Path:
        path = tmp_path / Path(named).name
        generator = random.Random(named)
        text = made_up_words(generator) if many_words else rows_like(named, generator)
        path.write_text(text, encoding="utf-8")
        return path

    return write
