"""What models with a head of their own said of each row, and the numbers that follow from it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from kft.evaluation.measures import label_scores
from kft.ops.losses import IGNORE_INDEX
from kft.tasks.task import Batch, Example

Rows = dict[str, list[float]]
Scores = tuple[dict[str, Any], Rows]
"""Names and numbers over all rows, and numbers of each row for paired intervals."""


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
        module: With its loss inside; put into eval mode for the while.
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
            losses = module.row_losses(batch)
            said = module.row_outputs(batch)[1] if hasattr(module, "row_outputs") else []
            said = said.tolist() if isinstance(said, torch.Tensor) else said
            for number, row in enumerate(part):
                totals[row] = float(losses.total[number])
                counts[row] = int(losses.count[number])
                predicted[row] = said[number] if said else None
    module.train(was_training)
    return Outputs(totals, counts, predicted if predicted[0] is not None else [])


def class_scores(outputs: Outputs, examples: Sequence[Example], labels: Sequence[str]) -> Scores:
    """Accuracy and macro F1; of several classes a row is right when all of them are."""
    if examples[0].label_ids is not None:
        given = np.array(outputs.predicted)
        true = np.array([example.label_ids for example in examples])
        right = (given == true).all(1)
        both, all_of = (given & true).sum(0), given.sum(0) + true.sum(0)
        scores = np.where(all_of > 0, 2 * both / np.maximum(all_of, 1), 0.0)
        result = {"accuracy": float(right.mean()), "macro_f1": float(scores.mean())}
        return result, {"correct": right.astype(float).tolist()}
    true_labels = [example.label if example.label is not None else -1 for example in examples]
    right = [
        float(guess == label) for guess, label in zip(outputs.predicted, true_labels, strict=True)
    ]
    return label_scores(outputs.predicted, true_labels, len(labels)), {"correct": right}


def number_scores(outputs: Outputs, examples: Sequence[Example], _: Sequence[str]) -> Scores:
    """Mean squared error, R² (the coefficient of determination) and Pearson's correlation."""
    given = np.array(outputs.predicted, dtype=float)
    true = np.array([example.value for example in examples], dtype=float)
    error = np.square(given - true)
    spread = np.square(true - true.mean()).sum()
    varies = given.std() > 0 and true.std() > 0
    return {
        "mean_squared_error": float(error.mean()),
        "r2": float(1 - error.sum() / spread) if spread > 0 else math.nan,
        "pearson": float(np.corrcoef(given, true)[0, 1]) if varies else math.nan,
    }, {}


def tag_rows(
    outputs: Outputs, examples: Sequence[Example], labels: Sequence[str]
) -> tuple[list[list[str]], list[list[str]]]:
    """Names of the tags that each row was given, and of those that it has.

    One for each word; where tags belong to characters one for each that isn't blank: a
    sub-word's tag goes on inside it as the same entity.
    """
    given_rows, true_rows = [], []
    for example, given in zip(examples, outputs.predicted, strict=True):
        places = [at for at, label in enumerate(example.labels) if label != IGNORE_INDEX]
        if example.word_ids is None or example.label_ids is None:
            given_rows.append([labels[tag] for tag in given])
            true_rows.append([labels[example.labels[at]] for at in places])
            continue
        starts = [example.word_ids[at] for at in places]
        # Characters behind the last sub-word of a row that was cut were never asked for.
        end = starts[-1] + 1 if example.was_truncated else len(example.label_ids)
        said: list[str] = []
        for tag, start, stop in zip(given, starts, [*starts[1:], end], strict=True):
            inside = labels[tag]
            if inside.startswith("B-") and f"I-{inside[2:]}" in labels:
                inside = f"I-{inside[2:]}"
            said += [labels[tag], *[inside] * (stop - start - 1)]
        given_rows.append(said)
        true_rows.append([labels[tag] for tag in example.label_ids[starts[0] : end]])
    return given_rows, true_rows


def tag_scores(outputs: Outputs, examples: Sequence[Example], labels: Sequence[str]) -> Scores:
    """F1 of whole entities (micro), and the share of tags that are right.

    Source:
        Ramshaw & Marcus 1995, "Text Chunking using Transformation-Based Learning"; an ``I-``
        that continues nothing begins an entity, as in conlleval and seqeval's default.
    """
    hits: list[float] = []
    found: list[float] = []
    there: list[float] = []
    right = tags = 0
    for given, true in zip(*tag_rows(outputs, examples, labels), strict=True):
        named = [entities(sequence) for sequence in (given, true)]
        hits.append(float(len(named[0] & named[1])))
        found.append(float(len(named[0])))
        there.append(float(len(named[1])))
        right += sum(a == b for a, b in zip(given, true, strict=True))
        tags += len(true)
    total = sum(found) + sum(there)
    result = {
        "entity_f1": 2 * sum(hits) / total if total else 0.0,
        "tag_accuracy": right / max(tags, 1),
    }
    return result, {"entity_hits": hits, "entities_found": found, "entities_there": there}


def entities(tags: Sequence[str]) -> set[tuple[str, int, int]]:
    """The entities of one sequence of BIO tags: type, first position, position after the last.

    Example:
        >>> sorted(entities(["B-PS", "I-PS", "O", "I-LC"]))
        [('LC', 3, 4), ('PS', 0, 2)]
    """
    found = set()
    kind, start = "", 0
    for position, tag in enumerate([*tags, "O"]):
        mark, _, name = tag.partition("-")
        if kind and not (mark == "I" and name == kind):
            found.add((kind, start, position))
            kind = ""
        if mark != "O" and not kind:
            kind, start = name or mark, position
    return found


def hidden_scores(outputs: Outputs, _: Sequence[Example], __: Sequence[str]) -> Scores:
    """Perplexity of the hidden tokens."""
    loss = math.fsum(outputs.totals) / max(sum(outputs.counts), 1)
    return {"perplexity": math.exp(loss) if loss < 700 else math.inf}, {}


SCORES: dict[str, Callable[[Outputs, Sequence[Example], Sequence[str]], Scores]] = {
    "sequence_classification": class_scores,
    "sequence_regression": number_scores,
    "token_classification": tag_scores,
    "masked_lm": hidden_scores,
}
"""The numbers of each task by its name; ``causal_lm`` has its own in ``held_out``."""
