"""A run's ``held_out.jsonl`` read again: what its rows show, and metrics of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kft.evaluation.inputs import Inputs
from kft.evaluation.metrics.classification import (
    LabelScore,
    confusion_matrix,
    label_rows,
    multilabel_rows,
    scores_per_label,
)
from kft.evaluation.metrics.entities import count_entities
from kft.reporting.views import LabelRow, LabelView, NumberView

Lines = Sequence[Mapping[str, Any]]
"""The lines of ``held_out.jsonl``."""

_TUNED_METRICS = {
    "labels": ("accuracy", "macro_f1"),
    "numbers": ("r2", "pearson", "mean_squared_error"),
    "tags": ("entity_micro_f1", "entity_macro_f1"),
    "multilabels": ("multilabel_macro_f1", "multilabel_exact_match"),
}


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's ``held_out.jsonl``; none where nothing was held out."""
    path = folder / "held_out.jsonl"
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines if line]


def _kind(lines: Lines) -> str | None:
    """What the rows were given beside a loss, as the first line shows it."""
    first = lines[0]
    if "label" in first:
        return "labels"
    if "truth" not in first:
        return None
    if not isinstance(first["truth"], list):
        return "numbers"
    holds = {type(one) for line in lines for one in line["truth"]}
    return "tags" if str in holds else "multilabels"


def _column(lines: Lines, name: str) -> list[Any]:
    return [line[name] for line in lines]


def predictions(lines: Lines, labels: Sequence[str]) -> LabelView | NumberView | None:
    """What two models said of rows, to be shown; ``None`` where that is text or only a loss.

    Args:
        lines: The rows; at least one.
        labels: Names of the labels.
    """
    kind = _kind(lines)
    if kind is None:
        return None
    if kind == "numbers":
        return NumberView(*(_column(lines, name) for name in ("truth", "base", "tuned")))
    if kind == "tags":
        before, after = (
            count_entities(_column(lines, side), _column(lines, "truth")).by_type()
            for side in ("base", "tuned")
        )
        none = LabelScore(0.0, 0.0, 0.0, 0)
        rows = [_label_row(name, before.get(name, none), after[name]) for name in after]
        return LabelView(rows, are_entities=True)
    if kind == "multilabels":
        truth = _column(lines, "truth")
        names = list(labels) or [str(number) for number in range(len(truth[0]))]
        counted = [multilabel_rows(_column(lines, side), truth) for side in ("base", "tuned")]
        return LabelView(_label_rows(names, *map(scores_per_label, counted)))
    truth = _column(lines, "label")
    sides = [_column(lines, side) for side in ("base_label", "tuned_label")]
    num = max(len(labels), 1 + max(max(column) for column in (truth, *sides)))
    names = [*labels, *(str(number) for number in range(len(labels), num))]
    scores = [scores_per_label(label_rows(side, truth, num)) for side in sides]
    matrix: list[list[int]] = confusion_matrix(sides[1], truth, num).tolist()
    return LabelView(_label_rows(names, *scores), matrix)


def _label_rows(
    names: Sequence[str], before: Sequence[LabelScore], after: Sequence[LabelScore]
) -> list[LabelRow]:
    return [_label_row(*row) for row in zip(names, before, after, strict=True)]


def _label_row(name: str, before: LabelScore, after: LabelScore) -> LabelRow:
    return LabelRow(name, after.support, after.precision, after.recall, before.f1, after.f1)


def truths_of(lines: Lines) -> list[tuple[Any, ...]]:
    """What must be equal in two runs for their rows to be the same."""
    return [(Path(line["place"]).name, line.get("label"), line.get("truth")) for line in lines]


def tuned_inputs(lines: Lines, labels: Sequence[str]) -> Inputs:
    """What a run's tuned model showed on its rows, for metrics."""
    if not lines:
        return {}
    inputs: dict[Any, dict[str, Any]] = {
        "nats": {"nats": _column(lines, "tuned_nats"), "num_targets": _column(lines, "num_targets")}
    }
    kind = _kind(lines)
    if kind == "labels":
        truth, said = _column(lines, "label"), _column(lines, "tuned_label")
        inputs[kind] = {
            "predictions": said,
            "references": truth,
            "num_labels": max(len(labels), 1 + max(*truth, *said)),
        }
    elif kind is not None:
        inputs[kind] = {
            "predictions": _column(lines, "tuned"),
            "references": _column(lines, "truth"),
        }
    return inputs


def metrics_of(inputs: Inputs) -> list[str]:
    """Names of the metrics by which the tuned models of two runs are compared."""
    names = ["eval_loss"] if "nats" in inputs else []
    for kind, found in _TUNED_METRICS.items():
        names += found if kind in inputs else ()
    return names
