"""Every error that kft raises on purpose, and the one place that formats them.

KftError
├── UsageError         a command was called with wrong words or paths       exit 2
├── RecipeError        a recipe can't be read or doesn't make sense         exit 2
├── DataError          a file or row of the data set can't be used          exit 2
├── ModelError         a checkpoint or adapter doesn't load or doesn't fit  exit 2
├── MemoryPlanError    the run won't fit on the device                      exit 2
├── TrainError         training can't go on (a loss isn't finite)           exit 1
└── ExportError        a merged model can't be written or doesn't agree     exit 1

Exit code 2 means: found before any training, mend the input. 1 means: failed later.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

Severity = Literal["error", "warning", "note"]


class KftError(Exception):
    """An error in four parts: what is wrong, where, what was expected, one hint.

    Args:
        what: One sentence without a full stop; what the user typed stands in backticks.
        where: ``file:line``, a key, or a layer; ``None`` when there is no place.
        expected: What would have been right, with units.
        hint: One edit or one command that mends it; ``None`` rather than a vague one.

    Example:
        >>> print(KftError("No such file", where="`data.train`", hint="`data.train=rows.csv`"))
        error: No such file
          --> `data.train`
        <BLANKLINE>
        hint: `data.train=rows.csv`
    """

    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        expected: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(what, where, expected, hint)
        self.what = what
        self.where = where
        self.expected = expected
        self.hint = hint

    def __str__(self) -> str:
        lines = [f"error: {self.what}"]
        if self.where is not None:
            lines.append(f"  --> {self.where}")
        if self.expected is not None:
            lines.append(f"  expected: {self.expected}")
        if self.hint is not None:
            lines.extend(["", f"hint: {self.hint}"])
        return "\n".join(lines)


class UsageError(KftError):
    """A command was called with wrong words or paths."""

    exit_code = 2


class RecipeError(KftError):
    """A recipe can't be read or doesn't make sense."""

    exit_code = 2


class DataError(KftError):
    """A file or row of the data set can't be used."""

    exit_code = 2


class ModelError(KftError):
    """A checkpoint or adapter doesn't load or doesn't fit the task."""

    exit_code = 2


class MemoryPlanError(KftError):
    """The run won't fit on the device."""

    exit_code = 2


class TrainError(KftError):
    """Training can't go on, for example because a loss isn't finite."""


class ExportError(KftError):
    """A merged model can't be written, or doesn't agree with its adapter.

    ``numbers`` holds those of the verification when that is what failed.
    """

    numbers: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Finding:
    """Something a check noticed: as an error's parts, but collected instead of raised.

    Args:
        severity: ``error`` stops a run, ``warning`` is counted in its report, ``note`` informs.
        what: As in :class:`KftError`.
        where: As in :class:`KftError`.
        hint: As in :class:`KftError`.
        count: Number of rows (or keys) it was seen in; ``where`` is the first.
    """

    severity: Severity
    what: str
    where: str | None = None
    hint: str | None = None
    count: int = 1

    def __str__(self) -> str:
        times = f" ({self.count} times)" if self.count > 1 else ""
        lines = [f"{self.severity}: {self.what}{times}"]
        if self.where is not None:
            lines.append(f"  --> {self.where}")
        if self.hint is not None:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)


_SECRET_NAME = re.compile(r"TOKEN$|SECRET|PASSWORD|API_?KEY$", re.IGNORECASE)
_HUB_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{16,}")
_SHORTEST_SECRET = 8


def without_secrets(text: str) -> str:
    """The text with every token that the environment holds, or that looks like the hub's, hidden.

    Example:
        >>> without_secrets("401 for hf_" + "a1" * 17)
        '401 for [hidden]'
    """
    secrets = {
        value
        for name, value in os.environ.items()
        if _SECRET_NAME.search(name) and len(value) >= _SHORTEST_SECRET
    }
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "[hidden]")
    return _HUB_TOKEN.sub("[hidden]", text)


def nearest_name(word: str, names: Iterable[str]) -> str | None:
    """The name that ``word`` was probably meant to be, or ``None``.

    Example:
        >>> nearest_name("lora_alhpa", ["r", "lora_alpha"])
        'lora_alpha'
    """
    matches = difflib.get_close_matches(word, list(names), n=1, cutoff=0.6)
    return matches[0] if matches else None


def name_list(names: Sequence[str], limit: int = 5) -> str:
    """Names in backticks for an ``expected:`` line; past ``limit`` they end in an ellipsis.

    Example:
        >>> name_list(["r", "bias"])
        '`r`, `bias`'
    """
    shown = ", ".join(f"`{name}`" for name in names[:limit])
    return shown + (", ..." if len(names) > limit else "")


def counted(number: int, noun: str) -> str:
    """A number with its noun: one row, several rows.

    Args:
        number: How many.
        noun: In the singular; an ``s`` makes the plural.

    Example:
        >>> counted(1, "row"), counted(1200, "held-out row"), counted(0, "label")
        ('1 row', '1,200 held-out rows', '0 labels')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def share_of(part: float, whole: float = 1.0) -> str:
    """A share in percent; what is there isn't called 0.0%.

    Args:
        part: Of ``whole``, not negative.
        whole: Greater than 0.

    Example:
        >>> share_of(1, 8), share_of(1, 150_000), share_of(0.0)
        ('12.5%', 'under 0.1%', '0.0%')
    """
    share = part / whole
    return "under 0.1%" if 0 < share < 0.0005 else f"{share:.1%}"
