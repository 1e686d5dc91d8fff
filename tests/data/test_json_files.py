"""Long json files: decoded through a window, row by row."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kft.data import json_files
from kft.data.rows import read_rows
from kft.errors import DataError

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


def written(folder: Path, name: str, content: str) -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8", newline="")
    return path


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rows=st.lists(st.dictionaries(st.text(max_size=5), values, max_size=3), min_size=1, max_size=4),
    chunk=st.integers(1, 9),
    indent=st.sampled_from([None, 1]),
)
def test_any_window_gives_the_same_rows(
    tmp_path: Path, rows: list[dict[str, Any]], chunk: int, indent: int | None
) -> None:
    # A row of one of these names would be taken apart.
    rows = [{f"k{name}": value for name, value in row.items()} for row in rows]
    array = json.dumps(rows, indent=indent)
    data = json.dumps({"version": [1.5, {}], "data": rows, "더": 12}, indent=indent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_files, "_CHUNK", chunk)
        for content in (array, data):
            read = [row.fields for row in read_rows(written(tmp_path, "a.json", content))]
            assert read == rows


@pytest.mark.parametrize(
    ("content", "where", "words"),
    [
        ('[{"a": 1}, {"b": 2} {"c": 3}]', ":1", "column 21: Expecting ',' or ']'"),
        ('{"data": [{"a": 1}],}', ":1", "column 21: Expecting property name"),
        ('{"data" [{"a": 1}]}', ":1", "column 9: Expecting ':' delimiter"),
        ('{"data": [{"a": 1}] "b": 2}', ":1", "column 21: Expecting ',' or '}'"),
        ('{"data": [{"a": 1}]} x', ":1", "column 22: Extra data"),
        ('[\n{"a": "열린\n글"}]', ":2", "Invalid control character"),
        ('[\n{"a": "열린', ":2", "Unterminated string"),
        ('[{"a": tru}]', ":1", "column 8: Expecting value"),
        ('[{"a": 1}, ' + "[" * 100_000, ":1", "column 12"),
        ('{"rows": [{"a": 1}]}', "", "one value, not rows"),
    ],
)
@pytest.mark.parametrize("chunk", [3, 2**18])
def test_broken_places(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: str,
    where: str,
    words: str,
    chunk: int,
) -> None:
    monkeypatch.setattr(json_files, "_CHUNK", chunk)
    path = written(tmp_path, "a.json", content)
    with pytest.raises(DataError) as caught:
        list(read_rows(path))
    assert caught.value.where == f"{path}{where}"
    assert words in caught.value.what


def test_lines_and_columns_through_a_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = '{"v": "x",\n "data": [{"a": 1}, {"a": 2},\n\n  {"a":\n3}, {}]}'
    path = written(tmp_path, "a.json", content)
    expected = [f"{path}{place}" for place in (":2", ":2:21", ":4", ":5")]
    for chunk in (1, 2, 3, 7, 100):
        monkeypatch.setattr(json_files, "_CHUNK", chunk)
        assert [row.place for row in read_rows(path)] == expected


_PEAK = """
import resource, sys
from pathlib import Path
from kft.data.rows import read_rows
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(sum(1 for _ in read_rows(Path(sys.argv[1]))),
      resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux only")
def test_a_long_line_needs_little_memory(tmp_path: Path) -> None:
    row = json.dumps({"text": "아 더빙.. 진짜 짜증나네요 목소리" * 3}, ensure_ascii=False)
    path = tmp_path / "a.json"
    with path.open("w", encoding="utf-8") as file:
        file.write("[" + row)
        for _ in range(100):
            file.write(f",{row}" * 1500)
        file.write("]")
    kilobytes = path.stat().st_size // 1024
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, str(path)], capture_output=True, text=True, check=True
    )
    rows, peak = map(int, done.stdout.split())
    assert rows == 150_001
    assert peak < kilobytes / 2  # measured: under a fifth; the whole text would be more than all


@pytest.mark.parametrize("ending", ["json", "jsonl"])
@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("7" * 5001, "a number has too many digits"),
        ("[" * 100_000 + "]" * 100_000, "lists or objects are nested too deeply"),
    ],
)
def test_json_that_python_cannot_hold(ending: str, value: str, why: str, tmp_path: Path) -> None:
    path = tmp_path / f"rows.{ending}"
    row = f'{{"a": {value}}}'
    path.write_text(f"[{row}]" if ending == "json" else row, encoding="utf-8")
    with pytest.raises(DataError, match=why):
        list(read_rows(path))
