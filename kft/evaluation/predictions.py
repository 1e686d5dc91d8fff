"""What models with a head of their own said of each row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from kft.ops.losses import IGNORE_INDEX
from kft.tasks.task import Batch, Example


@dataclass(frozen=True)
class Outputs:
    """What a model said of each row, in the rows' order.

    Args:
        totals: The row's summed loss.
        counts: What of it was counted.
        predicted: What it was given: a class, zeros and ones for all classes, a number, or the
            tags of its words; empty where a loss is all there is.
    """

    totals: list[float]
    counts: list[int]
    predicted: list[Any]


def predict(
    module: Any,
    examples: Sequence[Example],
    collate: Callable[[Sequence[Example]], Batch],
    rows_per_batch: int,
    device: torch.device,
) -> Outputs:
    """Run a model over rows, the longest first, and put what it said in the rows' order.

    Args:
        module: With its loss inside and ``row_outputs``; put into eval mode for the while.
        examples: The rows.
        collate: Pads a few examples to one batch.
        rows_per_batch: Rows of one batch.
        device: Where the module is.
    """
    order = sorted(range(len(examples)), key=lambda row: -len(examples[row].input_ids))
    totals, counts = [0.0] * len(order), [0] * len(order)
    predicted: list[Any] = [None] * len(order)
    was_training = module.training
    module.eval()
    with torch.no_grad():
        for start in range(0, len(order), rows_per_batch):
            part = order[start : start + rows_per_batch]
            batch = collate([examples[row] for row in part]).to(device)
            losses, said = module.row_outputs(batch)
            has_tags = not isinstance(said, torch.Tensor)  # else one thing is said of each row
            said = said if has_tags else said.tolist()
            for number, row in enumerate(part):
                totals[row] = float(losses[number])
                counts[row] = len(said[number]) if has_tags else 1
                predicted[row] = said[number]
    module.train(was_training)
    return Outputs(totals, counts, predicted)


def tag_rows(
    predicted: Sequence[Sequence[int]], examples: Sequence[Example], labels: Sequence[str]
) -> tuple[list[list[str]], list[list[str]]]:
    """Names of the tags that each row was given, and of those that it has.

    One for each word; where tags belong to characters one for each that isn't blank: a
    sub-word's tag goes on inside it as the same entity.

    Args:
        predicted: The tags that each row's words were given.
        examples: The rows.
        labels: Names of the tags.

    Returns:
        Tags as ``B-``, ``I-`` and ``O`` (:func:`as_bio`).
    """
    names = [as_bio(label) for label in labels]
    given_rows, true_rows = [], []
    for example, given in zip(examples, predicted, strict=True):
        places = [at for at, label in enumerate(example.labels) if label != IGNORE_INDEX]
        if example.word_ids is None or example.label_ids is None:
            given_rows.append([names[tag] for tag in given])
            true_rows.append([names[example.labels[at]] for at in places])
            continue
        starts = [example.word_ids[at] for at in places]
        # Characters behind the last sub-word of a row that was cut were never asked for.
        end = starts[-1] + 1 if example.was_truncated else len(example.label_ids)
        said: list[str] = []
        for tag, start, stop in zip(given, starts, [*starts[1:], end], strict=True):
            inside = names[tag]
            if inside.startswith("B-") and f"I-{inside[2:]}" in names:
                inside = f"I-{inside[2:]}"
            said += [names[tag], *[inside] * (stop - start - 1)]
        given_rows.append(said)
        true_rows.append([names[tag] for tag in example.label_ids[starts[0] : end]])
    return given_rows, true_rows


def as_bio(tag: str) -> str:
    """A tag of other schemes (``E-``, ``S-``, a bare name) as ``B-``, ``I-`` or ``O``.

    Example:
        >>> [as_bio(tag) for tag in ("O", "B-PS", "E-PS", "S-PS", "PS")]
        ['O', 'B-PS', 'I-PS', 'B-PS', 'I-PS']
    """
    mark, _, name = tag.partition("-")
    if tag == "O" or (mark in ("B", "I") and name):
        return tag
    if mark in ("E", "S") and name:
        return f"{'I' if mark == 'E' else 'B'}-{name}"
    return f"I-{tag}"
