"""Model cards: their front matter, what they say, and code in them that runs."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
import yaml
from huggingface_hub import ModelCard, metadata_load
from tiny_models import SPECIAL_IDS, VOCABULARY, save_checkpoint
from transformers import LlamaConfig

import kft
from kft.api.cards import write_run_card
from kft.api.generate import open_chat
from kft.cli.main import run_words
from kft.models.licence import Licence, licence_of
from kft.models.precision import has_fast_bfloat16

if TYPE_CHECKING:
    from conftest import RecipeFile

WORDS = ["서울의", "가을은", "하늘이", "높고", "바람이", "선선하다"]
CHATS = [
    {"prompt": " ".join(WORDS[at % 4 : at % 4 + 2]), "completion": WORDS[at * 5 % 6]}
    for at in range(30)
]
LABELLED = [
    {"text": f"{WORDS[at % 6]} {WORDS[at % 5]}", "label": ["좋아요", "싫|어`요"][at % 2]}
    for at in range(30)
]
TAGGED = [{"tokens": WORDS[at % 3 :], "tags": ["B-LC", "O", "O", "O", "B-TI", "O"][at % 3 :]}
          for at in range(30)]  # fmt: skip
SCORED = [
    {"sentence1": WORDS[at % 6], "sentence2": WORDS[at % 5], "score": at % 6 / 2}
    for at in range(30)
]
TEXTS = [{"text": " ".join(WORDS[at % 3 :])} for at in range(30)]
CASES: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "causal_lm": (CHATS, {}),
    "sequence_classification": (LABELLED, {"data.format": "classification"}),
    "sequence_regression": (SCORED, {
        "data.format": "pairs",
        "data.columns": {"text": "sentence1", "text_pair": "sentence2", "label": "score"},
    }),
    "token_classification": (TAGGED, {"data.format": "tokens"}),
    "masked_lm": (TEXTS, {"data.format": "text"}),
}  # fmt: skip
KEYS = {"train.max_steps": 3, "data.max_length": 48}


def start(task: str, checkpoint: Path, recipe_file: RecipeFile, **more: Any) -> kft.Run:
    rows, keys = CASES[task]
    return kft.finetune(recipe_file(checkpoint, rows, {"task": task, **KEYS, **keys, **more}))


def code_of(card: Path) -> str:
    found = re.search(r"```python\n(.*?)```", card.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return found[1]


def run_code(folder: Path, base: Path | None = None) -> tuple[str, dict[str, Any]]:
    """What the card's code prints, run as it stands, and its names; a local base gets its path."""
    code = code_of(folder / "README.md")
    if base is not None:
        assert repr(base.name) in code
        code = code.replace(repr(base.name), repr(str(base)))
    names: dict[str, Any] = {}
    told = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(told):
        exec(code, names)  # noqa: S102 -- the code that people are told to run
    return told.getvalue().rstrip("\n"), names


@pytest.mark.parametrize("task", CASES)
def test_the_code_of_both_cards_runs_and_says_the_same(
    task: str, tiny_bert: Path, tiny_gpt: Path, recipe_file: RecipeFile
) -> None:
    checkpoint = tiny_gpt if task in ("causal_lm", "sequence_classification") else tiny_bert
    run = start(task, checkpoint, recipe_file)
    with_adapter, of_adapter = run_code(run.folder / "adapter", checkpoint)
    merged, of_merged = run_code(run.folder / "merged")
    if task == "sequence_regression":
        assert float(with_adapter) == pytest.approx(float(merged), abs=1e-4)
    else:
        assert with_adapter == merged
    assert with_adapter or task == "causal_lm"  # it may end at once
    if task == "causal_lm":
        asked = [{"role": "user", "content": "서울의 가을은 어때요?"}]
        assert open_chat(str(run.folder)).answer(asked, 64) == with_adapter.strip()
    else:
        difference = of_adapter["logits"] - of_merged["logits"]
        assert float(difference.abs().max()) < 1e-4
        assert type(of_merged["model"]).__name__ in (run.folder / "merged/config.json").read_text()


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_the_code_of_a_quantized_base_and_of_running_text_runs(
    quantization: str, tiny_tokenizer: Path, recipe_file: RecipeFile, tmp_path: Path
) -> None:
    # Of whole blocks: where the processor has bfloat16, bitsandbytes packs 4-bit weights anew.
    config = LlamaConfig(
        vocab_size=VOCABULARY, max_position_embeddings=128, hidden_size=64, intermediate_size=128,
        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, initializer_range=0.2,
        tie_word_embeddings=False, **SPECIAL_IDS,
    )  # fmt: skip
    base = save_checkpoint(config, tiny_tokenizer, tmp_path / "base")
    keys = {"adapter.method": "qlora", "model.quantization": quantization, "export.merge": False}
    rows = [{"text": " ".join(WORDS[at % 3 :])} for at in range(30)]
    run = kft.finetune(recipe_file(base, rows, {**KEYS, **keys}))
    told, names = run_code(run.folder / "adapter", base)
    kinds = {type(module).__name__ for module in names["model"].modules()}
    assert ("Linear4bit" in kinds) == (quantization == "nf4")
    assert ("Linear8bitLt" in kinds) == (quantization == "int8")
    if quantization == "int8" or not has_fast_bfloat16(torch.device("cpu")):
        # Else bitsandbytes rounds the blocks' scales too, and a random model says another thing.
        assert run.generate("서울의 가을은", max_new_tokens=64).strip() == told.strip()


def test_a_card_says_what_the_run_did(tiny_gpt: Path, recipe_file: RecipeFile) -> None:
    run = start("sequence_classification", tiny_gpt, recipe_file)
    adapter = (run.folder / "adapter" / "README.md").read_text(encoding="utf-8")
    merged = (run.folder / "merged" / "README.md").read_text(encoding="utf-8")
    front = metadata_load(run.folder / "adapter" / "README.md")
    assert front == {
        "language": "ko",
        "library_name": "peft",
        "pipeline_tag": "text-classification",
        "tags": ["kft", "korean", "lora"],
    }
    assert metadata_load(run.folder / "merged" / "README.md")["library_name"] == "transformers"
    result = run.result
    for card in (adapter, merged):
        ModelCard(card)  # the hub's own reader takes it
        assert f"| accuracy | {result['base']['accuracy']:.4g} | " in card
        assert "recipe.jsonl" in card
        assert str(run.folder) not in card
        assert str(tiny_gpt.parent) not in card
        assert "kl_nats" in card
        assert "licence isn't known" in card
    values = yaml.safe_load(re.search(r"```yaml\n(.*?)```", adapter, re.DOTALL)[1])
    assert values["adapter"] == {"r": 4, "lora_alpha": 8}
    assert values["data"]["train"] == "recipe.jsonl"
    assert values["data"]["labels"] == ["싫|어`요", "좋아요"]
    # What was not compared is not claimed.
    del result["verification"]
    (run.folder / "result.json").unlink()
    write_run_card(run.folder, run.recipe, run.folder / "adapter")
    bare = (run.folder / "adapter" / "README.md").read_text(encoding="utf-8")
    assert "## Verification" not in bare
    assert "## Results" not in bare


def test_a_base_that_may_not_be_sold_is_named_before_anything_is_written(
    tiny_gpt: Path, recipe_file: RecipeFile, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tmp_path / "kogpt2-base-v2"
    base.mkdir()
    for file in tiny_gpt.iterdir():
        (base / file.name).write_bytes(file.read_bytes())
    path = recipe_file(base, CHATS, {**KEYS, "export.merge": False})
    assert run_words(["finetune", str(path)]) == 0
    told = "CC BY-NC-SA 4.0, doesn't allow commercial use"
    assert told in capsys.readouterr().err
    assert run_words(["merge", str(tmp_path / "run")]) == 0
    assert told in capsys.readouterr().err
    merged = tmp_path / "run" / "merged"
    front = metadata_load(merged / "README.md")
    assert front["license"] == "cc-by-nc-sa-4.0"
    assert front["base_model"] == "skt/kogpt2-base-v2"
    assert front["base_model_relation"] == "finetune"
    assert "**Not for commercial use**" in (merged / "README.md").read_text(encoding="utf-8")
    # It goes on to what is trained from the merged model.
    again = licence_of(str(merged))
    assert (again.identifier, again.commercial, again.hub) == ("cc-by-nc-sa-4.0", False, None)


def test_a_prefix_model_gives_no_code_that_would_mislead(
    tiny_bert: Path, recipe_file: RecipeFile
) -> None:
    run = start("causal_lm", tiny_bert, recipe_file, **{"model.attention": "prefix"})
    for name in ("adapter", "merged"):
        card = (run.folder / name / "README.md").read_text(encoding="utf-8")
        assert "**A prefix model**" in card
        assert "kft_attention: prefix" in card
        assert "```python" not in card


FRONT = "---\nlicense: {}\nlicense_name: {}\n---\n# x\n"


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        (FRONT.format("apache-2.0", "null"), ("apache-2.0", "apache-2.0", True)),
        (FRONT.format("[mit, gpl]", "null"), ("mit", "mit", True)),
        (FRONT.format("other", "exaone-nc"), ("exaone-nc", "other", False)),
        (FRONT.format("other", "my own"), ("my own", "other", None)),
        (FRONT.format("gemma", "null"), ("gemma", "gemma", None)),
        ("---\nlicense: [\n---\n", (None, None, None)),
        ("---\n- a\n- b\n---\n", (None, None, None)),
        ("# no front matter\n", (None, None, None)),
        (None, (None, None, None)),
    ],
)
def test_a_licence_is_read_from_the_checkpoints_own_card(
    card: str | None, expected: tuple[Any, ...], tmp_path: Path
) -> None:
    if card is not None:
        (tmp_path / "README.md").write_text(card, encoding="utf-8")
    found = licence_of(str(tmp_path))
    assert (found.name, found.identifier, found.commercial) == expected
    assert (found.finding is None) == (expected[2] is not False)


def test_a_name_that_is_only_similar_has_no_licence() -> None:
    assert licence_of("someone/kogpt2-base-v2-tuned") == Licence(hub="someone/kogpt2-base-v2-tuned")
    assert licence_of("skt/kogpt2-base-v2").commercial is False
