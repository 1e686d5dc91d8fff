"""Which column of a file plays which role, from the recipe and the columns' names."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kft.data.column_names import (
    FORMATS,
    KNOWN_NAMES,
    PAIR_LABELS,
    PAIR_NAMES,
    QUESTION_NAMES,
    ROW_NUMBERS,
    RUNNING_TEXT,
    name_key,
)
from kft.data.row import Row
from kft.errors import DataError, name_list, nearest_name
from kft.recipe.schema import DataSection


@dataclass(frozen=True)
class Layout:
    """How the columns of a file are read.

    Args:
        format: A key of :data:`~kft.data.column_names.FORMATS`.
        columns: Role -> column name, for the roles that the first row has; ``a.b`` is ``b``
            inside of ``a``.
        note: One sentence that says so to the user.
        label_columns: The columns of 0 and 1 that are the labels, where there is one for each.
    """

    format: str
    columns: Mapping[str, str]
    note: str
    label_columns: tuple[str, ...] = ()


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
    sample = _flat(first_row.fields)
    fields = list(first_row.fields)
    named, flags = _named_columns(list(sample), section, first_row.place)
    chosen: str = section.format
    if chosen == "auto":
        roles = {**named, "label": flags[0]} if flags else named
        chosen = detect_format(list(sample), sample, named=roles, place=first_row.place)
    required, optional = FORMATS[chosen]
    for role in named:
        if role not in required + optional:
            raise DataError(
                f"Format `{chosen}` has no role `{role}`",
                where="data.columns",
                expected=f"roles among {name_list(required + optional)}",
            )
    columns = _assign(chosen, list(sample), named)
    if flags or ("label" in required and "label" not in columns):
        columns.pop("label", None)
        flags = flags or _flag_columns(sample, columns)
    for role in required:
        if role not in columns and not (role == "label" and flags):
            raise DataError(
                f"No column for the role `{role}` of format `{chosen}`",
                where=first_row.place,
                expected=f"its name; the columns are {name_list(fields, 12)}",
                hint=f"Name it: `data.columns: {{{role}: ...}}`.",
            )
    return Layout(chosen, columns, _note(chosen, columns, flags, fields), flags)


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
        if name == "classification" and "label" not in columns and _flag_columns(sample, columns):
            return name
        fits = set(required) <= set(columns) and set(named) <= set(required + optional)
        if not fits or not all(_is_fitting(role, sample.get(columns[role])) for role in columns):
            continue
        # A `review` beside other columns may be half of a pair that has names of its own.
        if name != "text" or named or len(fields) == 1 or name_key(columns["text"]) in RUNNING_TEXT:
            return name
    raise _unknown_format(fields, place)


def nearest_column(word: str, names: Iterable[str]) -> str | None:
    """As :func:`nearest_name`, comparing letters: a typo is a third of a syllable of Hangul."""
    by_letters = {unicodedata.normalize("NFD", name): name for name in names}
    found = nearest_name(unicodedata.normalize("NFD", word), by_letters)
    return by_letters[found] if found else None


def _unknown_format(fields: Sequence[str], place: str | None) -> DataError:
    hint = None
    if fields:
        roles = f"prompt: {fields[0]}, completion: {fields[-1]}"
        example = (
            ("text", f"text: {fields[0]}") if len(fields) == 1 else ("prompt_completion", roles)
        )
        hint = "Say it, such as `data.format: {}` and `data.columns: {{{}}}`.".format(*example)
    return DataError(
        f"Can't tell the format from the columns {name_list(fields, 12)}"
        if fields
        else "The row has no columns",
        where=place,
        expected="columns such as `prompt` and `completion`; `instruction` and `output`; "
        "`messages`; `text` and `label`; `sentence1`, `sentence2` and `label`; "
        "`tokens` and `tags`; `text`",
        hint=hint,
    )


def _flat(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields, with those inside of a field after it as ``outer.inner``."""
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        flat[name] = value
        if isinstance(value, Mapping):
            flat.update({f"{name}.{inner}": own for inner, own in value.items()})
    return flat


def _named_columns(
    fields: Sequence[str], section: DataSection, place: str
) -> tuple[dict[str, str], tuple[str, ...]]:
    """The recipe's role -> column, spelled as in the file, and the columns of 0 and 1."""
    exact = {unicodedata.normalize("NFC", field): field for field in fields}
    named: dict[str, str] = {}
    flags: list[str] = []
    for role, columns in section.columns.items():
        for column in [columns] if isinstance(columns, str) else columns:
            found = exact.get(unicodedata.normalize("NFC", column))
            if found is None:
                meant = nearest_column(column, fields)
                raise DataError(
                    f"`data.columns.{role}` names `{column}`, and there is no such column",
                    where=place,
                    expected=f"one of {name_list(fields, 12)}",
                    hint=f"Did you mean `{meant}`?" if meant else None,
                )
            if isinstance(columns, str):
                named[role] = found
            else:
                flags.append(found)
    return named, tuple(flags)


def _assign(format_name: str, fields: Sequence[str], named: Mapping[str, str]) -> dict[str, str]:
    """Role -> column of a format: the named ones, then the first common name that is free."""
    required, optional = FORMATS[format_name]
    by_key = {name_key(field): field for field in reversed(fields)}
    pair = next((pair for pair in PAIR_NAMES if by_key.keys() >= set(pair)), ())
    halves = {"text": pair[:1], "text_pair": pair[1:]}
    columns: dict[str, str] = {}
    for role in required + optional:
        names = KNOWN_NAMES[role]
        if format_name == "pairs":
            names = (*names, *PAIR_LABELS) if role == "label" else halves[role]
        taken = {*columns.values(), *named.values()}
        known = [by_key[name] for name in names if name in by_key]
        free = [column for column in known if column not in taken]
        if role in named:
            columns[role] = named[role]
        elif free:
            columns[role] = free[0]
    asks = name_key(columns.get("instruction", "")) in QUESTION_NAMES
    if asks and "input" not in columns and "instruction" not in named:
        del columns["instruction"]
    return columns


def _flag_columns(sample: Mapping[str, Any], columns: Mapping[str, str]) -> tuple[str, ...]:
    """The columns beside the text where all of them hold 0 or 1, so that each is a label."""
    others = [name for name in sample if name not in columns.values()]
    flags = [name for name in others if name_key(name) not in ROW_NUMBERS]
    are_flags = all(str(sample[name]).strip() in ("0", "1") for name in flags)
    return tuple(flags) if "text" in columns and len(flags) > 1 and are_flags else ()


def _is_fitting(role: str, value: Any) -> bool:
    if role == "messages" and isinstance(value, str):
        return value.lstrip().startswith("[")
    if role in ("messages", "tokens", "tags"):
        return value is None or isinstance(value, list)
    if role == "label" and isinstance(value, list):
        return True
    return value is None or isinstance(value, str | int | float)


def _note(
    chosen: str, columns: Mapping[str, str], flags: Sequence[str], fields: Sequence[str]
) -> str:
    parts = [f"{role} from `{column}`" for role, column in columns.items()]
    if flags:
        parts.append(f"labels from {name_list(flags, 3)} ({len(flags)} columns of 0 and 1)")
    used = {*columns.values(), *flags}
    outer = {column.partition(".")[0] for column in used if column not in fields}
    unused = [name for name in fields if name and name not in used and name not in outer]
    tail = f"; {name_list(unused)} {'is' if len(unused) == 1 else 'are'} not used" if unused else ""
    return f"`{chosen}`: {', '.join(parts)}{tail}"
