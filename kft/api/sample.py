"""What a data file looks like: its format, its columns, its labels, how long its rows are."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, get_args

from kft.data.cells import Cells
from kft.data.files import resolve_files
from kft.data.label_balance import LikelyTypo, likely_typos
from kft.data.labels import score
from kft.data.layouts import Layout, choose_layout
from kft.data.rows import Row, read_rows
from kft.errors import DataError, UsageError, name_list, nearest_name
from kft.recipe.schema import DataSection, Role

_LENGTHS = (64, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)
_CHARACTERS_PER_TOKEN = 1.4
"""The fewest of any Korean vocabulary measured (sentencepiece of 8,000 pieces, dialogue)."""
_TEMPLATE_TOKENS = 32
"""Room for what a template puts around a row."""
_FEW = 10
"""Rows that should be held out at least."""
_LOOKED_AT = 2000
"""Rows that are enough to tell labels from texts."""
_MOST_LABELS, _TIMES, _LABEL_CHARACTERS = 30, 5, 30
"""Labels: so many at most, each so often on average, and so long."""
_LABELLED = 300
"""Rows that accuracy is known to about five points by."""
_MOSTLY = 0.9
"""Of the cells that hold scores, where some hold something else."""
_NUMBER = re.compile(r"[0-9]{1,6}(\.0+)?")


@dataclass(frozen=True)
class Sample:
    """What the file shows.

    Args:
        layout: How its columns are read.
        named: Role -> column that the recipe must name, because the file's name is not usual.
        num_rows: Rows in the file.
        labels: Distinct labels, sorted; numbers as text.
        labels_are_numbers: Numbers from 0 on, whose names stand nowhere in the file; others name
            themselves.
        labels_are_scores: They are numbers that aren't all whole, so they have no names; what a
            few cells hold instead is a mistake.
        usual_characters: Characters in a row, which 95 % of the rows don't pass.
        most_characters: Characters in the longest row.
        typos: Labels that may be another one, misspelt.
    """

    layout: Layout
    named: Mapping[str, str]
    num_rows: int
    labels: tuple[str, ...]
    labels_are_numbers: bool
    usual_characters: int
    most_characters: int
    typos: tuple[LikelyTypo, ...] = ()
    labels_are_scores: bool = False

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
        """Share to hold out, so that a difference can be told: of labels it takes more rows."""
        least = min(0.5, _FEW / max(self.num_rows, 1) + 0.005)
        is_labelled = self.labels or self.labels_are_scores
        wanted = min(0.2, _LABELLED / max(self.num_rows, 1)) if is_labelled else 0.0
        return max(0.05, round(max(least, wanted), 2))


def look_at(
    data: str,
    columns: Mapping[str, str] | None = None,
) -> Sample:
    """Read a file of rows as a run would.

    Args:
        data: File, folder or glob, as in ``data.train``.
        columns: Role -> column, where the names alone don't tell.

    Raises:
        DataError: If it can't be read, or its format can't be told.
        UsageError: If a role is none.
    """
    named = dict(columns or {})
    section = _section(data, named)
    layout: Layout | None = None
    lengths: list[int] = []
    labels: Counter[str] = Counter()
    places: dict[str, str] = {}
    for path in resolve_files(data, "`--data`"):
        for row in read_rows(path):
            layout = layout or choose_layout(row, section)
            lengths.append(_characters(row, layout))
            if "label" in layout.columns:
                for value, place in Cells(layout, section.normalization).label_cells(row):
                    labels[text := str(value).strip()] += 1
                    places.setdefault(text, place)
    if layout is None:
        raise DataError("The file has no rows", where=data)
    lengths.sort()
    whole = sorted({int(float(label)) for label in labels if _NUMBER.fullmatch(label)})
    are_all_whole = bool(labels) and all(_NUMBER.fullmatch(label) for label in labels)
    # Names in the order of numbers, where most of these occur: 0, 1 and 99 name themselves.
    are_numbers = are_all_whole and whole[0] == 0 and whole[-1] < 2 * len(whole)
    are_scores = not are_all_whole and _are_scores(labels)
    names = [] if are_scores else sorted(labels)
    if are_numbers:
        names = [str(number) for number in range(whole[-1] + 1)]
    elif are_all_whole:
        names = [str(number) for number in whole]
    return Sample(
        layout=layout,
        named=named,
        num_rows=len(lengths),
        labels=tuple(names),
        labels_are_numbers=are_numbers,
        usual_characters=lengths[min(len(lengths) - 1, int(0.95 * len(lengths)))],
        most_characters=lengths[-1],
        typos=() if are_all_whole or are_scores else tuple(likely_typos(labels, places)),
        labels_are_scores=are_scores,
    )


def _are_scores(labels: Counter[str]) -> bool:
    """Whether nearly every cell holds a number, and not all of these are whole."""
    numbers = {label: count for label, count in labels.items() if score(label) is not None}
    has_parts = any(not float(label).is_integer() for label in numbers)
    return has_parts and sum(numbers.values()) >= _MOSTLY * sum(labels.values())


def _section(data: str, columns: Mapping[str, str]) -> DataSection:
    unknown = next((role for role in columns if role not in get_args(Role)), None)
    if unknown is not None:
        meant = nearest_name(unknown, get_args(Role))
        raise UsageError(
            f"Unknown role `{unknown}` in `--columns`",
            expected=f"one of {name_list(get_args(Role), 12)}",
            hint=f"Did you mean `{meant}`?" if meant else None,
        )
    return DataSection.model_validate({"train": data, "columns": dict(columns)})


def guess_columns(data: str) -> dict[str, str]:
    """Which columns are a text and its label, by what stands in them; empty where none is clear.

    A label is one of few short words that come again and again; the text is the longest of the
    columns whose values hardly repeat.

    Raises:
        DataError: If the file can't be read.
    """
    values: dict[str, list[str]] = {}
    for path in resolve_files(data, "`--data`"):
        for row in islice(read_rows(path), _LOOKED_AT):
            for name, value in row.fields.items():
                values.setdefault(name, []).append(str(value))
    labels = [name for name, found in values.items() if _may_be_labels(found)]
    texts = [name for name, found in values.items() if len(set(found)) > len(found) / 2]
    longest = max(texts, key=lambda name: sum(map(len, values[name])), default=None)
    if len(labels) != 1 or longest is None:
        return {}
    return {"text": longest, "label": labels[0]}


def _may_be_labels(values: Sequence[str]) -> bool:
    distinct = set(values)
    return (
        2 <= len(distinct) <= _MOST_LABELS
        and len(distinct) * _TIMES <= len(values)
        and max(map(len, distinct)) <= _LABEL_CHARACTERS
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
