"""Rows -> records: what a row of each format becomes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kft.data.cells import Cells, is_empty
from kft.data.column_names import FORMATS
from kft.data.conversations import conversation_turns, shown
from kft.data.labels import flags_of, label_index, label_number, names_of, score, tag_name
from kft.data.layouts import Layout
from kft.data.row import Row
from kft.errors import DataError, counted
from kft.tasks.record import LabelUse, Message, Record

_MISSING = object()


@dataclass(frozen=True)
class Dropped:
    """A row left out because a cell that it needs is empty.

    Args:
        place: ``path:line`` of the row.
        reason: Such as ``empty `document```; rows are counted by it.
    """

    place: str
    reason: str


def label_names(
    rows: Iterable[Row],
    layout: Layout,
    *,
    normalization: str = "NFC",
    numbers_are_names: bool = False,
) -> list[str]:
    """The distinct labels of the rows, sorted: the names when the recipe gives none.

    Args:
        rows: All of the training rows; they are read once and not kept.
        layout: Of one of the formats ``classification``, ``pairs`` and ``tokens``.
        normalization: As for :func:`to_records`.
        numbers_are_names: Labels that are numbers are called by them, where only a class is
            learned and its name is never said.

    Returns:
        The names; tags with ``O`` first. None where the labels are scores, which is to say
        numbers that aren't all whole.

    Raises:
        DataError: If the labels are numbers, whose names nobody but the user knows.
    """
    cells = Cells(layout, normalization)
    if layout.label_columns:
        return [cells.normalized(name) for name in layout.label_columns]
    found = (cell for row in rows for cell in cells.label_cells(row))
    return names_of(found, layout, numbers_are_names=numbers_are_names)


def to_records(
    rows: Iterable[Row],
    layout: Layout,
    *,
    labels: Sequence[str] = (),
    normalization: str = "NFC",
    label_as: LabelUse = "answer",
) -> Iterator[Record | Dropped]:
    """Each row as a record, or as :class:`Dropped` where a cell that it needs is empty.

    Args:
        rows: As :func:`kft.data.rows.read_rows` yields them.
        layout: As :func:`kft.data.layouts.choose_layout` returns it.
        labels: Names of the labels in the order of their numbers (``classification``,
            ``pairs``, ``tokens``).
        normalization: ``NFC``, or ``none``; nothing else of a text is changed.
        label_as: What becomes of a row with a label. ``answer``: a conversation whose answer is
            the label's name, or its number where ``labels`` has no names; a pair's second text
            is the question's ``input``. ``class``: ``text``, ``text_pair`` and ``label``, or
            ``label_ids`` where several may hold. ``value``: the texts and ``value``. Formats
            without labels are the same in all three.

    Raises:
        DataError: If a row lacks a key, a value isn't text, a label is unknown, tags don't
            match the tokens, or a conversation has nothing to learn.
    """
    reader = RecordReader(layout, labels, normalization, label_as)
    return (reader.read(row) for row in rows)


class RecordReader:
    """Reads rows of one layout; arguments as in :func:`to_records`."""

    def __init__(
        self,
        layout: Layout,
        labels: Sequence[str],
        normalization: str,
        label_as: LabelUse = "answer",
    ) -> None:
        self._layout = layout
        self._cells = Cells(layout, normalization)
        self._clean = self._cells.clean
        self._label_as = label_as
        self._labels = [self._cells.normalized(name) for name in labels]
        self._indices: dict[str, int] = {}  # label as the file writes it -> its index
        required = FORMATS[layout.format][0]
        self._columns = [
            (role, layout.columns[role]) for role in required if role in layout.columns
        ]
        self._read = {
            "messages": self._conversation,
            "text": self._running_text,
            "classification": self._labelled,
            "pairs": self._labelled,
            "tokens": self._tagged,
        }.get(layout.format, self._answered)

    def read(self, row: Row) -> Record | Dropped:
        """The row's record; raises as :func:`to_records`."""
        cells: dict[str, Any] = {}
        for role, column in self._columns:
            value = row.fields.get(column, _MISSING)
            if value is _MISSING:
                value = self._cells.cell(row, role)
            # No label that holds is a label too, where several may.
            if is_empty(value) and not (role == "label" and value == []):
                return Dropped(row.place, f"empty `{column}`")
            cells[role] = value
        return self._read(row, cells)

    def _running_text(self, row: Row, cells: dict[str, Any]) -> Record:
        return Record(row.place, text=self._clean(cells["text"], row, "text"))

    def _answered(self, row: Row, cells: dict[str, Any]) -> Record:
        (question, asked), (answer, given) = cells.items()
        user = _turn("user", self._clean(asked, row, question))
        if not is_empty(extra := self._cells.optional(row, "input")):
            user = {**user, "input": self._clean(extra, row, "input")}
        messages: tuple[Message, ...] = (user, _turn("assistant", self._clean(given, row, answer)))
        if not is_empty(system := self._cells.optional(row, "system")):
            messages = (_turn("system", self._clean(system, row, "system")), *messages)
        return Record(row.place, messages=messages)

    def _labelled(self, row: Row, cells: dict[str, Any]) -> Record | Dropped:
        text = self._clean(cells["text"], row, "text")
        pair = self._clean(cells["text_pair"], row, "text_pair") if "text_pair" in cells else None
        place = row.place
        if self._label_as == "value":
            value = self._score(cells.get("label", self._layout.label_columns), row)
            return Record(place, text=text, text_pair=pair, value=value)
        many = self._label_ids(cells, row)
        says_scores = self._label_as == "answer" and many is None and not self._labels
        is_score = says_scores and score(cells["label"]) is not None
        label = None if is_score or many is not None else self._label(cells["label"], row)
        if self._label_as == "class":
            return Record(place, text=text, text_pair=pair, label=label, label_ids=many)
        if many is not None:
            answer = ", ".join(self._labels[index] for index in many)
        else:
            answer = str(cells["label"]).strip() if label is None else self._labels[label]
        if not answer:
            return Dropped(place, "no label that holds")
        question = _turn("user", text) if pair is None else {**_turn("user", text), "input": pair}
        number = score(answer) if is_score else None
        turns = (question, _turn("assistant", answer))
        return Record(place, messages=turns, label=label, label_ids=many, value=number)

    def _tagged(self, row: Row, cells: dict[str, Any]) -> Record:
        if self._label_as == "answer":
            raise DataError(
                "Tags of tokens can't be an answer",
                where=row.place,
                expected="`task: token_classification`, which learns a tag for each token",
            )
        for role, value in cells.items():
            if not isinstance(value, list):
                raise DataError(
                    f"`{self._layout.columns[role]}` is not a list, got {shown(value)}",
                    where=row.place,
                    expected="a list of tokens and a list of their tags",
                )
        tokens = tuple(self._clean(token, row, "tokens") for token in cells["tokens"])
        tags = tuple(self._tag(tag, row) for tag in cells["tags"])
        if len(tokens) != len(tags):
            raise DataError(
                "The tags don't match the tokens",
                where=row.place,
                expected=f"{counted(len(tokens), 'tag')}, one for each token; got {len(tags)}",
            )
        # Characters hold the blanks between words themselves, words don't.
        are_characters = all(len(token) == 1 for token in tokens)
        text = ("" if are_characters else " ").join(tokens)
        return Record(row.place, text=text, tokens=tokens, tags=tags)

    def _conversation(self, row: Row, cells: dict[str, Any]) -> Record | Dropped:
        """Turns up to the last answer: what stands after it has no answer to learn."""
        messages: list[Message] = []
        for role, content in conversation_turns(cells["messages"], row.place):
            if isinstance(content, str) and not content.strip():
                return Dropped(row.place, f"empty turn of `{role}`")
            messages.append(_turn(role, self._clean(content, row, "content")))
        while messages and messages[-1]["role"] != "assistant":
            messages.pop()
        if not messages:
            raise DataError(
                "The conversation has no answer to learn",
                where=row.place,
                expected="at least one turn of `assistant`",
            )
        return Record(row.place, messages=tuple(messages))

    def _label_ids(self, cells: dict[str, Any], row: Row) -> tuple[int, ...] | None:
        """The labels that hold, where there is a column for each, or a list of them."""
        flags = self._layout.label_columns
        if flags:
            values = ((column, self._cells.value(row, column, "label")) for column in flags)
            return tuple(flags_of(values, row.place))
        if isinstance(cells["label"], list):
            return tuple(sorted({self._label(label, row) for label in cells["label"]}))
        return None

    def _label(self, value: Any, row: Row) -> int:
        if isinstance(value, str) and value in self._indices:
            return self._indices[value]
        number = label_number(value)
        is_score = number is None and not self._labels and score(value) is not None
        text = str(value if is_score else number)
        if number is None and not is_score:
            text = self._clean(value, row, "label").strip()
        index = label_index(value, text, self._labels, row.place)
        if isinstance(value, str):
            self._indices[value] = index
        return index

    def _score(self, value: Any, row: Row) -> float:
        number = score(value)
        if number is None:
            raise DataError(
                f"`{self._layout.columns.get('label', 'label')}` is no number, got {shown(value)}",
                where=row.place,
                expected="a score such as `3.5`",
                hint=_score_hint(value),
            )
        return number

    def _tag(self, value: Any, row: Row) -> str:
        if isinstance(value, str):
            return tag_name(self._clean(value, row, "tags").strip())
        return self._labels[label_index(value, str(value), self._labels, row.place)]


def _score_hint(value: Any) -> str | None:
    point = str(value).strip().replace(",", ".")
    if score(point) is not None:
        return f"Write `{point}`: the decimal sign is a point."
    words = isinstance(value, str)
    return "`task: sequence_classification` learns labels that are words." if words else None


def _turn(speaker: str, content: str) -> Message:
    return {"role": speaker, "content": content}
