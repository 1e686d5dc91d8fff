"""Files of the data set -> rows, each with the place it stands at.

Nothing is guessed quietly: bytes are decoded strictly, a table has no row longer or shorter
than its header, and whatever can't be read is named with its file and line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from kft.data.columnar import arrow_rows, parquet_rows
from kft.data.encodings import text_encoding
from kft.data.files import unsupported
from kft.data.hub import hub_rows
from kft.data.json_files import is_array, json_rows, jsonl_rows
from kft.data.nested import NESTS, unnested
from kft.data.row import Row
from kft.data.sources import DataFile, HubDataset, RowSource
from kft.data.tables import SEPARATORS, csv_rows, separator_of, tsv_rows, txt_rows
from kft.errors import DataError, Finding

_READERS: dict[str, Callable[[DataFile], Iterator[Row]]] = {
    ".jsonl": jsonl_rows,
    ".ndjson": jsonl_rows,
    ".json": json_rows,
    ".csv": csv_rows,
    ".tsv": tsv_rows,
    ".txt": txt_rows,
    ".parquet": parquet_rows,
    ".arrow": arrow_rows,
}
_BINARY = (".parquet", ".arrow")
_PLAIN = ("utf-8", "utf-8-sig")


def read_rows(source: Path | RowSource) -> Iterator[Row]:
    """The rows of one file or hub data set, in order, a few at a time.

    ``.jsonl``, ``.ndjson``, ``.json`` (an array, or an object with a ``data`` list; each also in
    the other's clothes), ``.csv`` (comma, semicolon, tab or bar, whichever the header has),
    ``.tsv`` (quotes mean nothing), ``.txt`` (a tsv when its first line has a tab, else one text
    per line under ``text``), ``.parquet`` and ``.arrow``; compressed or not. Blank lines are no
    rows. Text is in the encoding that :func:`~kft.data.encodings.text_encoding` finds. Rows
    that hold several are taken apart, as :func:`~kft.data.nested.unnested` says.

    Args:
        source: As :func:`~kft.data.files.resolve_files` gives it, or a file.

    Yields:
        Rows with their places.

    Raises:
        DataError: If it can't be opened or decoded, has no rows, or a row is broken.
    """
    source = DataFile(source) if isinstance(source, Path) else source
    is_empty = True
    try:
        for row in _raw_rows(source):
            is_empty = False
            if NESTS.isdisjoint(row.fields):
                yield row
            else:
                yield from unnested(row)
    except OSError as error:
        what = f"Can't read the file: {error.strerror or error}"
        raise DataError(what, where=str(source)) from error
    if is_empty:
        raise DataError("The file has no rows", where=str(source), expected="at least one row")


def reading_notes(sources: Iterable[RowSource]) -> list[Finding]:
    """What was found out about files and isn't the usual.

    Their encoding, a csv's separator, a jsonl file that is one array. Of a file that
    :func:`read_rows` has read, only the beginning is read again.

    Raises:
        DataError: If a file isn't text.
        OSError: If it can't be read.
    """
    notes: list[Finding] = []
    for file in sources:
        if isinstance(file, HubDataset) or not is_text(file):
            continue
        encoding = text_encoding(file)
        if encoding not in _PLAIN:
            what = f"The file is in {encoding.upper()}, and is read as that"
            notes.append(Finding("note", what, where=str(file)))
        if file.suffix in (".jsonl", ".ndjson") and is_array(file):
            notes.append(Finding("note", "The file is one JSON array", where=str(file)))
        separator = separator_of(file) if file.suffix == ".csv" else ","
        if separator != ",":
            name = SEPARATORS[separator]
            notes.append(Finding("note", f"The csv's separator is a {name}", where=str(file)))
    return notes


def is_text(file: DataFile) -> bool:
    """Whether a file is one of text, which has an encoding."""
    return file.suffix not in _BINARY


def _raw_rows(source: RowSource) -> Iterator[Row]:
    if isinstance(source, HubDataset):
        return hub_rows(source)
    reader = _READERS.get(source.suffix)
    if reader is None:
        raise unsupported(source, str(source))
    return reader(source)


__all__ = ["Row", "is_text", "read_rows", "reading_notes"]
