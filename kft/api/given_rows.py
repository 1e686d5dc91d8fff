"""The rows of ``--data``: what is wrong with them, for somebody who writes no recipe."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from kft.data.files import resolve_files
from kft.errors import DataError

OPTION = "`--data`"

_KEY = re.compile(r"\bdata\.[a-z_]+")
_MEANT = re.compile(r"Did you mean (`.+`)\?")
_SHORTEN = "Shorten the row, or leave it out of the file."
_RENAME = "Rename the columns of the file to such names."
_REMEDIES = (
    (r"Can't tell the format from the columns .*", None, _RENAME),
    (
        r"No column for the role (`\w+`) of format .*",
        None,
        r"Rename the column that holds it to \1.",
    ),
    (
        r"Labels are numbers, such as .*",
        "their names in the file",
        "Write `부정` instead of `0`, say: names are what the model is asked for.",
    ),
    (r"Label .* has no name", None, "Correct the row, or write the label's name there."),
    (r"Label .* is a score, and a class is learned", "a label's name", None),
    (r"Unknown label .*", None, "Correct the row, or leave it out: no other label was learned."),
    (r"No row of .* has tags, .*", None, "Add columns `tokens` and `tags`."),
    (r"No row of .* has a .*", None, "Name the columns `text` and `label`, and leave others out."),
    (r"Row has \d+ tokens.*", None, _SHORTEN),
    (r"Row has no target.*", None, _SHORTEN),
)
"""What an error says -> what is expected, where that too names a recipe's key, and a hint."""


def require_file(data: str) -> None:
    """See that the file of rows is there.

    Raises:
        DataError: Naming the option.
    """
    resolve_files(data, OPTION)


@contextmanager
def of_given_file(data: str | None) -> Iterator[None]:
    """What is wrong with the rows, said without a recipe's keys when they are ``--data``'s.

    Args:
        data: The option; ``None`` where the rows are a run's own, whose errors stay as they are.

    Raises:
        DataError: The one that was met, its place and its hint those of the command.
    """
    try:
        yield
    except DataError as error:
        if data is None:
            raise
        raise without_keys(error) from error


def without_keys(error: DataError) -> DataError:
    """The same error with a place and a hint that need no recipe.

    A hint that names a key and has no other remedy is left out.

    Example:
        >>> print(without_keys(DataError("No row is left", where="data.train")))
        error: No row is left
          --> `--data`
    """
    where, expected, hint = error.where, error.expected, error.hint
    for pattern, wanted, remedy in _REMEDIES:
        found = re.fullmatch(pattern, error.what, re.DOTALL)
        meant = _MEANT.fullmatch(hint) if hint else None
        if found is not None:
            expected = wanted or expected
            if remedy is not None and meant is None:  # what is nearest is the better hint
                hint = found.expand(remedy)
            break
    column = re.fullmatch(r"`data\.columns\.\w+` names (`.+`), and there is .*", error.what)
    what = error.what
    if column is not None:
        what = f"There is no column {column[1]}, which the model's rows have"
        meant = _MEANT.fullmatch(hint) if hint else None
        hint = f"Rename {meant[1]} to {column[1]}." if meant else None
    if where is not None and _KEY.fullmatch(where.strip("`")):
        where = OPTION
    if expected is not None:
        expected = re.sub(r" \(`data\.[a-z_]+`\)", "", expected)
    if hint is not None and _KEY.search(hint):
        hint = None
    return DataError(what, where=where, expected=expected, hint=hint)
