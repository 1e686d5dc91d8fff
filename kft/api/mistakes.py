"""The held-out rows that the tuned model gets wrong the furthest, to be looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kft.api.measuring import Rows
from kft.api.row_report import parts_of
from kft.evaluation.held_out import Measurement
from kft.tasks.task import Record

MOST = 10
"""Rows that are shown."""

_LONGEST = 300  # characters of a row's text


def mistakes_of(
    rows: Rows, records: Sequence[Record], base: Measurement, tuned: Measurement
) -> list[dict[str, str]]:
    """The rows with a wrong label of the largest loss, or the numbers that are furthest off.

    A large loss on a wrong label is a model that is sure of it: often the label is what is wrong.

    Args:
        rows: As they were measured.
        records: The rows' records, for their texts.
        base: What the model said before training.
        tuned: What it said after.

    Returns:
        At most :data:`MOST`, each with ``place``, ``text``, ``truth``, ``base`` and ``tuned`` as
        texts, the worst first; none for rows of tags or running text.
    """
    kind, examples = rows.held_out.kind(rows.task.name), rows.held_out.examples
    names = rows.held_out.labels
    if kind == "labels":
        truths: list[Any] = [example.label for example in examples]
        how_far = np.array(tuned.rows["totals"], dtype=float)
    elif kind == "multilabels":
        truths = [list(example.label_ids or ()) for example in examples]
        how_far = np.array(tuned.rows["totals"], dtype=float)
    elif kind == "numbers":
        truths = [example.value for example in examples]
        how_far = np.abs(np.array(tuned.predicted, dtype=float) - np.array(truths, dtype=float))
    else:
        return []
    texts = {record.place: record for record in records}
    worst = [
        int(row)
        for row in np.argsort(-how_far, kind="stable")
        if truths[row] != tuned.predicted[row] and examples[row].place in texts
    ]
    return [
        {
            "place": examples[row].place,
            "text": _text(texts[examples[row].place]),
            "truth": _shown(truths[row], names),
            "base": _shown(base.predicted[row], names),
            "tuned": _shown(tuned.predicted[row], names),
        }
        for row in worst[:MOST]
    ]


def _text(record: Record) -> str:
    text = "\n".join(said for _, said in parts_of(record))
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _shown(value: Any, names: Sequence[str]) -> str:
    if isinstance(value, list):
        return ", ".join(_name(number, names) for number, flag in enumerate(value) if flag) or "–"
    return _name(value, names) if isinstance(value, int) else f"{value:.3g}"


def _name(number: int, names: Sequence[str]) -> str:
    return names[number] if number < len(names) else str(number)
