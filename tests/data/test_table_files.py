"""csv dialects, and files with one token or one sentence and its tags a line."""

from __future__ import annotations

from pathlib import Path

import pytest

from kft.data.formats import label_names, to_records
from kft.data.layouts import choose_layout
from kft.data.rows import read_rows
from kft.data.sources import DataFile
from kft.data.tables import separator_of
from kft.errors import DataError
from kft.recipe.schema import DataSection
from kft.tasks.task import Record


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def fields_of(path: Path) -> list[dict[str, object]]:
    return [dict(row.fields) for row in read_rows(path)]


def error_of(path: Path) -> DataError:
    with pytest.raises(DataError) as caught:
        list(read_rows(path))
    return caught.value


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_header_shows_the_separator(tmp_path: Path, separator: str) -> None:
    rows = [["질문", "답변"], ["안녕, 잘; 지내?", '"네"'], ["두\n줄", "a|b\tc"]]
    quoted = ["".join(['"', cell.replace('"', '""'), '"']) for row in rows for cell in row]
    lines = [separator.join(quoted[start : start + 2]) for start in (0, 2, 4)]
    path = written(tmp_path, "a.csv", "\n".join(lines) + "\n")
    assert separator_of(DataFile(path)) == separator
    assert fields_of(path) == [
        {"질문": "안녕, 잘; 지내?", "답변": '"네"'},
        {"질문": "두\n줄", "답변": "a|b\tc"},
    ]


@pytest.mark.parametrize(
    ("header", "separator"),
    [
        ("text", ","),
        ("a;b,c", ","),
        ("a;b;c,d", ";"),
        ('"a;b;c",d', ","),
        ('"a,""b"";c"|d', "|"),
        ("", ","),
    ],
)
def test_the_commonest_sign_outside_of_quotes(tmp_path: Path, header: str, separator: str) -> None:
    assert separator_of(DataFile(written(tmp_path, "a.csv", header))) == separator


def test_a_ragged_row_in_another_dialect(tmp_path: Path) -> None:
    error = error_of(written(tmp_path, "a.csv", "질문;답변\n안녕;네\n안녕\n"))
    assert error.where == f"{tmp_path / 'a.csv'}:3"
    assert error.expected == "2 fields: `질문`, `답변`; got 1"


def test_a_csv_with_a_mark_and_korean_names(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", "\ufeff질문,답변\r\n안녕,반가워요\r\n")
    assert fields_of(path) == [{"질문": "안녕", "답변": "반가워요"}]
    layout = choose_layout(next(read_rows(path)), DataSection(train="a.csv"))
    assert layout.note == "`prompt_completion`: prompt from `질문`, completion from `답변`"


KLUE_LIKE = """\
## 토큰, 레이블 구분자 : \\t
## 컬럼명 : CHAR\tNE_TAG
## ner_00000\t<서울:LC>에 간 <박:PS>씨
서\tB-LC
울\tI-LC
에\tO
 \tO
간\tO
 \tO
박\tB-PS
씨\tO

## ner_00001\t#1위
#\tO
1\tB-QT
위\tI-QT
"""


def tagged(path: Path) -> list[Record]:
    rows = list(read_rows(path))
    layout = choose_layout(rows[0], DataSection(train=str(path)))
    assert layout.format == "tokens"
    records = list(to_records(rows, layout, label_as="class"))
    assert all(isinstance(record, Record) for record in records)
    return [record for record in records if isinstance(record, Record)]


def test_one_character_a_line(tmp_path: Path) -> None:
    path = written(tmp_path, "a.tsv", KLUE_LIKE)
    first, second = tagged(path)
    assert (first.text, first.place) == ("서울에 간 박씨", f"{path}:4")
    assert first.tokens == tuple("서울에 간 박씨")
    assert first.tags == ("B-LC", "I-LC", "O", "O", "O", "O", "B-PS", "O")
    assert (second.text, second.place) == ("#1위", f"{path}:14")
    rows = list(read_rows(path))
    assert [row.fields["id"] for row in rows] == ["ner_00000", "ner_00001"]
    names = label_names(rows, choose_layout(rows[0], DataSection(train="a.tsv")))
    assert names == ["O", "B-LC", "I-LC", "B-PS", "B-QT", "I-QT"]


def test_one_word_a_line_without_comments(tmp_path: Path) -> None:
    (record,) = tagged(written(tmp_path, "a.txt", "서울에\tB-LC\n간다\tO\n.\tO\n"))
    assert record.text == "서울에 간다 ."
    assert record.tags == ("B-LC", "O", "O")


def test_a_sentence_and_its_tags_a_line(tmp_path: Path) -> None:
    path = written(tmp_path, "a.tsv", "박 씨는 서울에 갔다\tPER-B PER-I LOC_B -\n\n네 .\tO O\n")
    first, second = tagged(path)
    assert first.tokens == ("박", "씨는", "서울에", "갔다")
    assert first.tags == ("B-PER", "I-PER", "B-LOC", "O")
    assert first.text == "박 씨는 서울에 갔다"
    assert second.place == f"{path}:3"


@pytest.mark.parametrize(
    ("content", "line", "what"),
    [
        ("서\tB-LC\n울\tI-LC\n에 간다\n", 3, "The line isn't a token and its tag, got `에 간다`"),
        (
            "서\tB-LC\n울\tI-LC\n에\t장소\n",
            3,
            "The line isn't a token and its tag, got `에\\t장소`",
        ),
        ("## ner\n서\n", 2, "The line isn't a token and its tag, got `서`"),
        ("박 씨\tPER-B O\n네 네\tO O\n서울 에\tO\n", 3, "The tags don't match the words"),
    ],
)
def test_broken_tags(tmp_path: Path, content: str, line: int, what: str) -> None:
    error = error_of(written(tmp_path, "a.tsv", content))
    assert (error.what, error.where) == (what, f"{tmp_path / 'a.tsv'}:{line}")


def test_a_table_is_no_file_of_tags(tmp_path: Path) -> None:
    path = written(tmp_path, "a.tsv", "문장\t라벨\n좋다\tO\n싫다\tX\n")
    assert fields_of(path) == [{"문장": "좋다", "라벨": "O"}, {"문장": "싫다", "라벨": "X"}]
