"""ONNX: what is written says what the model says, in any number of rows and tokens."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import kft
from kft.cli.main import run_words
from kft.errors import ExportError

if TYPE_CHECKING:
    from conftest import RecipeFile

WORDS = ["서울의", "가을은", "하늘이", "높고", "바람이", "선선하다"]
PAIRS = [
    {"sentence1": " ".join(WORDS[at % 6 :]), "sentence2": WORDS[at % 5],
     "label": ["네", "아니요"][at % 2]}
    for at in range(30)
]  # fmt: skip
COLUMNS = {"text": "sentence1", "text_pair": "sentence2", "label": "label"}
TAGGED = [{"tokens": WORDS[at % 3 :], "tags": ["B-LC", "O", "O", "O", "B-TI", "O"][at % 3 :]}
          for at in range(30)]  # fmt: skip
TEXTS = [{"text": " ".join(WORDS[at % 3 :])} for at in range(30)]
PROMPTS = [{"prompt": WORDS[at % 6], "completion": WORDS[at % 5]} for at in range(30)]


def start(
    task: str, rows: list[Any], checkpoint: Path, recipe_file: RecipeFile, **keys: Any
) -> kft.Run:
    more = {"task": task, "train.max_steps": 3, "data.max_length": 48, **keys}
    return kft.finetune(recipe_file(checkpoint, rows, more))


@pytest.mark.slow
def test_a_pair_classifier_is_written_and_a_changed_one_refused(
    tiny_bert: Path, recipe_file: RecipeFile, capsys: pytest.CaptureFixture[str]
) -> None:
    import onnxruntime
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from kft.api.export import _load
    from kft.export.onnx_file import open_onnx, verify_onnx

    run = start("sequence_classification", PAIRS, tiny_bert, recipe_file, **{
        "data.format": "pairs", "data.columns": COLUMNS,
    })  # fmt: skip
    assert run_words(["export", str(run.folder), "--format", "onnx", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    folder = run.folder / "onnx"
    assert told["folder"] == str(folder)
    numbers = told["verification"]
    assert numbers == json.loads((folder / "verification.json").read_text(encoding="utf-8"))
    assert numbers["passed"]
    assert numbers["max_logit_difference"] < 1e-4
    assert numbers["num_rows"] == 15
    assert not (run.folder / "onnx.part").exists()

    # Rows and tokens of other numbers than those that were traced, through onnxruntime alone.
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    merged = AutoModelForSequenceClassification.from_pretrained(run.folder / "merged").eval()
    for texts in (["하늘이 높다"], ["가을", "서울의 가을은 하늘이 높고", "바람"] * 4):
        inputs = tokenizer(texts, padding=True, return_tensors="pt")
        found = session.run(None, {name: value.numpy() for name, value in inputs.items()})[0]
        with torch.no_grad():
            wanted = merged(**inputs).logits
        assert float((wanted - torch.from_numpy(found)).abs().max()) < 1e-4

    # The code in its card runs as it stands.
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "library_name: onnx" in card
    assert "onnxruntime against torch" in card
    code = re.search(r"```python\n(.*?)```", card, re.DOTALL)
    assert code is not None
    import contextlib

    with contextlib.chdir(folder):
        exec(code[1], {})  # noqa: S102 -- the code that people are told to run
    assert capsys.readouterr().out.startswith("(1, 2) {0: '네', 1: '아니요'}")

    # A planted fault: one weight of the model isn't what was written.
    source = _load(run.folder, run.recipe)
    with torch.no_grad():
        source.model.classifier.weight[0, 0] += 0.5
    graph = open_onnx(folder / "model.onnx", source.model.config, onnxruntime)
    with pytest.raises(ExportError, match="doesn't agree with the one it was made from"):
        verify_onnx(source.model, graph, source.batches, source.task.logit_rows)
    # And one that shows only where rows are padded: the mask is not looked at.
    source = _load(run.folder, run.recipe)
    graph.names = [name for name in graph.names if name != "attention_mask"]
    ask = graph.session.run
    blind = type("Session", (), {})()
    blind.run = lambda names, given: ask(
        names, {**given, "attention_mask": 1 + 0 * given["input_ids"]}
    )
    graph.session = blind
    with pytest.raises(ExportError, match="where rows are padded"):
        verify_onnx(source.model, graph, source.batches, source.task.logit_rows)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny_bert", "tiny_roberta", "tiny_electra"])
@pytest.mark.parametrize(("task", "rows"), [("token_classification", TAGGED), ("masked_lm", TEXTS)])
def test_other_tasks_and_encoders(
    task: str, rows: list[Any], name: str, recipe_file: RecipeFile, request: Any
) -> None:
    from kft.api.export import export

    checkpoint = request.getfixturevalue(name)
    form = {"data.format": "tokens" if task == "token_classification" else "text"}
    run = start(task, rows, checkpoint, recipe_file, **form)
    folder, numbers = export(str(run.folder), to="onnx")
    assert numbers["passed"]
    assert numbers["max_logit_difference"] < 1e-4
    assert (folder / "model.onnx").stat().st_size > 10_000


def test_what_cannot_be_written_is_refused(
    tiny_gpt: Path,
    recipe_file: RecipeFile,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = start("causal_lm", PROMPTS, tiny_gpt, recipe_file, **{"export.merge": False})
    words = ["export", str(run.folder), "--format", "onnx"]
    assert run_words(words) == 2
    assert "isn't written as ONNX" in capsys.readouterr().err
    rows = [{"text": row["prompt"], "label": "ab"[at % 2]} for at, row in enumerate(PROMPTS)]
    keys = {"export.merge": False, "output_dir": str(run.folder) + "-2"}
    other = start("sequence_classification", rows, tiny_gpt, recipe_file, **keys)
    words = ["export", str(other.folder), "--format", "onnx"]
    assert run_words(words) == 2
    assert "The run has no merged model yet" in capsys.readouterr().err
    assert run_words(["merge", str(other.folder)]) == 0
    assert run_words(words) == 2
    assert "is no encoder" in capsys.readouterr().err
    assert run_words([*words, "--format", "tflite"]) == 2
    assert "expected: one of `gguf`, `onnx`" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert run_words(words) == 2
    assert "hint: `pip install 'kft[onnx]'`" in capsys.readouterr().err
    assert not (other.folder / "onnx").exists()
