"""One row of a file, before its columns have roles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Row(NamedTuple):
    """One row of a file.

    Args:
        fields: Column name -> value: text in csv, tsv and txt, else as the file has it.
        place: ``path:line`` of the line where the row begins, counted from 1, with the column
            where a line of json holds more than one row; in parquet, arrow and on the hub
            ``path:row 12``.
        numbers_as_text: A number may stand where text is meant, because the file's writer chose
            the column's type (parquet, arrow).
    """

    fields: Mapping[str, Any]
    place: str
    numbers_as_text: bool = False
