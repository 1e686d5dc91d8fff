"""The rows are looked at beside something else: by a thread, by a process, and never for nobody."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kft.api import looking, row_report
from kft.api.looking import looking_beside
from kft.api.records import read_records
from kft.data import few
from kft.recipe.reader import read_recipe
from kft.tasks.task import Record

if TYPE_CHECKING:
    from conftest import RecipeFile


class Endless(list[Record]):
    """Rows without an end."""

    def __iter__(self) -> Iterator[Record]:
        return repeat(Record("rows:1", text="끝없이"))


def test_an_error_ends_the_looking_beside() -> None:
    with contextlib.suppress(KeyError), looking_beside(Endless(), [], []) as looking:
        raise KeyError
    assert "NobodyAsks" in type(looking.exception(timeout=0)).__name__  # no half report is kept


@pytest.fixture
def kept(
    recipe_file: RecipeFile, tiny_gpt: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> tuple[Sequence[Record], Sequence[Record]]:
    """Rows in the cache, few of which are many."""
    monkeypatch.setenv("KFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(few, "FEW_ROWS", 2)
    monkeypatch.setattr(looking, "ENOUGH_ROWS", 2)
    rows = [{"text": f"봄\u200b {number}"} for number in range(9)]
    records = read_records(read_recipe(recipe_file(tiny_gpt, rows, {"data.eval_fraction": 0.3})))
    return records.train, records.held_out


def in_this_process(*_: Any, **__: Any) -> Any:
    raise AssertionError("looked at here")


def test_many_rows_are_looked_at_by_another_process(
    kept: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = row_report.report_on_rows
    monkeypatch.setattr(row_report, "report_on_rows", in_this_process)
    with looking_beside(*kept, []) as looked:
        report, told = looked.result()
    train, held_out = kept
    assert told == ()
    assert report == here(
        train,
        held_out,
        train_place=lambda row: train[row].place,
        held_out_place=lambda row: held_out[row].place,
    )


def test_no_module_beside_the_data_is_run(
    kept: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = "import pathlib; pathlib.Path(__file__).with_name('ran').touch()"
    for name in ("numpy", "pyarrow", "pickle"):
        (tmp_path / f"{name}.py").write_text(planted, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setattr(row_report, "report_on_rows", in_this_process)
    with looking_beside(*kept, []) as looked:
        assert looked.result()[0].findings
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("child", ["raise SystemExit(1)", "import os; os.kill(os.getpid(), 9)"])
def test_what_fails_there_is_done_here(
    child: str, kept: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "_CHILD", child)
    with looking_beside(*kept, []) as looked:
        assert looked.result()[0].findings


def test_no_python_to_start(kept: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking.sys, "executable", "/nowhere/python")
    with looking_beside(*kept, []) as looked:
        assert looked.result()[0].findings


def test_an_error_ends_the_other_process(kept: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "_CHILD", "import time; time.sleep(600)")
    began = time.monotonic()
    with contextlib.suppress(KeyError), looking_beside(*kept, []) as looked:
        raise KeyError
    assert "NobodyAsks" in type(looked.exception(timeout=0)).__name__
    assert time.monotonic() - began < 60
