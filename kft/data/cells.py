"""The cells of a row by their roles, and text as it is cleaned on the way in."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from typing import Any

from kft.data.column_names import FORMATS
from kft.data.conversations import shown
from kft.data.labels import label_number, score, tag_name
from kft.data.layouts import Layout, nearest_column
from kft.data.row import Row
from kft.errors import DataError, name_list


class Cells:
    """Reads the cells of rows of one layout.

    Args:
        layout: Which column plays which role.
        normalization: ``NFC``, or ``none``; nothing else of a text is changed.
    """

    def __init__(self, layout: Layout, normalization: str) -> None:
        self._layout = layout
        self._form = normalization

    def cell(self, row: Row, role: str) -> Any:
        """The value of a role that every row must have, as the file has it.

        Raises:
            DataError: If the row hasn't the key at all.
        """
        return self.value(row, self._layout.columns[role], role)

    def value(self, row: Row, column: str, role: str) -> Any:
        """As :meth:`cell`, for a column; ``a.b`` is ``b`` inside of ``a``."""
        if column in row.fields:
            return row.fields[column]
        outer, _, inner = column.partition(".")
        inside = row.fields.get(outer)
        if isinstance(inside, dict) and inner in inside:
            return inside[inner]
        used = (*self._layout.columns.values(), *self._layout.label_columns)
        meant = nearest_column(column, [name for name in row.fields if name not in used])
        raise DataError(
            f"Row has no `{column}`",
            where=row.place,
            expected=f"`{column}` ({role}), as in the first row; got {name_list(list(row.fields))}",
            hint=f"Rename `{meant}` to `{column}`."
            if meant
            else f"Add `{column}`, or leave the row out.",
        )

    def optional(self, row: Row, role: str) -> Any:
        """A value that a row may lack; a later row may have the key though the first has not."""
        columns = self._layout.columns
        if role not in FORMATS[self._layout.format][1] or (
            role not in columns and role in columns.values()
        ):
            return None
        return row.fields.get(columns.get(role, role))

    def label_cells(self, row: Row) -> Iterator[tuple[Any, str]]:
        """Each label or tag of a row, as a number or as cleaned text, with the place."""
        role = "tags" if self._layout.format == "tokens" else "label"
        value = self.cell(row, role)
        for cell in value if isinstance(value, list) else [value]:
            if is_empty(cell):
                continue
            is_number = label_number(cell) is not None or score(cell) is not None
            text = cell if is_number else self.clean(cell, row, role).strip()
            yield (tag_name(text) if role == "tags" and isinstance(text, str) else text), row.place

    def clean(self, value: Any, row: Row, role: str) -> str:
        """A value as text in the asked Unicode form.

        Raises:
            DataError: If it isn't text, or holds half of a surrogate pair.
        """
        if row.numbers_as_text and isinstance(value, int | float) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            raise DataError(
                f"`{self._layout.columns.get(role, role)}` is not text, got {shown(value)}",
                where=row.place,
                expected="text in quotes",
            )
        if value.isascii():
            return value
        try:
            value.encode()
        except UnicodeEncodeError as error:
            column = self._layout.columns.get(role, role)
            raise DataError(
                f"`{column}` holds half of a surrogate pair, `\\u{ord(value[error.start]):x}`",
                where=row.place,
                expected="whole characters; an emoji was cut in two",
            ) from error
        return self.normalized(value)

    def normalized(self, text: str) -> str:
        """The text in the asked Unicode form."""
        return unicodedata.normalize("NFC", text) if self._form == "NFC" else text


def is_empty(value: Any) -> bool:
    """Whether a cell holds nothing: no text but blanks, no items, or pandas' NaN."""
    if isinstance(value, str):
        return not value or value.isspace()
    return value is None or value == [] or value != value  # NaN differs from itself
