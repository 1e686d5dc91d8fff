"""Loss on text in its units, by hand."""

from __future__ import annotations

import math
from unicodedata import normalize

import numpy as np
import pytest

from kft.evaluation.metrics.language_modelling import (
    bits_per_byte,
    bits_per_character,
    loss_per_target,
    perplexity,
)
from kft.evaluation.metrics.statistic import value


def test_by_hand() -> None:
    nats, texts = [6 * math.log(2), 10 * math.log(2)], ["가 나", "다라마ab"]
    # 16 bits over 3 + 5 characters, over 7 + 11 bytes, over 4 + 4 targets.
    assert value(bits_per_character(nats, texts)) == pytest.approx(16 / 8)
    assert value(bits_per_byte(nats, texts)) == pytest.approx(16 / 18)
    assert value(loss_per_target(nats, [4, 4])) == pytest.approx(2 * math.log(2))
    assert value(perplexity(nats, [4, 4])) == pytest.approx(4)


def test_decomposed_text_counts_as_composed() -> None:
    for metric in (bits_per_character, bits_per_byte):
        composed = value(metric([1.0], ["한국어 문장"]))
        assert value(metric([1.0], [normalize("NFD", "한국어 문장")])) == composed


def test_nothing_to_divide_by_is_infinite() -> None:
    assert value(bits_per_character([1.0], [""])) == math.inf
    assert value(bits_per_byte([1.0], [""])) == math.inf
    assert value(perplexity([1e6], [1])) == math.inf
    assert math.isnan(value(loss_per_target([0.0], [0])))
    assert math.isnan(value(perplexity([0.0], [0])))


def test_it_agrees_with_torch() -> None:
    import torch

    generator = np.random.default_rng(0)
    logits = torch.tensor(generator.normal(size=(40, 9)))
    targets = torch.tensor(generator.integers(0, 9, 40))
    losses = torch.nn.functional.cross_entropy(logits, targets, reduction="none").reshape(4, 10)
    mean = torch.nn.functional.cross_entropy(logits, targets)
    rows = losses.sum(1).tolist()
    assert value(loss_per_target(rows, [10] * 4)) == pytest.approx(mean.item())
    assert value(perplexity(rows, [10] * 4)) == pytest.approx(mean.exp().item())


def test_wrong_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="1 losses for 2 texts"):
        bits_per_character([1.0], ["가", "나"])
