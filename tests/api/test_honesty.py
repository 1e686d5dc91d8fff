"""What must not flatter a model: copies in the held-out rows, other labels, changed files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import kft
from kft.api.evaluate import evaluate
from kft.errors import DataError

if TYPE_CHECKING:
    from conftest import RecipeFile, WriteJsonl

FAST = {"export.merge": False, "train.max_steps": 2}


def labelled(words: list[str]) -> list[dict[str, Any]]:
    return [{"text": f"{word} {n}", "label": word[:2]} for n in range(8) for word in words]


def test_copies_among_the_held_out_rows_are_told(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: list[dict[str, str]]
) -> None:
    copied = korean_rows[:12] * 4
    check = kft.check(recipe_file(tiny_gpt, copied))
    assert any("also stand in the training rows" in str(found) for found in check.findings)
    clean = kft.check(recipe_file(tiny_gpt, korean_rows))
    assert clean.findings == []


@pytest.mark.parametrize("copies", [0, 1, 12])
def test_a_run_that_was_measured_on_training_rows_says_so(
    copies: int,
    tiny_gpt: Path,
    recipe_file: RecipeFile,
    write_jsonl: WriteJsonl,
    korean_rows: list[dict[str, str]],
    tmp_path: Path,
) -> None:
    apart = write_jsonl(tmp_path / "apart.jsonl", [*korean_rows[:copies], *korean_rows[12:]])
    keys = FAST | {"data.eval": str(apart)}
    run = kft.finetune(recipe_file(tiny_gpt, korean_rows[:12], keys))
    assert run.result["leaked_rows"] == copies
    stand = {0: "", 1: "1 of them stands in", 12: "12 of them stand in"}[copies]
    sentence = run.result["headline"]["sentence"]
    assert (stand in sentence) if copies else ("training rows" not in sentence)
    report = (run.folder / "report.html").read_text(encoding="utf-8")
    assert ("rows that were not trained on" in report) is (copies == 0)
    assert (f"{copies} of the held-out rows also stand" in report) is (copies > 0)
    assert ('class="answer good"' in report) <= (copies == 0)
    told: list[Any] = []
    evaluate([str(run.folder)], on_finding=told.append)
    assert [one.count for one in told] == ([copies] if copies else [])


def test_a_learning_rate_beyond_all_use_is_told(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: list[dict[str, str]]
) -> None:
    for rate, is_told in ((5.0, True), (2e-3, False)):
        check = kft.check(recipe_file(tiny_gpt, korean_rows, {"train.learning_rate": rate}))
        told = [str(one) for one in check.findings if "moves every weight" in one.what]
        assert len(told) == is_told
        assert check.as_dict()["ready"] is True


def test_rows_that_a_run_was_trained_on_are_told_when_it_is_measured_on_them(
    tiny_gpt: Path,
    recipe_file: RecipeFile,
    write_jsonl: WriteJsonl,
    korean_rows: list[dict[str, str]],
    tmp_path: Path,
) -> None:
    keys = {"data.eval_fraction": 0, "data.on_too_long": "drop", "data.max_length": 128}
    run = kft.finetune(recipe_file(tiny_gpt, korean_rows[:12], FAST | keys))

    def told(rows: list[dict[str, str]]) -> list[Any]:
        given, found = write_jsonl(tmp_path / "given.jsonl", rows), list[Any]()
        evaluate([str(run.folder)], data=str(given), on_finding=found.append)
        return found

    again = [{**row, "prompt": f" {row['prompt']}  "} for row in korean_rows[9:]]
    (warning,) = told(again)
    assert warning.severity == "warning"
    assert warning.what.startswith(f"Rows also stand in what `{run.folder}` was trained on")
    assert warning.count == 3
    assert warning.where.endswith("given.jsonl:1")
    assert told(korean_rows[12:]) == []
    long = [{"prompt": "봄 " * 90, "completion": "네"}] * 2
    empty, too_long = told([{"prompt": "봄", "completion": ""}, *long, *korean_rows[12:]])
    assert (empty.severity, empty.count) == ("note", 1)
    assert empty.what.startswith("Rows left out: ")
    assert (too_long.what, too_long.count) == ("Rows left out: longer than 128 tokens", 2)
    write_jsonl(tmp_path / "recipe.jsonl", korean_rows)  # what it was trained on isn't known now
    (note,) = told(again)
    assert "has gone or changed" in note.what


def test_another_run_s_training_rows_are_told_among_one_s_held_out_rows(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: list[dict[str, str]], tmp_path: Path
) -> None:
    path = recipe_file(tiny_gpt, korean_rows, FAST | {"data.eval_fraction": 0.5})
    one = kft.finetune(path)
    other = kft.finetune(path, {"train.seed": 5, "output_dir": str(tmp_path / "other")})
    found: list[Any] = []
    evaluate([str(one.folder), str(other.folder)], on_finding=found.append)
    (warning,) = found
    assert f"what `{other.folder}` was trained on" in warning.what
    assert 0 < warning.count < 12
    adapter: list[Any] = []
    evaluate([str(one.folder), str(other.folder / "adapter")], on_finding=adapter.append)
    assert [one.count for one in adapter] == [warning.count]


def test_few_held_out_rows_give_no_interval(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: list[dict[str, str]]
) -> None:
    run = kft.finetune(recipe_file(tiny_gpt, korean_rows, FAST | {"data.eval_fraction": 0.25}))
    assert run.result["intervals"] == {}
    assert "Only 6 rows held out" in run.result["findings"][0]


def test_another_file_is_scored_with_the_run_s_labels(
    tiny_gpt: Path, recipe_file: RecipeFile, write_jsonl: WriteJsonl, tmp_path: Path
) -> None:
    run = kft.finetune(recipe_file(tiny_gpt, labelled(["좋다 하", "싫다 저"]), FAST))
    assert run.recipe.data.labels == ["싫다", "좋다"]
    only = write_jsonl(tmp_path / "only.jsonl", labelled(["좋다 하"]))
    numbers = run.evaluate(str(only))
    assert numbers["label_counts"] == [0, 8]
    with pytest.raises(DataError):
        run.evaluate(str(write_jsonl(tmp_path / "new.jsonl", labelled(["글쎄 음"]))))


def test_held_out_rows_of_another_layout_are_refused(
    tiny_gpt: Path,
    recipe_file: RecipeFile,
    write_jsonl: WriteJsonl,
    korean_rows: list[dict[str, str]],
    tmp_path: Path,
) -> None:
    other = write_jsonl(tmp_path / "other.jsonl", korean_rows)
    path = recipe_file(tiny_gpt, labelled(["좋다 하", "싫다 저"]), {"data.eval": str(other)})
    with pytest.raises(DataError):
        kft.finetune(path)
    assert not (tmp_path / "run").exists()


def test_a_changed_file_is_not_evaluated_on(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: list[dict[str, str]], tmp_path: Path
) -> None:
    run = kft.finetune(recipe_file(tiny_gpt, korean_rows, FAST))
    before = run.evaluate()
    assert before["eval_loss"] == pytest.approx(run.result["tuned"]["eval_loss"])
    rows = tmp_path / "recipe.jsonl"
    lines = rows.read_text(encoding="utf-8").splitlines()
    rows.write_text("\n".join(lines[:-1]) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match="data has changed"):
        evaluate([str(run.folder)])


def test_a_run_can_be_used_from_another_folder(
    tiny_gpt: Path,
    recipe_file: RecipeFile,
    korean_rows: list[dict[str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tiny_gpt.parent)
    path = recipe_file(tiny_gpt.name, korean_rows, FAST | {"train.save_steps": 1})
    run = kft.finetune(path)
    monkeypatch.chdir(tmp_path)
    assert isinstance(run.generate("서울", max_new_tokens=2), str)
    assert run.merge().is_dir()
    again = kft.finetune(run.folder / "recipe.yaml", {"train.max_steps": 3}, resume=True)
    assert again.metrics["step"].tolist() == [1, 2, 3]
