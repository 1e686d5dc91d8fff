from __future__ import annotations

import csv
import io
import json
import os
import unicodedata
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kft.data.encodings import text_encoding
from kft.data.files import resolve_files
from kft.data.rows import _READERS, Row, read_rows
from kft.data.sources import SUFFIXES, DataFile
from kft.errors import DataError

same_folder = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
# Every character but NUL (no text file has it) and surrogates (no encoding has them).
characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
texts = st.text(characters, max_size=20)


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def fields_of(path: Path) -> list[dict[str, object]]:
    return [dict(row.fields) for row in read_rows(path)]


def lines_of(path: Path) -> list[str]:
    return [row.place.removeprefix(f"{path}:") for row in read_rows(path)]


def paths_of(source: str | list[str], what: str = "data.train") -> list[Path]:
    files = resolve_files(source, what)
    assert all(isinstance(file, DataFile) and file.member is None for file in files)
    return [file.path for file in files if isinstance(file, DataFile)]


def error_of(path: Path) -> DataError:
    with pytest.raises(DataError) as caught:
        list(read_rows(path))
    assert caught.value.exit_code == 2
    return caught.value


def test_every_suffix_has_a_reader() -> None:
    assert set(SUFFIXES) == set(_READERS)


BROKEN = {  # file name, content, place after the path, words of the message
    "json cut": ("a.jsonl", '{"text": "가"}\n{"text": "나"\n', ":2", "Broken JSON at column 13"),
    "json two on a line": ("a.jsonl", '{"a": 1} {"a": 2}', ":1", "column 10: Extra data"),
    "json deep": ("a.jsonl", '\n{"a": ' + "[" * 100_000, ":2", "Broken JSON at column 1"),
    "json long number": ("a.jsonl", '{"a": ' + "9" * 5000 + "}", ":1", "Broken JSON at column 1"),
    "json unclosed array": ("a.json", '[{"a": 1},\n\n{"a": 2}', ":3", "Expecting ',' or ']'"),
    "json comma at the end": ("a.json", '[{"a": 1},\n]', ":2", "column 1: Expecting value"),
    "json after the array": ("a.json", '[{"a": 1}]\n]', ":2", "column 1: Extra data"),
    "json broken in the array": ("a.json", '[{"a": 1},\n{"a" 2}]', ":2", "column 6: Expecting ':'"),
    "json one value": ("a.json", '{"prompt": "가"}', "", "one value, not rows"),
    "json number": ("a.json", "3", "", "one value, not rows"),
    "list for a row": ("a.json", '[{"a": 1},\n [2]]', ":2", "not an object, got `[2]`"),
    "text for a row": ("a.jsonl", '{"a": 1}\n"가나"\n', ":2", 'not an object, got `"가나"`'),
    "no object in data": ("a.json", '{"data": [{"a": 1}, null]}', ":1:21", "got `null`"),
    "csv short row": ("a.csv", "a,b\n1,2\n3\n", ":3", "don't match the header"),
    "csv long row": ("a.csv", 'a,b\n"1\n1",2\n3,4,5\n', ":4", "don't match the header"),
    "csv open quote": ("a.csv", 'a,b\n1,"2\n3,4\n', ":2", "unexpected end of data"),
    "csv quote inside": ("a.csv", 'a,b\n1,"2"2\n', ":2", "',' expected after '\"'"),
    "csv header twice": ("a.csv", "text,label,text\n1,2,3\n", ":1", "Column `text` is there twice"),
    "tsv short row": ("a.tsv", "a\tb\n1\t2\n\n3\n", ":4", "don't match the header"),
    "tsv header twice": ("a.tsv", "a\ta\n1\t2\n", ":1", "Column `a` is there twice"),
    "txt table ragged": ("a.txt", "a\tb\r\n1\t2\t3\r\n", ":2", "don't match the header"),
    "nothing": ("a.jsonl", "", "", "The file has no rows"),
    "blank lines": ("a.txt", "\n  \n", "", "The file has no rows"),
    "header alone": ("a.csv", "text,label\n", "", "The file has no rows"),
    "empty array": ("a.json", " [ ]\n", "", "The file has no rows"),
    "nothing after the mark": ("a.csv", b"\xef\xbb\xbf", "", "The file has no rows"),
    "NUL": ("a.jsonl", b'{"a": 1}\n{"a": "\0"}\n', ":2", "NUL character"),
    "NUL in UTF-16": ("a.txt", "가\n\n나\0".encode("utf-16"), ":3", "NUL character"),
    "binary": ("a.csv", b"PK\x03\x04\x14\x00\x08\x08", ":1", "NUL character"),
    "one bad byte": (
        "a.txt",
        "굳 ㅋ\n포스터 보고\n".encode() + b"\xec\x98\xa4 \xff\n",
        ":3",
        "Bytes `ff` are neither UTF-8 nor CP949",
    ),
    "bad byte in CP949": (
        "a.txt",
        "굳 영화\n포스터 보고\n".encode("cp949") + b"\xb0 \n",
        ":3",
        "neither UTF-8 nor CP949",
    ),
    "UTF-8 mark, CP949 text": (
        "a.csv",
        b"\xef\xbb\xbftext\n" + "굳 영화\n".encode("cp949"),
        ":2",
        "The byte order mark says UTF-8-SIG",
    ),
    "UTF-16 of odd length": (
        "a.txt",
        "가\n나".encode("utf-16") + b"\x00",
        ":2",
        "The byte order mark says UTF-16",
    ),
    "parquet of text": ("a.parquet", "text\n", "", "Broken parquet after 0 rows"),
    "parquet empty": ("a.parquet", "", "", "Broken parquet after 0 rows"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_named_with_its_line(tmp_path: Path, name: str) -> None:
    file, content, place, words = BROKEN[name]
    path = written(tmp_path, file, content)
    error = error_of(path)
    assert error.where == f"{path}{place}"
    assert words in error.what


def test_a_whole_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    error = error_of(written(Path(), "a.tsv", "id\tdocument\tlabel\n1\t굳 ㅋ\n"))
    assert str(error) == (
        "error: Fields of the row don't match the header\n"
        "  --> a.tsv:2\n"
        "  expected: 3 fields: `id`, `document`, `label`; got 2\n"
        "\n"
        "hint: A tsv has a row per line and no quoting; "
        "save as csv what has tabs or lines in a field."
    )


def test_a_cut_parquet_file(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": ["가"] * 1000}), path)
    path.write_bytes(path.read_bytes()[:-20])
    assert error_of(path).where == str(path)


def test_parquet_columns_of_one_name(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    columns = [pyarrow.array(["가"]), pyarrow.array(["나"])]
    pyarrow.parquet.write_table(pyarrow.Table.from_arrays(columns, ["a", "a"]), path)
    assert "Column `a` is there twice" in error_of(path).what


def test_parquet_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    turns = [{"role": "user", "content": "안녕"}]
    table = pyarrow.table({"n": [1, None] * 1000, "messages": [turns] * 2000})
    pyarrow.parquet.write_table(table, path)
    rows = list(read_rows(path))
    assert len(rows) == 2000
    assert rows[1999] == Row({"n": None, "messages": turns}, f"{path}:row 2000", True)


def test_rows_begin_where_they_are_said_to(tmp_path: Path) -> None:
    content = 'a,b\r\n"1\r\n2\r\n3",4\r\n\r\n5,"6"\r\n'
    path = written(tmp_path, "a.csv", content)
    assert fields_of(path) == [{"a": "1\r\n2\r\n3", "b": "4"}, {"a": "5", "b": "6"}]
    assert lines_of(path) == ["2", "6"]
    assert lines_of(written(tmp_path, "a.jsonl", '\n{"a": 1}\n\n{"a": 2}')) == ["2", "4"]
    assert lines_of(written(tmp_path, "a.json", '[\n {"a":\n 1}, {"a": 2},\n\n{}]')) == [
        "2",
        "3",
        "5",
    ]
    assert lines_of(written(tmp_path, "b.jsonl", "[{}, {},\n{}, {}]")) == ["1", "1:6", "2", "2:5"]
    assert lines_of(written(tmp_path, "b.json", '{"data": [{},\n {}]}')) == ["1", "2"]
    assert lines_of(written(tmp_path, "a.txt", "가\r\n\r\n나\n")) == ["1", "3"]
    assert lines_of(written(tmp_path, "a.tsv", "a\tb\r\n1\t\n\n\t2")) == ["2", "4"]


def test_json_in_the_clothes_of_jsonl_and_the_other_way_round(tmp_path: Path) -> None:
    array = '\n[{"prompt": "가"},\n {"prompt": "나"}]'
    assert fields_of(written(tmp_path, "a.jsonl", array)) == [{"prompt": "가"}, {"prompt": "나"}]
    lines = '{"prompt": "가"}\n{"prompt": "나"}\n'
    path = written(tmp_path, "a.json", lines)
    assert fields_of(path) == [{"prompt": "가"}, {"prompt": "나"}]
    assert lines_of(path) == ["1", "2"]
    assert fields_of(written(tmp_path, "b.jsonl", '{"data": [1]}')) == [{"data": [1]}]


def test_quotes_mean_nothing_in_a_tsv(tmp_path: Path) -> None:
    path = written(tmp_path, "a.tsv", 'a\tb\n"가\t나\n다"\t"라"\n')
    assert fields_of(path) == [{"a": '"가', "b": "나"}, {"a": '다"', "b": '"라"'}]


def test_only_a_line_feed_ends_a_line(tmp_path: Path) -> None:
    text = "가\u2028나\x85다\x0b라\x0c마\x1c바\r사"
    assert fields_of(written(tmp_path, "a.txt", text + "\n")) == [{"text": text}]
    assert fields_of(written(tmp_path, "a.tsv", f"a\tb\n{text}\t1\n")) == [{"a": text, "b": "1"}]
    line = json.dumps({"a": text}, ensure_ascii=False)
    assert fields_of(written(tmp_path, "a.jsonl", line + "\n")) == [{"a": text}]


def test_a_long_csv_field(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", f"text\n{'가' * 200_000}\n")
    assert len(next(read_rows(path)).fields["text"]) == 200_000


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("utf-8", "utf-8"),
        ("utf-8-sig", "utf-8-sig"),
        ("cp949", "cp949"),
        ("utf-16", "utf-16"),
        ("utf-32", "utf-32"),
    ],
)
@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "tsv", "txt"])
def test_encodings(tmp_path: Path, suffix: str, encoding: str, expected: str) -> None:
    contents = {
        "jsonl": '{"text": "뷁 ㅋㅋ"}\n{"text": "아 더빙"}\n',
        "json": '[{"text": "뷁 ㅋㅋ"}, {"text": "아 더빙"}]',
        "csv": "text\n뷁 ㅋㅋ\n아 더빙\n",
        "tsv": "text\n뷁 ㅋㅋ\n아 더빙\n",
        "txt": "뷁 ㅋㅋ\n아 더빙\n",
    }
    path = written(tmp_path, f"a.{suffix}", contents[suffix].encode(encoding))
    assert text_encoding(path) == expected
    assert fields_of(path) == [{"text": "뷁 ㅋㅋ"}, {"text": "아 더빙"}]


@pytest.mark.parametrize("mark", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_both_byte_orders(tmp_path: Path, mark: str) -> None:
    path = written(tmp_path, "a.csv", "\ufefftext,n\n상각,1\n".encode(mark))
    assert fields_of(path) == [{"text": "상각", "n": "1"}]


@same_folder
@given(rows=st.lists(st.dictionaries(texts, texts), min_size=1, max_size=5))
def test_any_text_survives_jsonl(tmp_path: Path, rows: list[dict[str, str]]) -> None:
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    assert fields_of(written(tmp_path, "a.jsonl", lines)) == rows
    assert fields_of(written(tmp_path, "a.json", json.dumps(rows, ensure_ascii=False))) == rows


@same_folder
@given(rows=st.lists(st.tuples(texts, texts), min_size=1, max_size=5))
def test_any_text_survives_csv(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    file = io.StringIO(newline="")
    csv.writer(file).writerows([("a", "b"), *rows])
    read = fields_of(written(tmp_path, "a.csv", file.getvalue()))
    assert read == [{"a": a, "b": b} for a, b in rows]


@same_folder
@given(
    rows=st.lists(
        st.tuples(
            st.text(characters.filter(lambda c: c not in "\t\n"), max_size=20),
            st.text(characters.filter(lambda c: c not in "\t\n\r"), max_size=20),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_any_text_survives_tsv(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    lines = "".join(f"{a}\t{b}\n" for a, b in [("a", "b"), *rows])
    for name in ("a.tsv", "a.txt"):
        assert fields_of(written(tmp_path, name, lines)) == [{"a": a, "b": b} for a, b in rows]


@same_folder
@given(
    content=st.binary(max_size=60), suffix=st.sampled_from(["jsonl", "json", "csv", "tsv", "txt"])
)
def test_any_bytes_are_rows_or_a_data_error(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = written(tmp_path, f"a.{suffix}", content)
    try:
        place = next(read_rows(path)).place
        list(read_rows(path))
    except DataError as error:
        place = error.where or ""
    assert place.startswith(str(path))


@pytest.mark.parametrize(
    ("file", "count"), [("chatbot/ChatbotData.csv", 11_823), ("kullm/kullm-v1.jsonl", 252)]
)
def test_real_sets_have_all_their_rows(real_data: Path, file: str, count: int) -> None:
    path = real_data / "data" / file
    places = [row.place for row in read_rows(path)]
    assert len(places) == count
    has_header = path.suffix == ".csv"
    assert places[-1] == f"{path}:{count + has_header}"


def test_files_of_a_path_folder_glob_and_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("rows")
    (folder / "more").mkdir(parents=True)
    for name in ("b.jsonl", "a.CSV", "notes.md", "._a.csv", "more/c.txt", "d[1].tsv"):
        written(folder, name, "text\n")
    everything = [folder / "a.CSV", folder / "b.jsonl", folder / "d[1].tsv"]
    assert paths_of("rows", "data.train") == everything
    assert paths_of("rows/*", "data.train") == everything
    assert paths_of("rows/**/*.txt", "data.train") == [folder / "more" / "c.txt"]
    assert paths_of("rows/d[1].tsv", "data.train") == [folder / "d[1].tsv"]
    assert paths_of(str(tmp_path / "rows" / "*.jsonl"), "data.train") == [
        tmp_path / "rows" / "b.jsonl"
    ]
    assert paths_of(["rows/b.jsonl", "rows/*.CSV"], "data.train") == everything[1::-1]
    monkeypatch.chdir(tmp_path / "rows")
    assert paths_of("../rows/b.jsonl", "data.train") == [Path("../rows/b.jsonl")]
    assert paths_of("../rows/*.jsonl", "data.train") == [Path("../rows/b.jsonl")]


def test_a_korean_file_name_is_found_in_either_form(tmp_path: Path) -> None:
    stored = written(tmp_path, unicodedata.normalize("NFD", "한국어.csv"), "text\n가\n")
    (found,) = paths_of(str(tmp_path / unicodedata.normalize("NFC", "한국어.csv")), "data.train")
    assert found.samefile(stored)


@pytest.mark.parametrize(
    ("source", "what", "hint"),
    [
        ("rows/trian.jsonl", "No file or folder `rows/trian.jsonl`", "mean `rows/train.jsonl`?"),
        ("nowhere/train.jsonl", "No file or folder `nowhere/train.jsonl`", None),
        ("rows/*.csv", "No data file in glob `rows/*.csv`", None),
        ("parent", "No data file in folder `parent`", "`parent/**/*`"),
        ("rows/t.xlsx", "Files that end in `.xlsx` can't be read", "csv UTF-8"),
        ("", "The path is empty", None),
        ([], "No file is named", None),
        (["rows/train.jsonl", "rows/none.csv"], "No file or folder `rows/none.csv`", None),
    ],
)
def test_wrong_paths(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: str | list[str],
    what: str,
    hint: str | None,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows").mkdir()
    Path("parent/below").mkdir(parents=True)
    written(Path("rows"), "train.jsonl", "{}")
    written(Path("rows"), "t.xlsx", "")
    with pytest.raises(DataError) as caught:
        paths_of(source, "data.train")
    error = caught.value
    assert (error.where, error.exit_code) == ("data.train", 2)
    assert what in error.what
    assert error.expected
    assert (hint is None and error.hint is None) or (hint or "") in (error.hint or "-")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert "Can't read the file" in error_of(tmp_path / "a.csv").what
    assert "Can't read the file" in error_of(tmp_path / "a.parquet").what


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", "text\n")
    path.chmod(0)
    assert "Permission denied" in error_of(path).what
