"""Sources with weights, their paths, and labels that are no single answer."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from kft.api.paths import with_absolute_paths, with_home
from kft.api.records import read_records
from kft.errors import DataError
from kft.recipe.schema import Recipe
from kft.recipe.section import SourceSection


def recipe(**data: Any) -> Recipe:
    values = {"model": {"name_or_path": "m"}, "data": data, "output_dir": "o"}
    return Recipe.model_validate(values)


def rows(path: Path, count: int) -> str:
    lines = (f'{{"text": "{path.stem} {number}"}}\n' for number in range(count))
    path.write_text("".join(lines), encoding="utf-8")
    return str(path)


def test_training_rows_are_used_as_often_as_their_weight_says(tmp_path: Path) -> None:
    train = [
        rows(tmp_path / "once.jsonl", 10),
        {"path": rows(tmp_path / "thrice.jsonl", 10), "weight": 3},
        {"path": rows(tmp_path / "half.jsonl", 10), "weight": 0.5},
    ]
    records = read_records(recipe(train=train, eval_fraction=0))
    uses = Counter(Path(record.place).name.partition(".")[0] for record in records.train)
    assert uses == {"once": 10, "thrice": 30, "half": 5}
    assert (records.num_rows, len(records.files_sha256)) == (30, 3)


def test_held_out_rows_stay_single_and_apart(tmp_path: Path) -> None:
    train = {"path": rows(tmp_path / "a.jsonl", 20), "weight": 2}
    records = read_records(recipe(train=train, eval_fraction=0.25))
    held_out = [record.place for record in records.held_out]
    assert (len(held_out), len(set(held_out)), len(records.train)) == (5, 5, 30)
    assert not set(held_out) & {record.place for record in records.train}


def test_weights_that_leave_nothing(tmp_path: Path) -> None:
    train = {"path": rows(tmp_path / "a.jsonl", 3), "weight": 0.1}
    with pytest.raises(DataError, match="The weights leave no row"):
        read_records(recipe(train=train, eval_fraction=0))


def test_several_labels_are_no_single_answer(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"text": "가", "labels": ["욕설", "혐오"]}\n{"text": "나", "labels": ["혐오"]}\n',
        encoding="utf-8",
    )
    records = read_records(recipe(train=str(path), eval_fraction=0))
    assert records.labels == []
    assert [record.label_ids for record in records.train] == [(0, 1), (1,)]


def test_paths_inside_of_mappings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/ko")
    rows(tmp_path / "a.jsonl", 1)
    train = [{"path": "a.jsonl", "weight": 2}, {"path": "klue/klue", "config": "nli"}, "a.jsonl"]
    data = with_absolute_paths(recipe(train=train)).data
    assert data.train == [
        SourceSection(path=str(tmp_path / "a.jsonl"), weight=2),
        SourceSection(path="klue/klue", config="nli"),
        str(tmp_path / "a.jsonl"),
    ]
    data = with_home(recipe(train={"path": "~/a.jsonl", "weight": 2})).data
    assert data.train == SourceSection(path="/home/ko/a.jsonl", weight=2)
