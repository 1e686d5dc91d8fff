"""Numbers about held-out rows, by hand and against references."""

from __future__ import annotations

import math

import numpy as np
import pytest

from kft.evaluation.measures import label_scores, paired_interval, text_loss


def test_bits_per_character_do_not_depend_on_the_tokenizer() -> None:
    # The same 8 bits for "나다" in two tokens or in four.
    nats = 8 * math.log(2)
    few, many = text_loss([nats], [2], ["나다"]), text_loss([nats], [4], ["나다"])
    assert few.bits_per_character == pytest.approx(4.0)
    assert many.bits_per_character == pytest.approx(4.0)
    assert few.bits_per_byte == pytest.approx(8 / 6)
    assert few.perplexity == pytest.approx(2**4)
    assert many.perplexity == pytest.approx(2**2)


def test_label_scores_by_hand() -> None:
    scores = label_scores([0, 0, 1, 1, 1], [0, 1, 1, 1, 0], 3)
    # F1 of 0: 2*1/(2+2); of 1: 2*2/(3+3); of 2, which never occurs: 0.
    assert scores["macro_f1"] == pytest.approx((0.5 + 2 / 3 + 0) / 3)
    assert scores["accuracy"] == pytest.approx(3 / 5)
    assert scores["majority_accuracy"] == pytest.approx(3 / 5)
    assert scores["label_counts"] == [2, 3, 0]


def test_an_interval_weighs_rows_by_their_targets() -> None:
    interval = paired_interval([4.0, 4.0], [2.0, 4.0], [1, 3])
    assert interval.difference == pytest.approx(-0.5)


def test_95_percent_intervals_hold_the_true_difference() -> None:
    generator = np.random.default_rng(5)
    held = 0
    for trial in range(300):
        base = generator.exponential(2.0, 80)
        tuned = base + generator.normal(-0.1, 0.5, 80)
        interval = paired_interval(base, tuned, num_resamples=300, seed=trial)
        held += interval.low <= -0.1 <= interval.high
    assert 0.90 <= held / 300 <= 0.98


def test_noise_is_not_a_difference() -> None:
    same = [0.5, 1.5, 2.5, 1.0]
    assert not paired_interval(same, same).is_clear
    assert paired_interval(same, [value - 1 for value in same]).is_clear
