"""Rows in Arrow files: the same objects come back, one at a time, and nothing is copied."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from kft.data import table as of_table
from kft.data.table import Chosen, Table, are_set, choose, lengths, write_table
from kft.tasks.task import Example, Record

RECORDS = [
    Record("a.jsonl:1", text="봄이 왔다\0\n"),
    Record(
        "a.jsonl:2",
        messages=(
            {"role": "user", "content": "안녕", "input": ""},
            {"role": "assistant", "content": "반가워 🙂"},
        ),
        label=3,
    ),
    Record("a.jsonl:3", text="", tokens=("나", " ", ""), tags=("B-PS", "O", "O")),
    Record("a.jsonl:4", text="나", text_pair="너", value=0.1, label_ids=()),
    Record("a.jsonl:5", text="나", label_ids=(0, 2), label=0),
]
EXAMPLES = [
    Example([5, 6, 7], [-100, 6, 7], "a:1", "둘"),
    Example([9], [9], "a:2", "", was_truncated=True, end_is_target=False, label=0),
    Example([1, 2], [1, 2], "a:3", "x", token_type_ids=[0, 1], prompt_length=1, value=-1.5),
    Example([1, 2], [1, 2], "a:4", "x", label_ids=[], word_ids=[-1, 0]),
]


@pytest.mark.parametrize("rows", [RECORDS, EXAMPLES], ids=["records", "examples"])
@pytest.mark.parametrize("chunk", [1, 2, 100])
def test_the_same_rows_come_back(
    rows: list[Record] | list[Example], chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_table, "_CHUNK_ROWS", chunk)
    kind = type(rows[0])
    path = tmp_path / "rows.arrow"
    assert write_table(path, iter(rows), kind) == len(rows)
    table = Table(path, kind)
    assert list(table) == rows
    assert [table[row] for row in range(-len(rows), 0)] == rows
    assert list(table[1:3]) == rows[1:3]
    assert list(pickle.loads(pickle.dumps(table))) == rows  # noqa: S301 - its own
    with pytest.raises(IndexError):
        table[len(rows)]


def test_columns_are_known_without_reading_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.arrow"
    write_table(path, EXAMPLES, Example)
    table = Table(path, Example)
    reordered = Chosen(Chosen(table, np.array([3, 2, 0])), np.array([2, 1]))  # rows 0 and 2
    assert list(reordered) == [EXAMPLES[0], EXAMPLES[2]]
    for rows, expected in (
        (table, [3, 1, 2, 2]),
        (EXAMPLES, [3, 1, 2, 2]),
        (reordered, [3, 2]),
    ):
        assert lengths(rows).tolist() == expected
    assert are_set(table, "label").tolist() == [False, True, False, False]
    assert are_set(EXAMPLES, "label").tolist() == [False, True, False, False]
    assert are_set(reordered, "prompt_length").tolist() == [False, True]
    assert lengths(table, "word_ids").tolist() == [0, 0, 0, 2]
    ((numbers, begins),) = table.lists("labels")
    assert numbers.tolist() == [-100, 6, 7, 9, 1, 2, 1, 2]
    assert begins.tolist() == [0, 3, 4, 6, 8]


def test_a_list_stays_a_list() -> None:
    assert choose(RECORDS, np.array([4, 4, 0])) == [RECORDS[4], RECORDS[4], RECORDS[0]]


def test_no_rows_are_a_table_too(tmp_path: Path) -> None:
    assert write_table(tmp_path / "rows.arrow", [], Example) == 0
    table = Table(tmp_path / "rows.arrow", Example)
    assert (len(table), list(table), lengths(table).tolist()) == (0, [], [])


def test_a_place_whose_name_is_no_text_is_kept_readable(tmp_path: Path) -> None:
    write_table(tmp_path / "rows.arrow", [Record("\udcb0\udca1.csv:2", text="나")], Record)
    assert Table(tmp_path / "rows.arrow", Record)[0] == Record("??.csv:2", text="나")


def test_a_field_without_a_column_is_refused(tmp_path: Path) -> None:
    @dataclass
    class Nested:
        deep: dict[str, int]

    with pytest.raises(TypeError, match="no column can hold"):
        write_table(tmp_path / "rows.arrow", [Nested({})], Nested)


def test_datasets_reads_the_file(tmp_path: Path) -> None:
    import datasets

    write_table(tmp_path / "rows.arrow", EXAMPLES, Example)
    dataset = datasets.Dataset.from_file(str(tmp_path / "rows.arrow"))
    assert dataset["input_ids"][:] == [example.input_ids for example in EXAMPLES]
    write_table(tmp_path / "records.arrow", RECORDS, Record)
    row = datasets.Dataset.from_file(str(tmp_path / "records.arrow"))[1]
    assert row["messages"][1] == {"role": "assistant", "content": "반가워 🙂", "input": None}


def test_a_large_file_takes_no_memory_of_its_own(tmp_path: Path) -> None:
    example = Example(list(range(1000)), list(range(1000)), "a:1", "나" * 1000)
    path = tmp_path / "rows.arrow"
    write_table(path, (example for _ in range(10_000)), Example)
    before = anonymous_bytes()
    table = Table(path, Example)
    assert lengths(table).sum() == 10_000_000
    assert sum(table[row].num_targets for row in range(0, 10_000, 100)) == 99_900
    assert path.stat().st_size > 100e6
    assert anonymous_bytes() - before < 20e6


def anonymous_bytes() -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (found,) = [line.split()[1] for line in lines if line.startswith("RssAnon")]
    return 1024 * int(found)
