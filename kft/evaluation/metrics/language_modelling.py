"""Loss on text in units that mean something: perplexity, bits per character, bits per byte."""

from __future__ import annotations

from collections.abc import Sequence
from unicodedata import normalize

import numpy as np

from kft.evaluation.metrics.statistic import Array, SumStatistic, first_over_second, mean_statistic

LARGEST_EXPONENT = 700.0
"""Beyond it ``exp`` overflows; such a perplexity is infinite."""


def loss_per_target(nats: Sequence[float], num_targets: Sequence[int]) -> SumStatistic:
    """Nats per target over all rows.

    Args:
        nats: Of each row, summed over its targets.
        num_targets: Of each row.
    """
    return mean_statistic(nats, num_targets)


def perplexity(nats: Sequence[float], num_targets: Sequence[int]) -> SumStatistic:
    """``exp`` of the nats per target. It depends on the tokenizer: compare one model with itself.

    Args:
        nats: Of each row, summed over its targets.
        num_targets: Of each row.
    """
    return SumStatistic(mean_statistic(nats, num_targets).rows, _perplexity)


def _perplexity(sums: Array) -> Array:
    loss = first_over_second(sums)
    finite = np.exp(np.minimum(loss, LARGEST_EXPONENT))
    return np.where(loss >= LARGEST_EXPONENT, np.inf, finite)


def bits_per_character(nats: Sequence[float], texts: Sequence[str]) -> SumStatistic:
    """Bits per NFC code point, spaces counted; compares models with different tokenizers.

    Args:
        nats: Of each row's text with its end token, summed.
        texts: The text whose tokens were each row's targets.

    Returns:
        Infinite where there are nats and no characters.

    Example:
        >>> from math import log
        >>> from kft.evaluation.metrics.statistic import value
        >>> value(bits_per_character([8 * log(2)], ["가 나다"]))
        2.0
    """
    return _bits(nats, [len(normalize("NFC", text)) for text in texts])


def bits_per_byte(nats: Sequence[float], texts: Sequence[str]) -> SumStatistic:
    """Bits per UTF-8 byte of the NFC text (a syllable has three); else as per character."""
    return _bits(nats, [len(normalize("NFC", text).encode()) for text in texts])


def _bits(nats: Sequence[float], sizes: Sequence[int]) -> SumStatistic:
    if len(nats) != len(sizes):
        raise ValueError(f"{len(nats)} losses for {len(sizes)} texts")
    rows = np.column_stack([np.asarray(nats, dtype=float) / np.log(2), np.asarray(sizes, float)])
    return SumStatistic(rows, _first_over_second_or_infinite)


def _first_over_second_or_infinite(sums: Array) -> Array:
    return np.where(sums[..., 1] > 0, first_over_second(sums), np.inf)
