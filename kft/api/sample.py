"""What a data file looks like: its format, its columns, its labels, how long its rows are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kft.data.files import resolve_files
from kft.data.layouts import Layout, choose_layout
from kft.data.rows import Row, read_rows
from kft.errors import DataError
from kft.recipe.schema import DataSection

_LENGTHS = (64, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)
_CHARACTERS_PER_TOKEN = 1.4
"""The fewest of any Korean vocabulary measured (sentencepiece of 8,000 pieces, dialogue)."""
_TEMPLATE_TOKENS = 32
"""Room for what a template puts around a row."""
_FEW = 10
"""Rows that should be held out at least."""
_NUMBER = re.compile(r"[0-9]{1,6}(\.0+)?")


@dataclass(frozen=True)
class Sample:
    """What the file shows.

    Args:
        layout: How its columns are read.
        named: Role -> column that the recipe must name, because the file's name is not usual.
        num_rows: Rows in the file.
        labels: Distinct labels, sorted; numbers as text.
        labels_are_numbers: Their names stand nowhere in the file.
        usual_characters: Characters in a row, which 95 % of the rows don't pass.
        most_characters: Characters in the longest row.
    """

    layout: Layout
    named: Mapping[str, str]
    num_rows: int
    labels: tuple[str, ...]
    labels_are_numbers: bool
    usual_characters: int
    most_characters: int

    def suggested_length(self, context: int | None) -> int:
        """``data.max_length``: holds 95 % of the rows, and the model takes it."""
        tokens = _tokens(self.usual_characters)
        length = next((length for length in _LENGTHS if length >= tokens), _LENGTHS[-1])
        return min(length, context) if context else length

    def may_pass(self, length: int) -> bool:
        """Whether a row may have more tokens than that."""
        return _tokens(self.most_characters) > length

    @property
    def eval_fraction(self) -> float:
        """Share to hold out, so that a difference can be told."""
        return min(0.5, max(0.05, round(_FEW / max(self.num_rows, 1) + 0.005, 2)))


def look_at(
    data: str,
    columns: Mapping[str, str] | None = None,
    layout_format: Literal["auto", "prompt_completion"] = "auto",
) -> Sample:
    """Read a file of rows as a run would.

    Args:
        data: File, folder or glob, as in ``data.train``.
        columns: Role -> column, where the names alone don't tell.
        layout_format: ``prompt_completion`` when ``columns`` name its roles.

    Raises:
        DataError: If it can't be read, or its format can't be told.
    """
    named = dict(columns or {})
    section = DataSection.model_validate({"train": data, "columns": named, "format": layout_format})
    layout: Layout | None = None
    lengths: list[int] = []
    labels: dict[str, None] = {}
    for path in resolve_files(data, "`--data`"):
        for row in read_rows(path):
            layout = layout or choose_layout(row, section)
            lengths.append(_characters(row, layout))
            if "label" in layout.columns:
                text = str(row.fields.get(layout.columns["label"]) or 0).strip()
                labels.setdefault(text)
    if layout is None:
        raise DataError("The file has no rows", where=data)
    lengths.sort()
    are_numbers = bool(labels) and all(_NUMBER.fullmatch(label) for label in labels)
    names = sorted(labels)
    if are_numbers:
        names = [str(number) for number in range(max(int(float(name)) for name in names) + 1)]
    return Sample(
        layout=layout,
        named=named,
        num_rows=len(lengths),
        labels=tuple(names),
        labels_are_numbers=are_numbers,
        usual_characters=lengths[min(len(lengths) - 1, int(0.95 * len(lengths)))],
        most_characters=lengths[-1],
    )


def columns_of(data: str) -> list[str]:
    """Names of the columns of the first row.

    Raises:
        DataError: If the file can't be read.
    """
    for path in resolve_files(data, "`--data`"):
        for row in read_rows(path):
            return list(row.fields)
    return []


def _characters(row: Row, layout: Layout) -> int:
    return sum(_length(row.fields.get(column)) for column in layout.columns.values())


def _length(value: Any) -> int:
    """Characters in a value; in a conversation those of its turns, with room for their marks."""
    if isinstance(value, list):
        return sum(_length(turn) + 16 for turn in value)
    if isinstance(value, dict):
        return sum(_length(part) for part in value.values())
    return len(str(value)) if value is not None else 0


def _tokens(characters: int) -> int:
    return int(characters / _CHARACTERS_PER_TOKEN) + _TEMPLATE_TOKENS
