"""One model on the held-out rows: its loss on each, and which label it finds likeliest."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from kft.evaluation.measures import label_scores, text_loss
from kft.evaluation.predictions import SCORES, Outputs, predict
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


@dataclass(frozen=True)
class Measurement:
    """What one model showed on the held-out rows.

    Args:
        result: Names and numbers, for ``result.json``.
        rows: Per-row numbers for paired intervals: ``totals`` in nats, ``counts`` of targets,
            and ``correct`` (0 or 1) where labels were scored.
        predicted: What each row was given, where it was not text: the number of a class, those
            of all its classes, a number, or the tags of its words.
    """

    result: dict[str, Any]
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
) -> Measurement:
    """Loss, and what the task's own numbers are (:data:`kft.evaluation.predictions.SCORES`).

    Of ``causal_lm``: loss, perplexity, bits per character, and where answers are labels their
    accuracy.

    A row's predicted label is the one whose name, given the row's prompt, has the largest
    log-likelihood; so a base model that would never answer in labels has a fair score too.

    Args:
        module: The model with its loss inside.
        held_out: The rows; at least one.
        collate: Pads a few examples to one batch.
        rows_per_batch: Rows of one batch.
        device: Where the module is.
        task: The task's name.

    Source:
        Brown et al. 2020, "Language Models are Few-Shot Learners", section 2.4, compares the
        likelihood of each completion.
    """
    if task in SCORES:
        return _measure_outputs(
            task, predict(module, held_out.examples, collate, rows_per_batch, device), held_out
        )

    def losses(examples: Sequence[Example]) -> tuple[list[float], list[int]]:
        return _losses_in_order(module, examples, collate, rows_per_batch, device)

    if not held_out.by_label:
        totals, counts = losses(held_out.examples)
        loss = text_loss(totals, counts, [example.target_text for example in held_out.examples])
        return Measurement(loss.as_dict(), {"totals": totals, "counts": [float(c) for c in counts]})
    per_label = [losses(examples) for examples in held_out.by_label]
    labels = [example.label for example in held_out.examples if example.label is not None]
    if len(labels) != len(held_out.examples):
        raise ValueError("labels are to be scored, and an example has none")
    nats = [totals for totals, _ in per_label]
    predicted = [
        min(range(len(nats)), key=lambda label: nats[label][row]) for row in range(len(labels))
    ]
    totals = [nats[label][row] for row, label in enumerate(labels)]
    counts = [per_label[label][1][row] for row, label in enumerate(labels)]
    loss = text_loss(totals, counts, [example.target_text for example in held_out.examples])
    scores = label_scores(predicted, labels, len(held_out.by_label))
    rows = {
        "totals": totals,
        "counts": [float(count) for count in counts],
        "correct": [float(a == b) for a, b in zip(predicted, labels, strict=True)],
        "predicted": [float(label) for label in predicted],
    }
    return Measurement(loss.as_dict() | scores, rows, predicted)


def _measure_outputs(task: str, outputs: Outputs, held_out: HeldOut) -> Measurement:
    result, rows = SCORES[task](outputs, held_out.examples, held_out.labels)
    loss = math.fsum(outputs.totals) / max(sum(outputs.counts), 1)
    counts = [float(count) for count in outputs.counts]
    sizes = {"num_targets": sum(outputs.counts), "num_rows": len(outputs.totals)}
    return Measurement(
        {"eval_loss": loss, **result, **sizes},
        {"totals": outputs.totals, "counts": counts, **rows},
        outputs.predicted,
    )


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
