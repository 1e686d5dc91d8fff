"""Whole runs of every task on tiny encoders: what is learned, saved, merged, verified, used."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

import kft
from kft.api.evaluate import evaluate
from kft.errors import UsageError

if TYPE_CHECKING:
    from conftest import RecipeFile

WORDS = ["서울의", "가을은", "하늘이", "높고", "바람이", "선선하다"]
KEYS = {"train.max_steps": 8, "data.eval_fraction": 0.4, "data.max_length": 48}
SLOW = pytest.mark.slow


def labelled() -> list[dict[str, Any]]:
    """The label is whether the row says 좋아요 or 싫어요."""
    said = ["좋아요", "싫어요"]
    return [
        {"text": f"{WORDS[at // 2 % 6]} {said[at % 2]} {WORDS[at // 3 % 6]}", "label": said[at % 2]}
        for at in range(30)
    ]


def scored() -> list[dict[str, Any]]:
    return [
        {
            "sentence1": " ".join(WORDS[: 1 + at % 6]),
            "sentence2": WORDS[at * 5 % 6],
            "score": 0.5 * (at % 6),
        }
        for at in range(30)
    ]


def tagged() -> list[dict[str, Any]]:
    tags = ["B-LC", "O", "O", "O", "B-TI", "I-TI"]
    return [{"tokens": WORDS[at % 3 :], "tags": tags[at % 3 :]} for at in range(30)]


def texts() -> list[dict[str, Any]]:
    return [{"text": " ".join(WORDS[at % 4 :] + WORDS[: at % 5])} for at in range(30)]


def chats() -> list[dict[str, Any]]:
    return [
        {"prompt": " ".join(WORDS[at % 4 : at % 4 + 2]), "completion": WORDS[at * 5 % 6]}
        for at in range(30)
    ]


CASES: dict[str, tuple[Callable[[], list[dict[str, Any]]], dict[str, Any]]] = {
    "sequence_classification": (labelled, {"data.format": "classification"}),
    "sequence_regression": (
        scored,
        {
            "data.format": "pairs",
            "data.columns": {"text": "sentence1", "text_pair": "sentence2", "label": "score"},
        },
    ),
    "token_classification": (tagged, {"data.format": "tokens"}),
    "masked_lm": (texts, {"data.format": "text"}),
    "causal": (chats, {}),
    "prefix": (chats, {"model.attention": "prefix"}),
}


def start(kind: str, checkpoint: Path, recipe_file: RecipeFile, more: dict[str, Any]) -> kft.Run:
    rows, keys = CASES[kind]
    name = "causal_lm" if kind in ("causal", "prefix") else kind
    return kft.finetune(recipe_file(checkpoint, rows(), {"task": name, **KEYS, **keys, **more}))


QUICK = {"sequence_classification": "qlora", "prefix": "lora", "masked_lm": "full"}
RUNS = [
    pytest.param(kind, method, marks=() if QUICK.get(kind, "lora") == method else SLOW)
    for kind in CASES
    for method in ("lora", "qlora", "full")
]


@pytest.mark.parametrize(("kind", "method"), RUNS)
def test_a_run_learns_and_what_it_leaves_is_verified(
    kind: str, method: str, tiny_bert: Path, recipe_file: RecipeFile
) -> None:
    run = start(kind, tiny_bert, recipe_file, {"adapter.method": method})
    result = run.result
    assert result["tuned"]["eval_loss"] < result["base"]["eval_loss"]
    assert result["verification"]["passed"]
    assert result["verification"]["top1_agreement"] == 1.0
    folder = run.folder / ("model" if method == "full" else "merged")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"][0].startswith("Bert")
    assert ("kft_attention" in config) == (kind == "prefix")
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert ("**A prefix model**" in card) == (kind == "prefix")
    again = run.evaluate()
    assert again["eval_loss"] == pytest.approx(result["tuned"]["eval_loss"], rel=1e-3)
    written = yaml.safe_load((run.folder / "recipe.yaml").read_text(encoding="utf-8"))
    if kind == "sequence_classification":
        assert written["data"]["labels"] == ["싫어요", "좋아요"]
        assert config["id2label"] == {"0": "싫어요", "1": "좋아요"}
        assert config["problem_type"] == "single_label_classification"
    if kind in ("causal", "prefix"):
        prompts = ["서울의 가을은", "하늘이"]
        from kft.api.generate import open_chat

        turns = [[{"role": "user", "content": prompt}] for prompt in prompts]
        assert open_chat(str(folder)).answers(turns, 8) == run.generate(prompts, max_new_tokens=8)


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=() if kind in ("causal", "masked_lm") else SLOW) for kind in CASES],
)
def test_in_bfloat16_a_run_learns_what_it_learns_in_float32(
    kind: str, tiny_bert: Path, recipe_file: RecipeFile, tmp_path: Path
) -> None:
    runs = [
        start(kind, tiny_bert, recipe_file,
              {"train.precision": name, "output_dir": str(tmp_path / name)})
        for name in ("float32", "bfloat16")
    ]  # fmt: skip
    whole, half = (run.metrics["loss"].dropna().tolist() for run in runs)
    assert len(half) == KEYS["train.max_steps"]
    assert half == pytest.approx(whole, rel=0.06)
    whole, half = (run.result["tuned"]["eval_loss"] for run in runs)
    assert half == pytest.approx(whole, rel=0.06)
    assert runs[1].result["verification"]["passed"]


@pytest.mark.parametrize("kind", ["sequence_classification", "sequence_regression"])
def test_a_gpt_classifies_and_scores(kind: str, tiny_gpt: Path, recipe_file: RecipeFile) -> None:
    run = start(kind, tiny_gpt, recipe_file, {"data.max_length": 128})
    assert run.result["tuned"]["eval_loss"] < run.result["base"]["eval_loss"]
    assert run.result["verification"]["passed"]


def test_a_new_head_is_told_and_its_numbers_are_the_tasks_own(
    tiny_bert: Path, recipe_file: RecipeFile
) -> None:
    run = start("sequence_classification", tiny_bert, recipe_file, {"train.max_steps": 60})
    tuned = run.result["tuned"]
    assert tuned["accuracy"] > 0.8
    assert {"macro_f1", "majority_accuracy", "num_rows"} <= set(tuned)
    assert {"eval_loss", "accuracy"} <= set(run.result["intervals"])
    assert run.result["samples"] == []
    lines = (run.folder / "held_out.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    right = sum(row["label"] == row["tuned_label"] for row in rows)
    assert right / len(rows) == pytest.approx(tuned["accuracy"])
    merged = str(run.folder / "merged")
    again = evaluate([str(run.folder), merged])
    against = again[merged].pop("against")  # the very same answers, row by row
    assert against["differences"]["accuracy"]["difference"] == 0
    assert again[merged] == again[str(run.folder)] | {"eval_loss": again[merged]["eval_loss"]}
    assert again[merged]["accuracy"] == tuned["accuracy"]
    from kft.api.generate import open_chat

    with pytest.raises(UsageError, match="writes no text"):
        open_chat(str(run.folder))


def test_hidden_words_are_the_same_when_a_run_goes_on(
    tiny_bert: Path, recipe_file: RecipeFile, tmp_path: Path
) -> None:
    keys = {"train.save_steps": 2, "export.merge": False, "train.max_steps": 4}
    whole = start("masked_lm", tiny_bert, recipe_file, keys)
    # The same run, stopped after two of its four steps.
    path = tmp_path / "recipe.yaml"
    folder = tmp_path / "halves"
    for stats in kft.steps(path, {"output_dir": str(folder)}):
        if stats.step == 2:
            break
    halves = kft.finetune(path, {"output_dir": str(folder)}, resume=True)
    assert halves.metrics["loss"].tolist() == whole.metrics["loss"].tolist()


PIPELINES = """
import json, sys
from transformers import pipeline
every = {"ignore_labels": []} if sys.argv[1] == "token-classification" else {}
ask = pipeline(sys.argv[1], model=sys.argv[2], **every)
print(json.dumps(ask(sys.argv[3]), ensure_ascii=False, default=float))
assert "kft" not in sys.modules
"""


@pytest.mark.parametrize(
    ("kind", "pipeline", "asked"),
    [
        pytest.param(
            "sequence_classification", "text-classification", "가을은 좋아요 하늘이", marks=SLOW
        ),
        pytest.param("token_classification", "token-classification", "서울의 가을은", marks=SLOW),
        pytest.param("masked_lm", "fill-mask", "서울의 [MASK] 하늘이", marks=SLOW),
    ],
)
def test_the_merged_folder_works_in_a_pipeline_without_kft(
    kind: str, pipeline: str, asked: str, tiny_bert: Path, recipe_file: RecipeFile
) -> None:
    run = start(kind, tiny_bert, recipe_file, {"train.max_steps": 30})
    command = [sys.executable, "-c", PIPELINES, pipeline, str(run.folder / "merged"), asked]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    said = json.loads(done.stdout.strip().splitlines()[-1])
    if kind == "sequence_classification":
        with torch.no_grad():
            logits = run.model.eval()(**run.tokenizer(asked, return_tensors="pt")).logits
        share, label = logits[0].softmax(-1).max(-1)
        assert said[0]["label"] == ("싫어요", "좋아요")[int(label)]
        assert said[0]["score"] == pytest.approx(float(share), abs=1e-4)
    elif kind == "token_classification":
        with torch.no_grad():
            logits = run.model.eval()(**run.tokenizer(asked, return_tensors="pt")).logits
        names = run.model.config.id2label
        expected = [names[int(label)] for label in logits[0].argmax(-1)][1:-1]  # [CLS] ... [SEP]
        assert [one["entity"] for one in said] == expected
    else:
        assert len(said) == 5


@pytest.mark.parametrize("kind", ["sequence_classification", "prefix"])
def test_a_head_stays_in_float32_on_a_base_in_bfloat16(
    kind: str, tiny_electra: Path, recipe_file: RecipeFile
) -> None:
    keys = {"train.precision": "bfloat16", "model.dtype": "bfloat16", "export.dtype": "float32"}
    run = start(kind, tiny_electra, recipe_file, keys)
    weights = load_file(run.folder / "adapter" / "adapter_model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    assert any("classifier" in name or "generator_predictions" in name for name in weights)
    assert run.result["verification"]["passed"]
    assert run.result["verification"]["limit_logits"] == 1e-3
