"""Files of the data set -> rows, each with the place it stands at.

Nothing is guessed quietly: bytes are decoded strictly, a table has no row longer or shorter
than its header, and whatever can't be read is named with its file and line.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kft.data.files import text_encoding, unsupported
from kft.errors import DataError, name_list

_CSV_FIELD_LIMIT = 2**31 - 1  # characters; the csv module's own limit is 131,072
_DECODER = json.JSONDecoder()
_BLANK = re.compile(r"[ \t\n\r]*")


@dataclass(frozen=True)
class Row:
    """One row of a file.

    Args:
        fields: Column name -> value: text in csv, tsv and txt, else as the file has it.
        place: ``path:line`` of the line where the row begins, counted from 1; in parquet, and
            in the ``data`` list of a json object, ``path:row 12``.
        numbers_as_text: A number may stand where text is meant, because the file's writer chose
            the column's type (parquet).
    """

    fields: Mapping[str, Any]
    place: str
    numbers_as_text: bool = False


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of one file, in file order; by lines where the format allows it.

    ``.jsonl``, ``.json`` (an array, or an object with a ``data`` list; each of the two suffixes
    also in the other's clothes), ``.csv``, ``.tsv`` (quotes mean nothing), ``.parquet``, and
    ``.txt``: a tsv when its first line has a tab, else one text per line under ``text``. Blank
    lines are no rows. Text is UTF-8 or CP949, or what a byte order mark says.

    Args:
        path: A file with one of these suffixes.

    Yields:
        Rows with their places.

    Raises:
        DataError: If the file can't be opened or decoded, has no rows, or a row is broken.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise unsupported(path, str(path))
    is_empty = True
    try:
        for row in reader(path):
            is_empty = False
            yield row
    except OSError as error:
        raise DataError(
            f"Can't read the file: {error.strerror or error}", where=str(path)
        ) from error
    if is_empty:
        raise DataError("The file has no rows", where=str(path), expected="at least one row")


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Place and text of each line; only a line feed (or CR LF) ends one."""
    with path.open(encoding=text_encoding(path), newline="\n") as file:
        for number, line in enumerate(file, start=1):
            yield f"{path}:{number}", line.removesuffix("\n").removesuffix("\r")


def _object(value: Any, place: str) -> Mapping[str, Any]:
    if isinstance(value, dict):
        return value
    shown = json.dumps(value, ensure_ascii=False)
    raise DataError(
        f"Row is not an object, got `{shown[:40]}{'...' if len(shown) > 40 else ''}`",
        where=place,
        expected='names and values in braces: `{"text": "..."}`',
    )


def _decode(text: str, position: int, path: Path, first_line: int = 1) -> tuple[Any, int]:
    """The JSON value that begins at ``position``, and where it ends."""
    try:
        return _DECODER.raw_decode(text, position)
    except json.JSONDecodeError as error:
        raise _broken_json(error.msg, text, error.pos, path, first_line) from error
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, 1,000 brackets
        raise _broken_json(str(error), text, position, path, first_line) from error


def _broken_json(why: str, text: str, position: int, path: Path, first_line: int = 1) -> DataError:
    return DataError(
        f"Broken JSON at column {position - text.rfind(chr(10), 0, position)}: {why}",
        where=f"{path}:{first_line + text.count(chr(10), 0, position)}",
        expected="one JSON object per line, or one array of objects",
    )


def _skip_blank(text: str, position: int) -> int:
    found = _BLANK.match(text, position)
    return found.end() if found else position


def _jsonl_rows(path: Path) -> Iterator[Row]:
    is_first = True
    for number, (place, line) in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        if is_first and line.lstrip().startswith("["):
            yield from _json_rows(path)
            return
        is_first = False
        value, end = _decode(line, _skip_blank(line, 0), path, number)
        if line[end:].strip():
            raise _broken_json("Extra data", line, _skip_blank(line, end), path, number)
        yield Row(_object(value, place), place)


def _json_rows(path: Path) -> Iterator[Row]:
    text = path.read_text(encoding=text_encoding(path))
    start = _skip_blank(text, 0)
    if text.startswith("[", start):
        yield from _array_rows(text, start, path)
    elif start < len(text):
        value, end = _decode(text, start, path)
        if text[end:].strip():
            yield from _jsonl_rows(path)
            return
        rows = value.get("data") if isinstance(value, dict) else None
        if not isinstance(rows, list):
            raise DataError(
                "The file holds one value, not rows",
                where=str(path),
                expected="an array of objects, or an object whose `data` is one",
            )
        for number, row in enumerate(rows, start=1):
            place = f"{path}:row {number}"
            yield Row(_object(row, place), place)


def _array_rows(text: str, start: int, path: Path) -> Iterator[Row]:
    """Rows of the array that begins at ``start``, one decoded at a time."""
    line, counted = 1, 0
    position = _skip_blank(text, start + 1)
    is_open = not text.startswith("]", position)
    while is_open:
        value, end = _decode(text, position, path)
        line += text.count("\n", counted, position)
        counted = position
        place = f"{path}:{line}"
        yield Row(_object(value, place), place)
        end = _skip_blank(text, end)
        is_open = text.startswith(",", end)
        position = _skip_blank(text, end + 1) if is_open else end
        if not is_open and not text.startswith("]", end):
            raise _broken_json("Expecting ',' or ']'", text, end, path)
    rest = _skip_blank(text, position + 1)
    if rest < len(text):
        raise _broken_json("Extra data", text, rest, path)


def _csv_cells(path: Path) -> Iterator[tuple[str, list[str]]]:
    csv.field_size_limit(_CSV_FIELD_LIMIT)
    with path.open(encoding=text_encoding(path), newline="") as file:
        reader = csv.reader(file, strict=True)
        while True:
            place = f"{path}:{reader.line_num + 1}"
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


def _csv_rows(path: Path) -> Iterator[Row]:
    return _table_rows(_csv_cells(path), None)


def _tsv_rows(path: Path) -> Iterator[Row]:
    cells = ((place, line.split("\t") if line else []) for place, line in _lines(path))
    hint = "A tsv has a row per line and no quoting; save as csv what has tabs or lines in a field."
    return _table_rows(cells, hint)


def _table_rows(lines: Iterator[tuple[str, list[str]]], hint: str | None) -> Iterator[Row]:
    header: list[str] = []
    for place, cells in lines:
        if not cells:
            continue
        if not header:
            _check_names(cells, place)
            header = cells
        elif len(cells) != len(header):
            raise DataError(
                "Fields of the row don't match the header",
                where=place,
                expected=f"{len(header)} fields: {name_list(header, 8)}; got {len(cells)}",
                hint=hint,
            )
        else:
            yield Row(dict(zip(header, cells, strict=True)), place)


def _check_names(names: Sequence[str], place: str) -> None:
    """Two columns of one name would hide each other."""
    for index, name in enumerate(names):
        if name in names[:index]:
            raise DataError(
                f"Column `{name}` is there twice",
                where=place,
                expected="a header with one name per column",
            )


def _txt_rows(path: Path) -> Iterator[Row]:
    with path.open(encoding=text_encoding(path), newline="\n") as file:
        is_table = "\t" in file.readline()
    if is_table:
        yield from _tsv_rows(path)
        return
    for place, line in _lines(path):
        if line.strip():
            yield Row({"text": line}, place)


def _parquet_rows(path: Path) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    number = 0
    with path.open("rb") as source:
        try:
            file = pyarrow.parquet.ParquetFile(source)
            _check_names(file.schema_arrow.names, str(path))
            for batch in file.iter_batches(batch_size=1024):
                for fields in batch.to_pylist():
                    number += 1
                    yield Row(fields, f"{path}:row {number}", numbers_as_text=True)
        except (pyarrow.ArrowException, OSError) as error:
            raise DataError(
                f"Broken parquet after {number} rows: {error}",
                where=str(path),
                expected="a whole parquet file; this one may be cut off",
            ) from error


_READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".jsonl": _jsonl_rows,
    ".json": _json_rows,
    ".csv": _csv_rows,
    ".tsv": _tsv_rows,
    ".parquet": _parquet_rows,
    ".txt": _txt_rows,
}
