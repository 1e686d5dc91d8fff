"""Numbers that say how good a model is on held-out rows, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from unicodedata import normalize

import numpy as np


@dataclass(frozen=True)
class TextLoss:
    """Loss on held-out text.

    Args:
        eval_loss: Nats per target.
        perplexity: ``exp(eval_loss)``; depends on the tokenizer.
        bits_per_character: Nats of the text with its end token, over ln 2 and its NFC
            characters; compares models with different tokenizers.
        bits_per_byte: The same over UTF-8 bytes.
        num_targets: Targets the loss is averaged over.
        num_rows: Held-out rows.
    """

    eval_loss: float
    perplexity: float
    bits_per_character: float
    bits_per_byte: float
    num_targets: int
    num_rows: int

    def as_dict(self) -> dict[str, Any]:
        """Names and values, for ``result.json``."""
        return asdict(self)


def text_loss(totals: Sequence[float], counts: Sequence[int], texts: Sequence[str]) -> TextLoss:
    """The loss over rows from each row's sum.

    Args:
        totals: Nats of each row, summed over its targets.
        counts: Targets of each row.
        texts: The text whose tokens were each row's targets.

    Example:
        >>> text_loss([2.0, 4.0], [1, 3], ["가", "나다라"]).eval_loss
        1.5
    """
    nats, num_targets = math.fsum(totals), sum(counts)
    composed = [normalize("NFC", text) for text in texts]
    characters = sum(len(text) for text in composed)
    num_bytes = sum(len(text.encode()) for text in composed)
    loss = nats / num_targets
    return TextLoss(
        eval_loss=loss,
        perplexity=math.exp(loss) if loss < 700 else math.inf,
        bits_per_character=nats / math.log(2) / characters if characters else math.inf,
        bits_per_byte=nats / math.log(2) / num_bytes if num_bytes else math.inf,
        num_targets=num_targets,
        num_rows=len(totals),
    )


@dataclass(frozen=True)
class Interval:
    """A difference with its bootstrap interval.

    Args:
        difference: Tuned minus base.
        low: 2.5 % quantile of the resampled differences.
        high: 97.5 % quantile.
    """

    difference: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


def paired_interval(
    base: Sequence[float],
    tuned: Sequence[float],
    weights: Sequence[float] | None = None,
    *,
    num_resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """A 95 % bootstrap interval of the mean difference over the same rows.

    Args:
        base: A number of each row for the first model.
        tuned: The same rows for the second model.
        weights: What each row's number is divided by in the mean (its targets); ``None`` is 1.
        num_resamples: Draws of all rows with replacement.
        seed: Of the draws.

    Source:
        Efron & Tibshirani 1993, "An Introduction to the Bootstrap", section 13.3 (percentile
        interval); rows are resampled in pairs.
    """
    differences = np.asarray(tuned, dtype=float) - np.asarray(base, dtype=float)
    divisors = np.ones_like(differences) if weights is None else np.asarray(weights, dtype=float)
    generator = np.random.default_rng(seed)
    means = np.empty(num_resamples)
    for draw in range(num_resamples):
        rows = generator.integers(0, len(differences), len(differences))
        means[draw] = differences[rows].sum() / divisors[rows].sum()
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(differences.sum() / divisors.sum()), float(low), float(high))


def label_scores(
    predicted: Sequence[int], labels: Sequence[int], num_labels: int
) -> dict[str, Any]:
    """Accuracy, macro F1 and what always answering the commonest label would score.

    Args:
        predicted: Index of each row's most likely label.
        labels: Index of each row's true label.
        num_labels: Labels there are; one that never occurs has F1 0.

    Example:
        >>> label_scores([0, 1, 1], [0, 1, 0], 2)["accuracy"]
        0.6666666666666666
    """
    pairs = list(zip(predicted, labels, strict=True))
    scores = []
    for label in range(num_labels):
        hits = sum(guess == label and true == label for guess, true in pairs)
        guessed = sum(guess == label for guess, _ in pairs)
        actual = sum(true == label for _, true in pairs)
        scores.append(2 * hits / (guessed + actual) if guessed + actual else 0.0)
    counts = np.bincount(np.asarray(labels), minlength=num_labels)
    return {
        "accuracy": sum(guess == true for guess, true in pairs) / len(pairs),
        "macro_f1": sum(scores) / num_labels,
        "majority_accuracy": float(counts.max() / len(pairs)),
        "label_counts": [int(count) for count in counts],
    }


def compare(
    base: Mapping[str, Sequence[float]], tuned: Mapping[str, Sequence[float]]
) -> dict[str, Interval]:
    """Paired intervals of what two evaluations share.

    Args:
        base: Per-row numbers of the first model: ``totals`` and ``counts``, and ``correct``
            (0 or 1) where labels were scored.
        tuned: The same rows for the second model.

    Returns:
        Name -> interval; empty below ten rows, where resampling promises too much.
    """
    if len(base["totals"]) < 10:
        return {}
    intervals = {"eval_loss": paired_interval(base["totals"], tuned["totals"], base["counts"])}
    if "correct" in base and "correct" in tuned:
        intervals["accuracy"] = paired_interval(base["correct"], tuned["correct"])
    return intervals
