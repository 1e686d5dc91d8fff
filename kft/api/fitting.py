"""Whether a run learnt too little or too much: its curves, and its scores on training rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from kft.api.before_after import measure_held_out
from kft.api.loaded import Loaded
from kft.api.measuring import Look, Rows
from kft.evaluation.comparison import free_score
from kft.evaluation.fit import ScoreGap, fit_verdict
from kft.evaluation.held_out import HeldOut, Measurement
from kft.evaluation.metrics.registry import METRICS
from kft.train.runlog import read_log

MOST_TRAINING_ROWS = 500
"""Training rows that are measured for the gap."""

FEWEST_FOR_A_GAP = 50
"""Rows on either side below which a gap between scores may be chance."""


def fit_of(
    rows: Rows, folder: Path, looks: tuple[Look, Look], seen: Measurement | None
) -> dict[str, Any]:
    """The verdict on a run's fit, for ``result.json``.

    Args:
        rows: The held-out rows.
        folder: The run folder with its log.
        looks: The base model and the tuned one on the held-out rows.
        seen: The tuned one on some training rows.

    Returns:
        ``verdict``, ``reason``, ``best_step``, ``signal``, ``numbers``, and under
        ``training_rows`` what some training rows were measured at; empty without held-out rows.
    """
    base, tuned = looks
    if tuned.measurement is None:
        return {}
    log = read_log(folder)
    verdict = fit_verdict(
        [(line["step"], line["loss"]) for line in log if line.get("loss") is not None],
        [(line["step"], line["eval_loss"]) for line in log if line.get("eval_loss") is not None],
        base.result["eval_loss"],
        scores=_gaps(rows, seen.result if seen else {}, tuned.result),
    )
    told = asdict(verdict)
    return {"verdict": told.pop("name"), **told, "training_rows": seen.result if seen else {}}


def measure_training_rows(loaded: Loaded, module: Any, rows: Rows) -> Measurement | None:
    """The model on evenly spaced training rows, at most as many as are held out."""
    examples = loaded.data.train.examples
    num = min(len(examples), len(rows.held_out.examples), MOST_TRAINING_ROWS)
    if num == 0:
        return None
    places = np.linspace(0, len(examples) - 1, num).astype(int).tolist()
    # Without a variant for each label: where answers are labels, the loss alone is compared.
    some = HeldOut([examples[place] for place in places], (), rows.held_out.labels)
    possible = {"nats", some.kind(rows.task.name)}
    names = tuple(name for name in rows.choice.rows if METRICS[name].kind in possible)
    sample = replace(rows, held_out=some, choice=replace(rows.choice, rows=names))
    return measure_held_out(loaded, module, sample)


def _gaps(rows: Rows, train: Mapping[str, Any], tuned: Mapping[str, Any]) -> list[ScoreGap]:
    """The first score between 0 and 1 that both sides have, where rows are enough."""
    if min(train.get("num_rows", 0), tuned["num_rows"]) < FEWEST_FOR_A_GAP:
        return []
    for name in (rows.choice.headline, *rows.choice.rows):
        is_score = METRICS[name].higher_is_better and METRICS[name].high == 1
        sides = [side.get(name, math.nan) for side in (train, tuned)]
        if is_score and all(map(math.isfinite, sides)):  # R² of equal numbers is undefined
            return [ScoreGap(name, sides[0], sides[1], free_score(name, train))]
    return []
