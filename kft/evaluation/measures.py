"""Numbers that say how good a model is on held-out rows, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from kft.evaluation.intervals import Interval, paired_interval
from kft.evaluation.metrics import classification, language_modelling
from kft.evaluation.metrics.statistic import value


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
    return TextLoss(
        eval_loss=value(language_modelling.loss_per_target(totals, counts)),
        perplexity=value(language_modelling.perplexity(totals, counts)),
        bits_per_character=value(language_modelling.bits_per_character(totals, texts)),
        bits_per_byte=value(language_modelling.bits_per_byte(totals, texts)),
        num_targets=sum(counts),
        num_rows=len(totals),
    )


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
    counts = np.bincount(np.asarray(labels), minlength=num_labels)
    scores = {
        name: value(classification.label_statistic(name, predicted, labels, num_labels))
        for name in ("accuracy", "macro_f1")
    }
    return scores | {
        "majority_accuracy": classification.majority_accuracy(labels),
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
