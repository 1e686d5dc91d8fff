"""One model on the held-out rows: its loss on each, what it says of each, and the metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from kft.evaluation.inputs import baseline, kind_of_rows, row_inputs, statistics
from kft.evaluation.metrics.entries import Kind
from kft.evaluation.metrics.statistic import Statistic, value
from kft.evaluation.predictions import Outputs, predict
from kft.tasks.task import Batch, Example, LossModule
from kft.train.loop import row_losses

Collate = Callable[[Sequence[Example]], Batch]


@dataclass(frozen=True)
class HeldOut:
    """The held-out rows.

    Args:
        examples: One per row.
        by_label: For each label the rows with that label's name as their answer; empty when
            the answers are not labels.
        labels: Names of the classes or tags of tasks that have them.
    """

    examples: Sequence[Example]
    by_label: Sequence[Sequence[Example]] = ()
    labels: Sequence[str] = ()

    def kind(self, task: str) -> Kind | None:
        """What models of a task say of the rows beside a loss."""
        return kind_of_rows(task, self.examples, have_labels=bool(self.by_label))


@dataclass(frozen=True)
class Measurement:
    """What one model showed on the held-out rows.

    Args:
        result: Names and numbers, for ``result.json``.
        statistics: The metrics, ready to be resampled.
        rows: Per-row numbers: ``totals`` in nats, ``counts`` of targets, and ``correct``
            (0 or 1) where rows have one label each.
        predicted: What each row was given, where it was not text: the number of a class, those
            of all its classes, a number, or the tags of its words.
    """

    result: dict[str, Any]
    statistics: dict[str, Statistic] = field(repr=False)
    rows: dict[str, list[float]] = field(repr=False)
    predicted: list[Any] = field(default_factory=list, repr=False)


def measure(
    module: LossModule,
    held_out: HeldOut,
    collate: Collate,
    *,
    rows_per_batch: int,
    device: torch.device,
    task: str = "causal_lm",
    metrics: Sequence[str] = ("eval_loss",),
) -> Measurement:
    """The loss on each row, what the model says of it, and metrics of that.

    Where answers of ``causal_lm`` are labels, a row's predicted label is the one whose name,
    given the row's prompt, has the largest log-likelihood; so a base model that would never
    answer in labels has a fair score too.

    Args:
        module: The model with its loss inside.
        held_out: The rows; at least one.
        collate: Pads a few examples to one batch.
        rows_per_batch: Rows of one batch.
        device: Where the module is.
        task: The task's name.
        metrics: Names of metrics that such rows can be measured by.

    Source:
        Brown et al. 2020, "Language Models are Few-Shot Learners", section 2.4, compares the
        likelihood of each completion.
    """
    kind = held_out.kind(task)
    if held_out.by_label and task == "causal_lm":
        outputs = _by_likelihood(module, held_out, collate, rows_per_batch, device)
    elif kind is None:
        totals, counts = _losses_in_order(
            module, held_out.examples, collate, rows_per_batch, device
        )
        outputs = Outputs(totals, counts, [])
    else:
        outputs = predict(module, held_out.examples, collate, rows_per_batch, device)
    inputs = row_inputs(kind, outputs, held_out.examples, held_out.labels)
    found = statistics(metrics, inputs)
    rows = {"totals": outputs.totals, "counts": [float(count) for count in outputs.counts]}
    if kind == "labels":
        pairs = zip(outputs.predicted, held_out.examples, strict=True)
        rows["correct"] = [float(given == example.label) for given, example in pairs]
    result = {
        **{name: value(statistic) for name, statistic in found.items()},
        **baseline(inputs),
        "num_targets": sum(outputs.counts),
        "num_rows": len(outputs.totals),
    }
    return Measurement(result, found, rows, outputs.predicted)


def _by_likelihood(
    module: LossModule,
    held_out: HeldOut,
    collate: Collate,
    rows_per_batch: int,
    device: torch.device,
) -> Outputs:
    """The likeliest label of each row, and the loss of its true one."""
    per_label = [
        _losses_in_order(module, examples, collate, rows_per_batch, device)
        for examples in held_out.by_label
    ]
    labels = [example.label for example in held_out.examples if example.label is not None]
    if len(labels) != len(held_out.examples):
        raise ValueError("labels are to be scored, and an example has none")
    nats = [totals for totals, _ in per_label]
    predicted = [
        min(range(len(nats)), key=lambda label: nats[label][row]) for row in range(len(labels))
    ]
    totals = [nats[label][row] for row, label in enumerate(labels)]
    counts = [per_label[label][1][row] for row, label in enumerate(labels)]
    return Outputs(totals, counts, predicted)


def _losses_in_order(
    module: LossModule,
    examples: Sequence[Example],
    collate: Collate,
    rows_per_batch: int,
    device: torch.device,
) -> tuple[list[float], list[int]]:
    """Each row's nats and targets in the rows' order, though computed in order of length."""
    order = sorted(range(len(examples)), key=lambda row: -len(examples[row].input_ids))
    parts = [
        order[start : start + rows_per_batch] for start in range(0, len(order), rows_per_batch)
    ]
    batches = (collate([examples[row] for row in part]) for part in parts)
    totals, counts = row_losses(module, batches, device)
    nats, targets = [0.0] * len(examples), [0] * len(examples)
    for row, total, count in zip(order, totals, counts, strict=True):
        nats[row], targets[row] = total, count
    return nats, targets
