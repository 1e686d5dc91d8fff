"""Reports of real runs: one page for each kind of task, and a comparison of two."""

from __future__ import annotations

import json
from contextlib import chdir
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import kft
from kft.api.held_out_rows import metrics_of, predictions, read_rows, tuned_inputs
from kft.api.report import report
from kft.cli.main import run_words
from kft.errors import ExportError, UsageError
from kft.evaluation.inputs import statistics
from kft.evaluation.metrics.statistic import value
from kft.models.generation import Answer
from kft.reporting.views import LabelView, NumberView

if TYPE_CHECKING:
    from conftest import RecipeFile

KEYS = {
    "train.max_steps": 4,
    "data.eval_fraction": 0.4,
    "data.max_length": 48,
    "export.merge": False,
}
WORDS = ["서울의", "가을은", "하늘이", "높고", "바람이", "선선하다"]
TAGS = ["B-LC", "O", "O", "O", "B-TI", "I-TI"]
ROWS: dict[str, list[dict[str, Any]]] = {
    "sequence_classification": [
        {"text": f"{WORDS[at % 6]} {WORDS[at % 5]}", "label": ["좋아요", "싫어요"][at % 2]}
        for at in range(40)
    ],
    "several labels": [
        {"text": WORDS[at % 6], "욕설": at % 2, "차별": at % 3 % 2} for at in range(40)
    ],
    "sequence_regression": [
        {"sentence1": WORDS[at % 6], "sentence2": WORDS[at % 5], "score": at % 6 / 2}
        for at in range(40)
    ],
    "token_classification": [
        {"tokens": WORDS[at % 3 :], "tags": TAGS[at % 3 :]} for at in range(40)
    ],
}
MORE: dict[str, dict[str, Any]] = {
    "several labels": {
        "data.format": "classification", "data.columns": {"label": ["욕설", "차별"]},
    },
    "sequence_regression": {
        "data.format": "pairs",
        "data.columns": {"text": "sentence1", "text_pair": "sentence2", "label": "score"},
    },
}  # fmt: skip


def start(kind: str, checkpoint: Path, recipe_file: RecipeFile, **keys: Any) -> kft.Run:
    task = "sequence_classification" if kind == "several labels" else kind
    return kft.finetune(
        recipe_file(checkpoint, ROWS[kind], {"task": task, **KEYS, **MORE.get(kind, {}), **keys})
    )


@pytest.mark.parametrize("kind", ROWS)
def test_a_page_shows_what_each_task_gets_right(
    kind: str, tiny_bert: Path, recipe_file: RecipeFile
) -> None:
    run = start(kind, tiny_bert, recipe_file)
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    tuned = run.result["tuned"]
    lines = read_rows(run.folder)
    view = predictions(lines, run.recipe.data.labels)
    # The rows that are kept say the same as the run did.
    inputs = tuned_inputs(lines, run.recipe.data.labels)
    found = {name: value(one) for name, one in statistics(metrics_of(inputs), inputs).items()}
    shared = [name for name in found if name in tuned and tuned[name] is not None]
    assert len(shared) >= 2
    assert {name: found[name] for name in shared} == pytest.approx(
        {name: tuned[name] for name in shared}, abs=1e-6
    )
    if kind == "sequence_regression":
        assert isinstance(view, NumberView)
        assert "R² " in page
        assert "제곱 오차" in page
        return
    assert isinstance(view, LabelView)
    names = [row.name for row in view.rows]
    assert all(name in page for name in names)
    assert view.are_entities == (kind == "token_classification")
    if kind == "sequence_classification":
        assert view.confusion is not None
        right = sum(view.confusion[at][at] for at in range(2))
        assert right / len(lines) == pytest.approx(tuned["accuracy"])
        assert run.result["headline"]["metric"] == "accuracy"
    else:
        assert view.confusion is None


def test_several_runs_are_compared_on_the_same_rows(
    tiny_bert: Path, recipe_file: RecipeFile, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = start("sequence_classification", tiny_bert, recipe_file)
    path = tmp_path / "recipe.yaml"
    other = kft.finetune(path, {"adapter.r": 2, "output_dir": str(tmp_path / "other")})
    file = tmp_path / "both.html"
    words = ["report", str(run.folder), str(other.folder), "--output", str(file)]
    assert run_words(words) == 0
    assert capsys.readouterr().out.strip() == str(file)
    page = file.read_text(encoding="utf-8")
    assert "adapter.r" in page
    assert "train.learning_rate" not in page  # equal in both
    assert "Against" in page
    assert "paired on the same 16 rows" in page
    # Without a name of its own a comparison takes none that is taken, and with one only a page's.
    with chdir(tmp_path):
        names = [report([str(run.folder), str(other.folder)]).name for _ in range(3)]
    assert names == ["comparison.html", "comparison-2.html", "comparison-3.html"]
    written = path.read_text(encoding="utf-8")
    assert run_words([*words[:-1], str(path)]) == 2
    assert "holds something that `kft report` has not written" in capsys.readouterr().err
    assert path.read_text(encoding="utf-8") == written
    # Other rows are held out with another seed: then nothing is paired.
    kft.finetune(path, {"train.seed": 7, "output_dir": str(tmp_path / "seed")})
    report([str(run.folder), str(tmp_path / "seed")], output=str(file))
    page = file.read_text(encoding="utf-8")
    assert "Their held-out rows differ" in page
    # Losses of one task share a plot; those of another have a unit of their own.
    assert "· <code>sequence_classification</code>" not in page
    told = {"output_dir": str(tmp_path / "scores")}
    scores = start("sequence_regression", tiny_bert, recipe_file, **told)
    report([str(tmp_path / "other"), str(scores.folder)], output=str(file))
    page = file.read_text(encoding="utf-8")
    assert page.count("· <code>sequence_classification</code>") == 2
    assert page.count("· <code>sequence_regression</code>") == 2


def test_answers_are_scored_and_shown_side_by_side(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: list[dict[str, str]]
) -> None:
    keys = {"evaluate.generate": 2, "evaluate.scored_generations": 10, "evaluate.max_new_tokens": 8}
    run = kft.finetune(recipe_file(tiny_gpt, korean_rows, {**keys, "export.merge": False}))
    result = run.result
    for side in ("base", "tuned"):
        assert result[side]["num_generations"] == 10
        assert result[side]["ended"] + result[side]["length_limit"] == pytest.approx(1)
        assert {"chrf", "rouge_l_eojeol", "repeats"} <= set(result[side])
    assert result["intervals"]["chrf"]["num_rows"] == 10
    assert result["intervals"]["eval_loss"]["num_rows"] == 12
    assert len(result["samples"]) == 2
    assert run.evaluate()["chrf"] == pytest.approx(result["tuned"]["chrf"], abs=1e-6)
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert result["samples"][0]["prompt"] in page
    assert "ROUGE-L" in page


def test_a_metric_of_memory_looks_at_the_training_answers(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: list[dict[str, str]]
) -> None:
    keys = {"evaluate.metrics": ["memorised", "chrf"], "evaluate.scored_generations": 12}
    run = kft.finetune(recipe_file(tiny_gpt, korean_rows, {**keys, "export.merge": False}))
    assert 0 <= run.result["tuned"]["memorised"] <= 1
    assert run.result["headline"]["metric"] == "memorised"
    own = run.evaluate()
    assert own["memorised"] == pytest.approx(run.result["tuned"]["memorised"])


def test_copied_answers_are_counted_unasked_where_the_training_rows_are_known(
    tiny_gpt: Path, recipe_file: RecipeFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that says what it was trained on is told apart from one that knows the answer."""
    rows = [{"prompt": WORDS[at % 6], "completion": f"{WORDS[at % 5]} {at}"} for at in range(20)]
    trained = tmp_path / "trained.jsonl"
    trained.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    apart = [{"prompt": WORDS[at % 6], "completion": f"새 답 {at}"} for at in range(12)]
    copied = [row["completion"] for row in rows[:3]]

    def answers(model: Any, tokenizer: Any, prompts: list[str], **_: Any) -> list[Answer]:
        said = [*copied, "새 답 3", *["아무 말"] * len(prompts)]
        return [Answer(text, ended=True, token_ids=[1]) for text in said[: len(prompts)]]

    monkeypatch.setattr("kft.api.measuring.generate_answers", answers)
    keys = {"data.train": str(trained), "evaluate.scored_generations": 12, "export.merge": False}
    (tmp_path / "apart.jsonl").write_text("\n".join(map(json.dumps, apart)), encoding="utf-8")
    recipe = recipe_file(tiny_gpt, rows, {**keys, "data.eval": str(tmp_path / "apart.jsonl")})
    run = kft.finetune(recipe)
    assert run.result["tuned"]["memorised"] == pytest.approx(3 / 12)
    assert "memorised" not in run.evaluate(str(tmp_path / "apart.jsonl"))


def test_a_model_that_is_refused_has_a_report_too(
    tiny_gpt: Path,
    recipe_file: RecipeFile,
    korean_rows: list[dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: Any) -> None:
        raise ExportError("planted")

    monkeypatch.setattr("kft.api.concluding._export", refuse)
    path = recipe_file(tiny_gpt, korean_rows)
    with pytest.raises(ExportError, match="planted"):
        kft.finetune(path)
    folder = path.parent / "run"
    assert "There is no merged model." in (folder / "report.html").read_text(encoding="utf-8")
    assert json.loads((folder / "result.json").read_text(encoding="utf-8"))["tuned"]


def test_what_is_no_run_has_no_report(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a run folder"):
        report([str(tmp_path)])


def test_a_damaged_result_is_named(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: list[dict[str, str]]
) -> None:
    run = kft.finetune(recipe_file(tiny_gpt, korean_rows, {"export.merge": False}))
    path = run.folder / "result.json"
    path.write_text(path.read_text(encoding="utf-8")[:50], encoding="utf-8")
    for read in (lambda: kft.load_run(run.folder).result, run.report):
        with pytest.raises(UsageError, match=r"`result\.json` is damaged") as caught:
            read()
        assert caught.value.where == str(path)
