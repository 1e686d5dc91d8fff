"""Rows -> records: what a row of each format becomes."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kft.data.layouts import FORMATS, Layout, nearest_column
from kft.data.rows import Row
from kft.errors import DataError, name_list
from kft.tasks.task import Message, Record

_MESSAGE_ROLES = {
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "human": "user",
    "gpt": "assistant",
}
_NUMBER = re.compile(r"([+-]?[0-9]{1,9})(\.0+)?")
_LABELS_HINT = "Name them in the order of their numbers, such as `data.labels: [부정, 긍정]`."


@dataclass(frozen=True)
class Dropped:
    """A row left out because a cell that it needs is empty.

    Args:
        place: ``path:line`` of the row.
        reason: Such as ``empty `document```; rows are counted by it.
    """

    place: str
    reason: str


def label_names(rows: Iterable[Row], layout: Layout, *, normalization: str = "NFC") -> list[str]:
    """The distinct labels of the rows, sorted: the names when the recipe gives none.

    Raises:
        DataError: If the labels are numbers, whose names nobody but the user knows.
    """
    reader = RecordReader(layout, (), normalization)
    names: set[str] = set()
    for row in rows:
        value = reader.cell(row, "label")
        if _is_empty(value):
            continue
        if _label_number(value) is not None:
            raise DataError(
                f"Labels are numbers, such as `{value}`, and have no names",
                where=row.place,
                expected="their names in `data.labels`",
                hint=_LABELS_HINT,
            )
        names.add(reader.clean(value, row, "label").strip())
    return sorted(names)


def to_records(
    rows: Iterable[Row], layout: Layout, *, labels: Sequence[str] = (), normalization: str = "NFC"
) -> Iterator[Record | Dropped]:
    """Each row as a record, or as :class:`Dropped` where a cell that it needs is empty.

    Args:
        rows: As :func:`kft.data.rows.read_rows` yields them.
        layout: As :func:`kft.data.layouts.choose_layout` returns it.
        labels: Names of the labels in the order of their numbers (``classification``).
        normalization: ``NFC``, or ``none``; nothing else of a text is changed.

    Raises:
        DataError: If a row lacks a key, a value isn't text, a label is unknown, or a
            conversation has nothing to learn.
    """
    reader = RecordReader(layout, labels, normalization)
    return (reader.read(row) for row in rows)


class RecordReader:
    """Reads rows of one layout; arguments as in :func:`to_records`."""

    def __init__(self, layout: Layout, labels: Sequence[str], normalization: str) -> None:
        self._layout = layout
        self._form = normalization
        self._labels = [self._normalized(name) for name in labels]

    def read(self, row: Row) -> Record | Dropped:
        """The row's record; raises as :func:`to_records`."""
        required = FORMATS[self._layout.format][0]
        cells = {role: self.cell(row, role) for role in required}
        for role, value in cells.items():
            if _is_empty(value):
                return Dropped(row.place, f"empty `{self._layout.columns[role]}`")
        if "messages" in cells:
            return self._conversation(cells["messages"], row)
        if self._layout.format == "text":
            return Record(row.place, text=self.clean(cells["text"], row, "text"))
        if "label" in cells:
            label = self._label(cells["label"], row)
            turns = (self._turn("user", row, "text"), _turn("assistant", self._labels[label]))
            return Record(row.place, messages=turns, label=label)
        question, answer = required
        user = self._turn("user", row, question)
        if not _is_empty(extra := self._optional(row, "input")):
            user = {**user, "input": self.clean(extra, row, "input")}
        messages: tuple[Message, ...] = (user, self._turn("assistant", row, answer))
        if not _is_empty(self._optional(row, "system")):
            messages = (self._turn("system", row, "system"), *messages)
        return Record(row.place, messages=messages)

    def cell(self, row: Row, role: str) -> Any:
        """The value of a role that every row must have, as the file has it.

        Raises:
            DataError: If the row hasn't the key at all.
        """
        column = self._layout.columns[role]
        if column in row.fields:
            return row.fields[column]
        others = [name for name in row.fields if name not in self._layout.columns.values()]
        meant = nearest_column(column, others)
        raise DataError(
            f"Row has no `{column}`",
            where=row.place,
            expected=f"`{column}` ({role}), as in the first row; got {name_list(list(row.fields))}",
            hint=f"Rename `{meant}` to `{column}`."
            if meant
            else f"Add `{column}`, or leave the row out.",
        )

    def clean(self, value: Any, row: Row, role: str) -> str:
        """A value as text in the asked Unicode form.

        Raises:
            DataError: If it isn't text, or holds half of a surrogate pair.
        """
        if row.numbers_as_text and isinstance(value, int | float) and not isinstance(value, bool):
            value = str(value)
        column = self._layout.columns.get(role, role)
        if not isinstance(value, str):
            raise DataError(
                f"`{column}` is not text, got {_shown(value)}",
                where=row.place,
                expected="text in quotes",
            )
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"`{column}` holds half of a surrogate pair, `\\u{ord(value[error.start]):x}`",
                where=row.place,
                expected="whole characters; an emoji was cut in two",
            ) from error
        return self._normalized(value)

    def _normalized(self, text: str) -> str:
        return unicodedata.normalize("NFC", text) if self._form == "NFC" else text

    def _optional(self, row: Row, role: str) -> Any:
        """A value that a row may lack; a later row may have the key though the first has not."""
        columns = self._layout.columns
        if role not in FORMATS[self._layout.format][1] or (
            role not in columns and role in columns.values()
        ):
            return None
        return row.fields.get(columns.get(role, role))

    def _turn(self, speaker: str, row: Row, role: str) -> Message:
        value = row.fields[self._layout.columns.get(role, role)]
        return _turn(speaker, self.clean(value, row, role))

    def _label(self, value: Any, row: Row) -> int:
        """Index of a label: a name first (labels may be called `1`, `2`), else a number."""
        number = _label_number(value)
        names = self._labels
        name = str(number) if number is not None else self.clean(value, row, "label").strip()
        if name in names:
            return names.index(name)
        if number is not None and 0 <= number < len(names):
            return number
        if number is not None:
            raise DataError(
                f"Label `{value}` has no name",
                where=row.place,
                expected=f"0 to {len(names) - 1}: {name_list(names)}" if names else "its name",
                hint=f"Labels count from 0. {_LABELS_HINT}" if names else _LABELS_HINT,
            )
        meant = nearest_column(name, names)
        raise DataError(
            f"Unknown label `{name}`",
            where=row.place,
            expected=f"one of {name_list(names, 12)}" if names else "names in `data.labels`",
            hint=f"Did you mean `{meant}`?" if meant else None,
        )

    def _conversation(self, value: Any, row: Row) -> Record | Dropped:
        """Turns up to the last answer: what stands after it has no answer to learn."""
        messages: list[Message] = []
        for number, turn in enumerate(_turns(value, row), start=1):
            role, content = _role_and_content(turn, number, row.place)
            if isinstance(content, str) and not content.strip():
                return Dropped(row.place, f"empty turn of `{role}`")
            messages.append(_turn(role, self.clean(content, row, "content")))
        while messages and messages[-1]["role"] != "assistant":
            messages.pop()
        if not messages:
            raise DataError(
                "The conversation has no answer to learn",
                where=row.place,
                expected="at least one turn of `assistant`",
            )
        return Record(row.place, messages=tuple(messages))


def _turn(speaker: str, content: str) -> Message:
    return {"role": speaker, "content": content}


def _turns(value: Any, row: Row) -> list[Any]:
    """The list of turns, which a table holds as JSON text."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"The conversation is not JSON: {error}",
                where=row.place,
                expected='a list such as `[{"role": "user", "content": "..."}, ...]`',
            ) from error
    if isinstance(value, list):
        return value
    raise DataError(
        f"The conversation is not a list of turns, got {_shown(value)}",
        where=row.place,
        expected='a list such as `[{"role": "user", "content": "..."}, ...]`',
    )


def _role_and_content(turn: Any, number: int, place: str) -> tuple[str, Any]:
    """Both parts of a turn, in OpenAI's spelling or ShareGPT's."""
    for role_key, content_key in (("role", "content"), ("from", "value")):
        if isinstance(turn, dict) and turn.get(role_key) is not None and content_key in turn:
            role = _MESSAGE_ROLES.get(str(turn[role_key]))
            if role is None:
                raise DataError(
                    f"Turn {number} has the unknown role {_shown(turn[role_key])}",
                    where=place,
                    expected=f"one of {name_list(list(_MESSAGE_ROLES), 9)}",
                )
            return role, turn[content_key]
    raise DataError(
        f"Turn {number} is not a role and its content, got {_shown(turn)}",
        where=place,
        expected='`{"role": ..., "content": ...}` or `{"from": ..., "value": ...}`',
    )


def _is_empty(value: Any) -> bool:
    is_blank = isinstance(value, str) and not value.strip()
    return value is None or is_blank or value == [] or value != value  # NaN differs from itself


def _label_number(value: Any) -> int | None:
    """The number a label is, also as text or as a float that pandas made of it."""
    if isinstance(value, str):
        found = _NUMBER.fullmatch(value.strip())
        return int(found[1]) if found else None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return int(value) if isinstance(value, int) else None


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return f"`{text[:40]}{'...' if len(text) > 40 else ''}`"
