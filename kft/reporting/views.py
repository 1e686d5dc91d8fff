"""What a report shows, as plain values: whoever has a run puts them together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class LabelRow:
    """How well one label, or one kind of entity, was found.

    Args:
        name: Of the label.
        support: Rows (or entities) that truly have it.
        precision: After training.
        recall: After training.
        f1_before: Before training.
        f1_after: After training.
    """

    name: str
    support: int
    precision: float
    recall: float
    f1_before: float
    f1_after: float


@dataclass(frozen=True)
class LabelView:
    """Predictions of labels or tags.

    Args:
        rows: One per label.
        confusion: Rows by true label (down) and predicted label (across), after training;
            ``None`` where a row may have several labels.
        are_entities: The labels are kinds of entities.
    """

    rows: Sequence[LabelRow]
    confusion: Sequence[Sequence[int]] | None = None
    are_entities: bool = False


@dataclass(frozen=True)
class NumberView:
    """Predictions of numbers, in the rows' order.

    Args:
        truths: What is true.
        base: What the base model said.
        tuned: What the tuned model said.
    """

    truths: Sequence[float]
    base: Sequence[float]
    tuned: Sequence[float]


@dataclass(frozen=True)
class RunView:
    """One run.

    Args:
        name: Of its folder.
        result: The content of ``result.json``; empty for a run that did not finish.
        log: The lines of ``metrics.jsonl``.
        recipe: The resolved recipe: section -> key -> value.
        recipe_text: The same as it is written.
        environment: The content of ``environment.json``.
        meanings: Name of a metric -> what it is, in English.
        predictions: What it said of the held-out rows, where that is no text.
    """

    name: str
    result: Mapping[str, Any]
    log: Sequence[Mapping[str, Any]]
    recipe: Mapping[str, Any]
    recipe_text: str
    environment: Mapping[str, Any]
    meanings: Mapping[str, str]
    predictions: LabelView | NumberView | None = None


@dataclass(frozen=True)
class ComparisonView:
    """Several runs.

    Args:
        runs: In the order in which they were named.
        keys: Of the recipes, those that differ: key -> each run's value.
        pairs: For each run but the first: name of a metric -> its difference to the first run
            (``difference``, ``low``, ``high``, ``outcome``, ``num_rows``); empty where the
            held-out rows differ.
    """

    runs: Sequence[RunView]
    keys: Mapping[str, Sequence[Any]]
    pairs: Sequence[Mapping[str, Mapping[str, Any]]]
