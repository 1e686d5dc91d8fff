"""Which column of a file plays which role, from the recipe and the columns' names."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kft.data.rows import Row
from kft.errors import DataError, name_list, nearest_name
from kft.recipe.schema import DataSection

FORMATS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "messages": (("messages",), ()),
    "instruction": (("instruction", "output"), ("input", "system")),
    "prompt_completion": (("prompt", "completion"), ("system",)),
    "classification": (("text", "label"), ()),
    "text": (("text",), ()),
}
"""Format -> roles it needs, roles it may have; in the order in which ``auto`` tries them."""

_KNOWN_NAMES: dict[str, tuple[str, ...]] = {
    "messages": ("messages", "conversations", "conversation", "대화"),
    "instruction": ("instruction", "명령어", "명령", "지시문", "지시"),
    "input": ("input", "context", "입력", "맥락"),
    "output": ("output", "response", "completion", "answer", "출력", "응답", "답변"),
    "prompt": ("prompt", "question", "query", "q", "질문", "질의", "instruction", "input", "입력"),
    "completion": (
        *("completion", "response", "answer", "a", "답변", "대답", "응답", "답"),
        *("output", "출력"),
    ),
    "system": ("system", "system_prompt", "시스템"),
    "text": (
        *("text", "document", "sentence", "content", "review", "comment", "comments", "title"),
        *("텍스트", "문장", "내용", "본문", "문서", "리뷰", "댓글", "제목"),
    ),
    "label": ("label", "class", "category", "sentiment", "레이블", "라벨", "감정", "분류"),
}
_RUNNING_TEXT = frozenset({"text", "document", "content", "텍스트", "내용", "본문", "문서"})


@dataclass(frozen=True)
class Layout:
    """How the columns of a file are read.

    Args:
        format: A key of :data:`FORMATS`.
        columns: Role -> column name, for the roles that the first row has.
        note: One sentence that says so to the user.
    """

    format: str
    columns: Mapping[str, str]
    note: str


def choose_layout(first_row: Row, section: DataSection) -> Layout:
    """The format of the data and the columns it uses, from the recipe and the first row.

    The recipe's ``format`` and ``columns`` win; what they leave open is found by the common
    column names, in any case and Unicode form.

    Raises:
        DataError: If a named column isn't there, or format or columns can't be told.

    Example:
        >>> row = Row({"Q": "안녕", "A": "반가워요", "label": "0"}, "chat.csv:2")
        >>> choose_layout(row, DataSection(train="chat.csv")).note
        '`prompt_completion`: prompt from `Q`, completion from `A`; `label` is not used'
    """
    fields = list(first_row.fields)
    named = _named_columns(fields, section, first_row.place)
    chosen: str = section.format
    if chosen == "auto":
        chosen = detect_format(fields, first_row.fields, named=named, place=first_row.place)
    required, optional = FORMATS[chosen]
    for role in named:
        if role not in required + optional:
            raise DataError(
                f"Format `{chosen}` has no role `{role}`",
                where="data.columns",
                expected=f"roles among {name_list(required + optional)}",
            )
    columns = _assign(chosen, fields, named)
    for role in required:
        if role not in columns:
            raise DataError(
                f"No column for the role `{role}` of format `{chosen}`",
                where=first_row.place,
                expected=f"its name; the columns are {name_list(fields, 12)}",
                hint=f"Name it: `data.columns: {{{role}: ...}}`.",
            )
    used = ", ".join(f"{role} from `{column}`" for role, column in columns.items())
    unused = [name for name in fields if name and name not in columns.values()]
    tail = f"; {name_list(unused)} {'is' if len(unused) == 1 else 'are'} not used" if unused else ""
    return Layout(chosen, columns, f"`{chosen}`: {used}{tail}")


def detect_format(
    fields: Sequence[str],
    sample: Mapping[str, Any],
    *,
    named: Mapping[str, str] | None = None,
    place: str | None = None,
) -> str:
    """The first format whose roles all have a column of a common name and a fitting value.

    Args:
        fields: Column names.
        sample: A row, to tell text from nested values.
        named: Role -> column, where the recipe says it; the format must have these roles.
        place: For the message.

    Raises:
        DataError: If none fits; the message lists the columns.

    Example:
        >>> detect_format(["id", "document", "label"], {})
        'classification'
    """
    named = named or {}
    for name, (required, optional) in FORMATS.items():
        columns = _assign(name, fields, named)
        fits = set(required) <= set(columns) and set(named) <= set(required + optional)
        if not fits or not all(_is_fitting(role, sample.get(columns[role])) for role in columns):
            continue
        # A `review` beside other columns may be half of a pair that has names of its own.
        if name != "text" or named or len(fields) == 1 or _key(columns["text"]) in _RUNNING_TEXT:
            return name
    hint = None
    if fields:
        roles = f"prompt: {fields[0]}, completion: {fields[-1]}"
        example = (
            ("text", f"text: {fields[0]}") if len(fields) == 1 else ("prompt_completion", roles)
        )
        hint = "Say it, such as `data.format: {}` and `data.columns: {{{}}}`.".format(*example)
    raise DataError(
        f"Can't tell the format from the columns {name_list(fields, 12)}"
        if fields
        else "The row has no columns",
        where=place,
        expected="columns such as `prompt` and `completion`; `instruction` and `output`; "
        "`messages`; `text` and `label`; `text`",
        hint=hint,
    )


def _named_columns(fields: Sequence[str], section: DataSection, place: str) -> dict[str, str]:
    """The recipe's role -> column, spelled as in the file."""
    exact = {unicodedata.normalize("NFC", field): field for field in fields}
    named: dict[str, str] = {}
    for role, column in section.columns.items():
        found = exact.get(unicodedata.normalize("NFC", column))
        if found is None:
            meant = nearest_column(column, fields)
            raise DataError(
                f"`data.columns.{role}` names `{column}`, and there is no such column",
                where=place,
                expected=f"one of {name_list(fields, 12)}",
                hint=f"Did you mean `{meant}`?" if meant else None,
            )
        named[role] = found
    return named


def _assign(format_name: str, fields: Sequence[str], named: Mapping[str, str]) -> dict[str, str]:
    """Role -> column of a format: the named ones, then the first common name that is free."""
    required, optional = FORMATS[format_name]
    by_key = {_key(field): field for field in reversed(fields)}
    columns: dict[str, str] = {}
    for role in required + optional:
        taken = {*columns.values(), *named.values()}
        known = [by_key[name] for name in _KNOWN_NAMES[role] if name in by_key]
        free = [column for column in known if column not in taken]
        if role in named:
            columns[role] = named[role]
        elif free:
            columns[role] = free[0]
    return columns


def nearest_column(word: str, names: Iterable[str]) -> str | None:
    """As :func:`nearest_name`, comparing letters: a typo is a third of a syllable of Hangul."""
    by_letters = {unicodedata.normalize("NFD", name): name for name in names}
    found = nearest_name(unicodedata.normalize("NFD", word), by_letters)
    return by_letters[found] if found else None


def _key(column: str) -> str:
    return unicodedata.normalize("NFC", column).strip().casefold()


def _is_fitting(role: str, value: Any) -> bool:
    if role == "messages" and isinstance(value, str):
        return value.lstrip().startswith("[")
    return value is None or isinstance(value, list if role == "messages" else str | int | float)
