"""What is wrong with the texts of a data set: mojibake, lone jamo, unseen characters and more.

Texts are fed one at a time and looked at in batches: one table look-up per character tells which
rows can have a fault at all, and only those are read more closely. Memory does not grow with the
number of texts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from kft.data import characters as of_kind
from kft.data.faults import FAULTS, PATTERNS, faults_at_close_look
from kft.errors import Finding, Severity

_BATCH_CHARACTERS = 1 << 18
_BATCH_TEXTS = 1 << 13
_RUN = 4
_LINE_END = 0x0A
_LONG = 20_000  # characters
_MOST = 0.5  # shares of a column's rows
_MANY = 0.1
_FEW = 0.001
_SIMPLE = {
    of_kind.REPLACEMENT: "replacement character",
    of_kind.COMPATIBILITY_JAMO: "compatibility jamo",
    of_kind.FILLER: "filler",
    of_kind.CONTROL: "control character",
    of_kind.FULL_WIDTH: "full width",
    of_kind.HALF_WIDTH_JAMO: "half-width jamo",
    of_kind.WIDE_SPACE: "wide space",
    of_kind.MIDDLE_DOT_JAMO: "middle dot",
    of_kind.HANJA: "hanja",
    of_kind.KANA | of_kind.CYRILLIC: "foreign letters",
}
_SUSPECT = of_kind.LATIN_1 | of_kind.RARE_SYLLABLE | of_kind.HANJA
_FEW_DIGITS = 9


class TextHealth:
    r"""Looks at every text and remembers how often each fault occurs, and where first.

    Example:
        >>> health = TextHealth()
        >>> health.add("안녕\u200b하세요", "rows.csv:2", "질문")
        >>> [finding.where for finding in health.findings()]
        ['rows.csv:2']
    """

    def __init__(self) -> None:
        self._columns: dict[str, _Column] = {}

    def add(self, text: str, place: str, column: str = "text") -> None:
        """Take in a text.

        Args:
            text: As it will be trained on.
            place: ``file:line`` of its row.
            column: What it is; every column is judged by itself.
        """
        if column not in self._columns:
            self._columns[column] = _Column(column)
        self._columns[column].add(text, place)

    def findings(self) -> list[Finding]:
        """A finding for each fault of each column, the worst first."""
        found = [finding for column in self._columns.values() for finding in column.findings()]
        order: tuple[Severity, ...] = ("error", "warning", "note")
        return sorted(found, key=lambda finding: order.index(finding.severity))

    def summary(self) -> dict[str, dict[str, Any]]:
        """Column -> ``rows``, ``characters``, ``shares`` of the scripts, ``faults`` (rows each)."""
        return {name: column.summary() for name, column in self._columns.items()}


class _Column:
    """The texts of one column."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.num_rows = 0
        self.num_korean = 0
        self.scripts = np.zeros(len(of_kind.SCRIPTS), dtype=np.int64)
        self.counts: dict[str, int] = {}
        self.first: dict[str, tuple[str, str]] = {}  # fault -> place, what was seen
        self._texts: list[str] = []
        self._places: list[str] = []
        self._size = 0

    def add(self, text: str, place: str) -> None:
        self._texts.append(text)
        self._places.append(place)
        self._size += len(text)
        if self._size > _BATCH_CHARACTERS or len(self._texts) == _BATCH_TEXTS:
            self._look()

    def findings(self) -> Iterator[Finding]:
        self._look()
        for name, count in self.counts.items():
            fault, (place, seen) = FAULTS[name], self.first[name]
            share = count / self.num_rows
            if name == "not korean" and self.num_korean < _MOST * self.num_rows:
                continue  # a column in another language, such as the English of a translation
            part = f", {share:.1%} of its rows" if count > 1 and share >= _FEW else ""
            yield Finding(
                _severity(name, share),
                f"`{self.name}` has {fault.what}{part}{seen}",
                where=place,
                hint=fault.hint,
                count=count,
            )

    def summary(self) -> dict[str, Any]:
        self._look()
        total = max(int(self.scripts.sum()), 1)
        return {
            "rows": self.num_rows,
            "characters": int(self.scripts.sum()),
            "shares": {
                name: int(count) / total
                for name, count in zip(of_kind.SCRIPTS, self.scripts, strict=True)
            },
            "faults": dict(self.counts),
        }

    def _look(self) -> None:
        """Judge the texts that are waiting."""
        if not self._texts:
            return
        codes = of_kind.code_points("\n".join(self._texts) + "\n")
        lengths = np.fromiter(map(len, self._texts), dtype=np.int64, count=len(self._texts))
        starts = np.concatenate([[0], np.cumsum(lengths + 1)[:-1]])
        bits = of_kind.kinds()[codes]
        kinds = np.bitwise_or.reduceat(bits, starts)
        self.scripts += np.bincount(of_kind.scripts()[codes], minlength=len(of_kind.SCRIPTS))
        self.scripts[of_kind.SCRIPTS.index("space")] -= len(lengths)
        self.num_rows += len(lengths)
        self.num_korean += int(((kinds & of_kind.HANGUL) != 0).sum())
        self._note("long row", np.flatnonzero(lengths > _LONG))
        self._note("run", _rows_with_runs(codes, starts))
        self._look_closely(kinds, np.add.reduceat((bits & of_kind.DIGIT) != 0, starts, dtype=int))
        self._note("empty", np.flatnonzero((kinds & of_kind.INK) == 0))
        kinds[(kinds & of_kind.INK) == 0] = 0
        letters = (kinds & (of_kind.HANGUL | of_kind.LETTER)) == of_kind.LETTER
        self._note("not korean", np.flatnonzero(letters))
        for bit, name in _SIMPLE.items():
            self._note(name, np.flatnonzero(kinds & np.uint32(bit)), bit)
        self._texts, self._places, self._size = [], [], 0

    def _look_closely(self, kinds: np.ndarray, digits: np.ndarray) -> None:
        """Faults that only a pattern can tell; a mangled row has no other fault than that."""
        bits = np.uint32(_SUSPECT | PATTERNS)
        for row in np.flatnonzero(((kinds & bits) != 0) | (digits >= _FEW_DIGITS)):
            text, kind = self._texts[row], int(kinds[row])
            for name, seen in faults_at_close_look(text, kind, is_suspect=bool(kind & _SUSPECT)):
                self._count(name, 1, self._places[row], seen)
                if name == "mojibake":
                    kinds[row] = of_kind.INK | of_kind.HANGUL

    def _note(self, name: str, rows: np.ndarray, bit: int | None = None) -> None:
        if not len(rows):
            return
        seen, text = "", self._texts[rows[0]]
        if bit is not None and name not in self.first and FAULTS[name].shows_character:
            found = of_kind.kinds()[of_kind.code_points(text)] & np.uint32(bit)
            seen = f", first {of_kind.name_of(text[int(np.argmax(found != 0))])}"
        self._count(name, len(rows), self._places[rows[0]], seen)

    def _count(self, name: str, count: int, place: str, seen: str) -> None:
        self.counts[name] = self.counts.get(name, 0) + count
        self.first.setdefault(name, (place, seen))


def _severity(name: str, share: float) -> Severity:
    fault = FAULTS[name]
    if fault.ruins and share > _MOST:
        return "error"
    if name == "not korean" and share > _MANY:
        return "warning"
    return "note" if share < _FEW and not fault.never_slight else fault.severity


def _rows_with_runs(codes: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Rows that hold one character four times or more in a row."""
    same = codes[1:] == codes[:-1]
    same &= codes[1:] != _LINE_END
    for _ in range(_RUN - 2):
        same = same[1:] & same[:-1]
    return np.unique(np.searchsorted(starts, np.flatnonzero(same), side="right") - 1)
