"""Metrics of named entities: whole entities as seqeval counts them, and characters as KLUE does.

Tags are ``O``, ``B-TYPE`` and ``I-TYPE``. Two readings of a sequence are in use and differ on
``I-`` without a beginning: by default (conlleval's reading, seqeval without a mode) it begins an
entity; strictly (IOB2, seqeval's ``mode="strict"``, which KLUE reports) it is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kft.evaluation.metrics.classification import (
    LabelScore,
    f1_per_label,
    label_rows,
    micro_f1,
    scores_per_label,
)
from kft.evaluation.metrics.statistic import Array, SumStatistic, divide

Tags = Sequence[Sequence[str]]


def find_entities(tags: Sequence[str], *, strict: bool = False) -> list[tuple[str, int, int]]:
    """The entities of one sequence: type, first position, position after the last.

    Args:
        tags: One tag per token or character.
        strict: Only ``B-`` begins an entity; otherwise an ``I-`` that continues nothing of its
            own type does too.

    Raises:
        ValueError: If a tag is not ``O``, ``B-...`` or ``I-...``.

    Source:
        Ramshaw & Marcus 1995, "Text Chunking using Transformation-Based Learning"; seqeval's
        ``get_entities`` and ``scheme.IOB2``.

    Example:
        >>> find_entities(["B-PS", "I-PS", "O", "I-LC"])
        [('PS', 0, 2), ('LC', 3, 4)]
        >>> find_entities(["B-PS", "I-PS", "O", "I-LC"], strict=True)
        [('PS', 0, 2)]
    """
    found: list[tuple[str, int, int]] = []
    open_type, start = "", -1  # start is -1 outside of an entity
    for position, tag in enumerate([*tags, "O"]):
        mark, kind = _split(tag)
        continues = mark == "I" and start >= 0 and kind == open_type
        if continues:
            continue
        if start >= 0:
            found.append((open_type, start, position))
        begins = mark == "B" or (mark == "I" and not strict)
        open_type, start = (kind, position) if begins else ("", -1)
    return found


def _split(tag: str) -> tuple[str, str]:
    mark, _, kind = tag.partition("-")
    if mark not in ("O", "B", "I") or (mark == "O" and kind):
        raise ValueError(f"`{tag}` is no tag; expected `O`, `B-TYPE` or `I-TYPE`")
    return mark, kind or "_"


@dataclass(frozen=True)
class EntityCounts:
    """What each sequence adds to the counts of each entity type.

    Args:
        types: Types that occur, sorted.
        rows: float64 (sequences, 3 * types): rightly found, found, true; each for all types.
    """

    types: tuple[str, ...]
    rows: Array

    def by_type(self) -> dict[str, LabelScore]:
        """Precision, recall, F1 and support of each type."""
        return dict(zip(self.types, scores_per_label(self.rows), strict=True))


def count_entities(predicted: Tags, truths: Tags, *, strict: bool = False) -> EntityCounts:
    """The counts behind entity-level F1: an entity is right if type and both ends are.

    Args:
        predicted: Tags of each sequence.
        truths: The true ones, equally many in each sequence.
        strict: As in :func:`find_entities`.

    Raises:
        ValueError: If lengths differ, or something is no tag.
    """
    _check_lengths(predicted, truths)
    found = [set(find_entities(tags, strict=strict)) for tags in predicted]
    true = [set(find_entities(tags, strict=strict)) for tags in truths]
    types = tuple(sorted({kind for row in [*found, *true] for kind, _, _ in row}))
    column = {kind: number for number, kind in enumerate(types)}
    rows = np.zeros((len(true), 3, len(types)))
    for number, (given, actual) in enumerate(zip(found, true, strict=True)):
        for part, entities in enumerate((given & actual, given, actual)):
            for kind, _, _ in entities:
                rows[number, part, column[kind]] += 1
    return EntityCounts(types, rows.reshape(len(true), 3 * len(types)))


def entity_f1(
    predicted: Tags, truths: Tags, *, average: str = "micro", strict: bool = False
) -> SumStatistic:
    """Entity-level F1 by seqeval's definition, between 0 and 1.

    Args:
        predicted: Tags of each sequence.
        truths: The true ones, equally many in each sequence.
        average: ``micro`` counts all entities together; ``macro`` is the mean over the types
            that occur on either side.
        strict: As in :func:`find_entities`. KLUE-NER reports strict macro.

    Raises:
        ValueError: If lengths differ, or something is no tag.

    Example:
        >>> from kft.evaluation.metrics.statistic import value
        >>> value(entity_f1([["B-PS", "O"]], [["B-PS", "B-LC"]]))      # 2 * 1 / (1 + 2)
        0.6666666666666666
    """
    counts = count_entities(predicted, truths, strict=strict)
    score = {"micro": micro_f1, "macro": macro_over_occurring}[average]
    return SumStatistic(counts.rows, score)


def macro_over_occurring(sums: Array) -> Array:
    """Mean F1 of the types that were found or are true in the rows taken; 0 without any."""
    _, given, true = np.split(sums, 3, axis=-1)
    occurs = (given + true) > 0
    return divide((f1_per_label(sums) * occurs).sum(axis=-1), occurs.sum(axis=-1), empty=0.0)


def klue_character_f1(
    predicted: Tags, truths: Tags, labels: Sequence[str] | None = None
) -> SumStatistic:
    """KLUE's character-level F1: the mean over all tags but ``O``, each tag a class of its own.

    Give one tag per character; KLUE tags spaces too. As in KLUE, a named tag that neither side
    uses counts with 1. NaN where no tag counts.

    Args:
        predicted: Tags of each sequence.
        truths: The true ones, equally many in each sequence.
        labels: The tags that count, ``O`` left out if named; ``None`` are those that occur.

    Source:
        Park et al. 2021, "KLUE: Korean Language Understanding Evaluation", section 3.4. Its
        published baseline counts ``O`` in, the commonest tag and the easiest.
    """
    _check_lengths(predicted, truths)
    occurring = {tag for row in [*predicted, *truths] for tag in row}
    for tag in occurring:
        _split(tag)
    counted = [tag for tag in (labels or sorted(occurring)) if tag != "O"]
    index = {tag: number for number, tag in enumerate(counted)}
    rest = len(counted)  # one class for all that is not counted
    rows = np.zeros((len(truths), 3 * rest))
    for number, (given, true) in enumerate(zip(predicted, truths, strict=True)):
        characters = label_rows(
            np.array([index.get(tag, rest) for tag in given], dtype=int),
            np.array([index.get(tag, rest) for tag in true], dtype=int),
            rest + 1,
        )
        sums = characters.sum(axis=0).reshape(3, rest + 1)[:, :rest]
        rows[number] = sums.reshape(-1)
    return SumStatistic(rows, _macro_with_unused_right)


def _macro_with_unused_right(sums: Array) -> Array:
    right, given, true = np.split(sums, 3, axis=-1)
    f1 = divide(2 * right, given + true, empty=1.0)
    return divide(f1.sum(axis=-1), np.asarray(f1.shape[-1]), empty=np.nan)


def _check_lengths(predicted: Tags, truths: Tags) -> None:
    if len(predicted) != len(truths):
        raise ValueError(f"{len(predicted)} predicted sequences for {len(truths)} true ones")
    for number, (given, true) in enumerate(zip(predicted, truths, strict=True)):
        if len(given) != len(true):
            raise ValueError(f"sequence {number}: {len(given)} tags for {len(true)}")
