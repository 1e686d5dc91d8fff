"""What kft's ``evaluate.Metric`` classes share: no network, no files, rows kept in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import evaluate
from datasets import Features, List, Value

from kft.evaluation.metrics.entries import Kind, MetricEntry
from kft.evaluation.metrics.generations import Generation
from kft.evaluation.metrics.registry import METRICS

TEXT, NUMBER, INDEX = Value("string"), Value("float64"), Value("int64")

PAIRS: dict[Kind, list[tuple[Any, Any]]] = {
    "labels": [(INDEX, INDEX)],
    "multilabels": [(List(INDEX), List(INDEX))],
    "numbers": [(NUMBER, NUMBER)],
    "tags": [(List(TEXT), List(TEXT))],
    "texts": [(TEXT, TEXT), (TEXT, List(TEXT))],
    "generations": [(TEXT, TEXT), (TEXT, List(TEXT))],
}
"""Types of a prediction and a reference; where a reference may be one or several, both."""

COLUMNS: dict[str, Any] = {"nats": NUMBER, "num_targets": INDEX, "texts": TEXT}

CLASSES: dict[str, type[OfflineMetric]] = {}
"""The class of each metric, by the metric's name."""


class OfflineMetric(evaluate.Metric):  # type: ignore[misc]  # evaluate has no types
    """What the classes below share.

    Args:
        options: As ``evaluate.Metric`` takes them. With more than one process the rows go
            through files, as evaluate needs it; else they stay in memory.
    """

    entry: ClassVar[MetricEntry]

    def __init_subclass__(cls, *, metric: str) -> None:
        """Tie a class to its entry in the table of metrics."""
        super().__init_subclass__()
        cls.entry = METRICS[metric]
        CLASSES[metric] = cls

    def __init__(self, **options: Any) -> None:
        options.setdefault("keep_in_memory", options.get("num_process", 1) == 1)
        super().__init__(**options)
        self.info.module_name = self.entry.name

    def _build_data_dir(self) -> str:
        """Where rows would be written; the folder is only made when they will be."""
        return self._data_dir_root if self.keep_in_memory else str(super()._build_data_dir())

    def _info(self) -> evaluate.MetricInfo:
        entry = self.entry
        return evaluate.MetricInfo(
            description=f"{entry.meaning}; from {entry.low:g} to {entry.high:g}.",
            citation="",
            inputs_description=f"Needs {', '.join(entry.inputs)}.",
            features=self._features(),
        )

    def _features(self) -> Features | list[Features]:
        entry = self.entry
        if entry.kind == "nats":
            return Features({name: COLUMNS[name] for name in entry.inputs})
        more = {"prompts": TEXT, "ended": Value("bool")} if entry.kind == "generations" else {}
        options = [
            Features({"predictions": given, "references": true, **more})
            for given, true in PAIRS[entry.kind]
        ]
        return options[0] if len(options) == 1 else options

    def _compute(self, **inputs: Any) -> dict[str, float]:
        if self.entry.kind == "generations":
            inputs = _as_generations(**inputs)
        return {self.entry.name: self.entry.compute(**inputs)}


def _as_generations(
    predictions: Sequence[str],
    references: Sequence[str | Sequence[str]],
    prompts: Sequence[str],
    ended: Sequence[bool],
    token_ids: Sequence[Sequence[int]] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Columns as rows: a :class:`Generation` each."""
    tokens = token_ids if token_ids is not None else [None] * len(predictions)
    rows = zip(predictions, prompts, ended, references, tokens, strict=True)
    return {"generations": [Generation(*row) for row in rows], **more}
