"""Rows of csv, tsv and txt files, and of files with one token a line."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence

from kft.data.conversations import shown
from kft.data.encodings import open_text
from kft.data.row import Row
from kft.data.sources import DataFile
from kft.errors import DataError, counted, name_list

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_FIELD_LIMIT = 2**31 - 1  # characters; the csv module's own limit is 131,072
_QUOTED = re.compile(r'"(?:[^"]|"")*"?')
_TAG = re.compile(r"O|-|[BIES]-\S+|[^\s-]+[-_][BIES]")
_TSV_HINT = (
    "A tsv has a row per line and no quoting; save as csv what has tabs or lines in a field."
)


def separator_of(file: DataFile) -> str:
    """The separator of a csv file: the commonest in its header, outside of quotes.

    Returns:
        A key of :data:`SEPARATORS`; a comma where the header has none or as many.
    """
    with open_text(file, newline="") as stream:
        header = _QUOTED.sub("", stream.readline(_FIELD_LIMIT))
    return max(SEPARATORS, key=header.count)


def csv_rows(file: DataFile) -> Iterator[Row]:
    """Rows of a csv file with a header; a quoted field may hold separators and line breaks."""
    return _table_rows(_csv_cells(file), None)


def tsv_rows(file: DataFile) -> Iterator[Row]:
    """Rows of a file with tabs, in which quotes mean nothing.

    Either a header and a row a line; or sentences with their tags: a token and its tag a line,
    with a blank line between sentences and ``##`` before comments (KLUE), or a sentence and the
    tags of its words a line (Naver).
    """
    first = _first_lines(file, 2)
    if first and (first[0].startswith("## ") or all(_is_tagged(line) for line in first)):
        yield from _sentence_rows(file)
    elif first and all(_are_tags(line) for line in first):
        yield from _tagged_rows(file)
    else:
        cells = ((place, line.split("\t") if line else []) for place, line in _lines(file))
        yield from _table_rows(cells, _TSV_HINT)


def txt_rows(file: DataFile) -> Iterator[Row]:
    """Rows of a text file: a tsv when its first line has a tab, else one text a line."""
    with open_text(file) as stream:
        is_table = "\t" in stream.readline()
    if is_table:
        yield from tsv_rows(file)
        return
    for place, line in _lines(file):
        if line and not line.isspace():
            yield Row({"text": line}, place)


def check_names(names: Sequence[str], place: str) -> None:
    """See that no two columns have one name, which would hide each other.

    Raises:
        DataError: Naming the first that is there twice.
    """
    for index, name in enumerate(names):
        if name in names[:index]:
            raise DataError(
                f"Column `{name}` is there twice",
                where=place,
                expected="a header with one name per column",
            )


def _lines(file: DataFile) -> Iterator[tuple[str, str]]:
    """Place and text of each line; only a line feed (or CR LF) ends one."""
    name = str(file)
    with open_text(file) as stream:
        for number, line in enumerate(stream, start=1):
            yield f"{name}:{number}", line.removesuffix("\n").removesuffix("\r")


def _first_lines(file: DataFile, count: int) -> list[str]:
    found: list[str] = []
    for _, line in _lines(file):
        if line.strip():
            found.append(line)
        if len(found) == count:
            break
    return found


def _csv_cells(file: DataFile) -> Iterator[tuple[str, list[str]]]:
    csv.field_size_limit(_FIELD_LIMIT)
    name = str(file)
    separator = separator_of(file)
    with open_text(file, newline="") as stream:
        reader = csv.reader(stream, delimiter=separator, strict=True)
        while True:
            place = f"{name}:{reader.line_num + 1}"
            try:
                cells = next(reader, None)
            except csv.Error as error:
                raise DataError(
                    f"Broken csv in the row that begins here: {error}",
                    where=place,
                    expected="a field that begins with a quote to end with one, "
                    "quotes inside it doubled",
                ) from error
            if cells is None:
                return
            yield place, cells


def _table_rows(lines: Iterator[tuple[str, list[str]]], hint: str | None) -> Iterator[Row]:
    header: list[str] = []
    for place, cells in lines:
        if not cells:
            continue
        if not header:
            check_names(cells, place)
            header = cells
        elif len(cells) != len(header):
            raise DataError(
                "Fields of the row don't match the header",
                where=place,
                expected=f"{counted(len(header), 'field')}: {name_list(header, 8)}; "
                f"got {len(cells)}",
                hint=hint,
            )
        else:
            yield Row(dict(zip(header, cells, strict=True)), place)


def _is_tagged(line: str) -> bool:
    """Whether a line is one token and its tag."""
    token, tab, tag = line.partition("\t")
    return bool(tab) and (len(token) == 1 or " " not in token) and bool(_TAG.fullmatch(tag))


def _are_tags(line: str) -> bool:
    """Whether a line is a sentence and a tag for each of its words."""
    sentence, tab, tags = line.partition("\t")
    found = tags.split()
    return bool(tab) and len(found) == len(sentence.split()) and all(map(_TAG.fullmatch, found))


def _sentence_rows(file: DataFile) -> Iterator[Row]:
    """Sentences of one token and its tag a line; a token may be a blank."""
    begins, tokens, tags, comment = "", list[str](), list[str](), ""
    for place, line in _lines(file):
        if not line.strip() and "\t" not in line:
            if tokens:
                yield _sentence(begins, tokens, tags, comment)
            tokens, tags, comment = [], [], ""
        elif line.startswith("##") and not tokens and not _TAG.fullmatch(line.rpartition("\t")[2]):
            comment = line.removeprefix("##").strip()
        else:
            token, tab, tag = line.partition("\t")
            if not tab or not _TAG.fullmatch(tag):
                written = shown(line.replace("\t", "\\t"))
                raise DataError(
                    f"The line isn't a token and its tag, got {written}",
                    where=place,
                    expected="a token, a tab and a tag such as `O`, `B-PS` or `I-PS`",
                )
            begins = begins if tokens else place
            tokens.append(token)
            tags.append(tag)
    if tokens:
        yield _sentence(begins, tokens, tags, comment)


def _sentence(place: str, tokens: list[str], tags: list[str], comment: str) -> Row:
    fields = {"tokens": tokens, "tags": tags}
    return Row({"id": comment.partition("\t")[0], **fields} if comment else fields, place)


def _tagged_rows(file: DataFile) -> Iterator[Row]:
    for place, line in _lines(file):
        if not line.strip():
            continue
        if not _are_tags(line):
            sentence, _, tags = line.partition("\t")
            raise DataError(
                "The tags don't match the words",
                where=place,
                expected=f"a tab and {counted(len(sentence.split()), 'tag')}; "
                f"got {len(tags.split())}",
            )
        sentence, _, tags = line.partition("\t")
        yield Row({"tokens": sentence.split(), "tags": tags.split()}, place)
