"""How often each label occurs."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kft.data.labels import label_number
from kft.errors import Finding, counted, name_list

_RARE = 0.01
_FEWEST_NAMES = 20
_FEWEST_ROWS = 2  # of each label, on average
_SLIPS = 2
"""Rows in which a label may be a slip of the pen."""
_TIMES = 10
"""How often, against that, the label stands that was meant."""
_ALIKE = 0.75
"""Share of letters in common; 긍종 and 긍정 have 0.83, 부정 and 긍정 0.55."""
_NEGATION = re.compile(
    unicodedata.normalize("NFD", r"(비|불|부|무|미|반|탈|un|non|not|no|ab|anti|dis|in|im)[-_ ]?")
)
"""What makes another label's opposite of it: 비정상 is no typo of 정상."""
_MOST_SLIPS = 50
"""More labels that hardly occur are no slips, and comparing all would take long."""


@dataclass(frozen=True)
class LikelyTypo:
    """A label that hardly occurs, and looks like one that often does.

    Args:
        label: The rare one.
        count: Rows that have it.
        meant: The frequent one.
        meant_count: Rows that have that.
        place: ``file:line`` of the first row that has the rare one; empty where it isn't known.
    """

    label: str
    count: int
    meant: str
    meant_count: int
    place: str = ""

    def told(self) -> str:
        """What is seen, in a sentence."""
        there = f"`{self.label}` is the label of {counted(self.count, 'row')}"
        return f"{there}, and `{self.meant}` of {self.meant_count:,}: it may be a typo"

    def finding(self) -> Finding:
        """As a warning."""
        hint = (
            f"Write `{self.meant}` there, and take `{self.label}` out of `data.labels` if it is in "
            "it; leave both if both are meant."
        )
        return Finding("warning", self.told(), where=self.place or None, hint=hint)


def likely_typos(counts: Mapping[str, int], places: Mapping[str, str]) -> list[LikelyTypo]:
    """The labels of one or two rows that are nearly spelled as a frequent one, in order.

    Case doesn't tell two spellings apart, and digits do: `2점` is no typo of `1점`. Where nothing
    but case differs, the rarer one is named however often it occurs.

    Args:
        counts: Label -> rows that have it.
        places: Label -> ``file:line`` of the first of them.

    Example:
        >>> found = likely_typos({"긍정": 200, "부정": 1, "긍종": 1}, {"긍종": "rows.csv:7"})
        >>> [(typo.label, typo.meant, typo.place) for typo in found]
        [('긍종', '긍정', 'rows.csv:7')]
    """
    found = _other_cases(counts, places)
    known = {typo.label for typo in found}
    rare = [label for label, count in counts.items() if 0 < count <= _SLIPS and label not in known]
    frequent = [label for label, count in counts.items() if count >= _TIMES]
    for label in rare if len(rare) <= _MOST_SLIPS else []:
        near = [name for name in frequent if counts[name] >= _TIMES * counts[label]]
        meant = max(near, key=lambda name: _likeness(label, name), default=None)
        if meant is not None and _likeness(label, meant) >= _ALIKE:
            place = places.get(label, "")
            found.append(LikelyTypo(label, counts[label], meant, counts[meant], place))
    return found


def _other_cases(counts: Mapping[str, int], places: Mapping[str, str]) -> list[LikelyTypo]:
    """Every label but the most frequent of those that only case tells apart."""
    most: dict[str, str] = {}
    for label, count in counts.items():
        usual = most.setdefault(label.casefold(), label)
        if count > counts[usual]:
            most[label.casefold()] = label
    return [
        LikelyTypo(label, count, meant, counts[meant], places.get(label, ""))
        for label, count in counts.items()
        if count and (meant := most[label.casefold()]) != label
    ]


def _likeness(one: str, other: str) -> float:
    """Share of letters in common; a syllable of Hangul counts as its letters."""
    if re.findall(r"\d+", one) != re.findall(r"\d+", other):
        return 0.0
    a, b = (unicodedata.normalize("NFD", name).casefold() for name in (one, other))
    longer, shorter = sorted((a, b), key=len, reverse=True)
    if longer.endswith(shorter) and _NEGATION.fullmatch(longer.removesuffix(shorter)):
        return 0.0
    return difflib.SequenceMatcher(None, a, b, autojunk=False).ratio()


class LabelCounts:
    """Counts the labels of the training rows and of the held-out rows.

    Args:
        names: Names of the labels, in order.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self.train = [0] * len(self.names)
        self.held_out = [0] * len(self.names)
        self.places: dict[str, str] = {}
        self._several = False
        self._rows = 0

    def add(self, label: int, *, held_out: bool = False, place: str = "") -> None:
        """Take in the label of a row, which stands at ``place``."""
        self._count([label], held_out=held_out, place=place)

    def add_several(
        self, labels: Collection[int], *, held_out: bool = False, place: str = ""
    ) -> None:
        """Take in a row with any number of labels, or tags: each counts once."""
        self._several = True
        self._count(labels, held_out=held_out, place=place)

    def _count(self, labels: Collection[int], *, held_out: bool, place: str) -> None:
        self._rows += not held_out
        for label in labels:
            (self.held_out if held_out else self.train)[label] += 1
            self.places.setdefault(self.names[label], place)

    def summary(self) -> dict[str, Any]:
        """``counts`` and ``held_out_counts`` by name, training ``rows``, ``majority_share``."""
        total = self._rows
        return {
            "counts": dict(zip(self.names, self.train, strict=True)),
            "held_out_counts": dict(zip(self.names, self.held_out, strict=True)),
            "rows": total,
            "majority_share": max(self.train, default=0) / total if total else 0.0,
        }

    def findings(self) -> list[Finding]:
        """Labels that can hardly be learned."""
        total = self._rows
        if len(self.names) > _FEWEST_NAMES and total < _FEWEST_ROWS * len(self.names):
            return [
                Finding(
                    "error",
                    f"There are {len(self.names):,} labels for {total:,} training rows: nearly "
                    "every row has its own",
                    where="`data.columns.label`",
                    hint="Name the column that holds the classes; this one may hold identifiers.",
                )
            ]
        typos = self._typos()
        told = {typo.label for typo in typos}
        found = [typo.finding() for typo in typos]
        counts = dict(zip(self.names, self.train, strict=True))
        never = [name for name, count in counts.items() if count == 0 and name not in told]
        if never:
            found.append(
                Finding(
                    "warning",
                    f"No training row has the label {name_list(never)}: it can't be learned",
                    where="`data.labels`",
                    hint="Take it out of `data.labels`, or add rows that have it; where the file "
                    "has numbers from 1 on, write these into `data.labels`: names count from 0."
                    if never == [self.names[0]] and label_number(never[0]) is None
                    else "Take it out of `data.labels`, or add rows that have it.",
                )
            )
        rare = [name for name, count in counts.items() if 0 < count < _RARE * total]
        rare = [name for name in rare if name not in told]
        if rare:
            numbers = ", ".join(f"`{name}` {counts[name]:,}" for name in rare[:5])
            found.append(
                Finding(
                    "warning",
                    f"Labels are in less than 1% of {total:,} training rows: {numbers}",
                    where=self.places.get(rare[0]) or "`data.labels`",
                    hint="Add rows that have them; accuracy alone won't show whether they are "
                    "learned.",
                    count=len(rare),
                )
            )
        unmeasured = [
            name
            for name, count, seen in zip(self.names, self.held_out, self.train, strict=True)
            if count == 0 and seen and any(self.held_out) and name not in told
        ]
        if unmeasured:
            what = f"No held-out row has the label {name_list(unmeasured)}: it isn't measured"
            found.append(Finding("note", what, where="`data.eval`"))
        return found

    def _typos(self) -> list[LikelyTypo]:
        if self._several:  # such names are alike on purpose: `B-PS`, `I-PS`
            return []
        both = zip(self.names, self.train, self.held_out, strict=True)
        return likely_typos({name: train + apart for name, train, apart in both}, self.places)
