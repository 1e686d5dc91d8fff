"""What general text a model forgot: kft's own passages, and what is said of two models."""

from __future__ import annotations

from math import log
from unicodedata import is_normalized

import numpy as np
import pytest

from kft.evaluation.forgetting import MUCH, forgetting, forgot_much, general_texts, of_passages
from kft.evaluation.metrics.language_modelling import bits_per_character
from kft.evaluation.metrics.statistic import value
from kft.tasks.task import Example

TEXTS = ["가나다라마바사아자차"] * 12


def bits(of_each: list[float]) -> list[float]:
    """Nats of texts of ten characters with so many bits per character."""
    return [10 * number * log(2) for number in of_each]


def told(before: list[float], after: list[float]) -> dict[str, object]:
    base, tuned = (bits_per_character(bits(side), TEXTS[: len(side)]) for side in (before, after))
    return forgetting("bits_per_character", base, tuned, text="auto", seed=3)


def test_the_passages_are_many_and_differ() -> None:
    texts = general_texts()
    assert len(set(texts)) == len(texts) == 64
    assert all(is_normalized("NFC", text) and text == text.strip() for text in texts)
    assert all(40 <= len(text) <= 120 for text in texts)
    beginnings = {text[:6] for text in texts}
    assert len(beginnings) == 64


def test_a_rise_by_hand() -> None:
    # 4.0 bits per character and 0.2 more on every passage: 5 % worse, without any spread.
    found = told([4.0] * 12, [4.2] * 12)
    assert found["base"] == pytest.approx(4.0)
    assert found["tuned"] == pytest.approx(4.2)
    assert found["share"] == pytest.approx(0.05)
    assert (found["low"], found["high"]) == pytest.approx((0.2, 0.2))
    assert (found["outcome"], found["num_rows"], found["is_much"]) == ("worse", 12, False)
    sentence = "a little of general text was forgotten: bits_per_character 4 -> 4.2 (+5.0%)"
    assert found["sentence"] == sentence


@pytest.mark.parametrize(
    ("after", "outcome", "is_much", "words"),
    [
        (4.0 * (1 + MUCH) + 0.01, "worse", True, "much of general text was forgotten"),
        (4.0 * (1 + MUCH) - 0.01, "worse", False, "a little of general text was forgotten"),
        (3.9, "better", False, "general text is known better than before"),
    ],
)
def test_what_is_said(after: float, outcome: str, is_much: bool, words: str) -> None:
    found = told([4.0] * 12, [after] * 12)
    assert (found["outcome"], found["is_much"]) == (outcome, is_much)
    assert str(found["sentence"]).startswith(words)


def test_noise_is_called_noise_however_large_it_is() -> None:
    spread = np.random.default_rng(5).normal(0, 3, 12)
    found = told([9.0] * 12, [9.0 + each for each in spread - spread.mean() + 1])
    assert found["share"] == pytest.approx(1 / 9)
    assert found["share"] > MUCH
    assert (found["outcome"], found["is_much"]) == ("within noise", False)
    assert str(found["sentence"]).startswith("general text is known as well as before")


def test_a_few_passages_tell_nothing() -> None:
    found = told([4.0] * 9, [8.0] * 9)
    assert "outcome" not in found
    assert found["is_much"] is False
    assert str(found["sentence"]).startswith("too few passages to tell (9)")


def test_a_model_without_likelihoods_has_forgotten_everything() -> None:
    found = told([4.0] * 12, [float("nan"), *[4.0] * 11])
    assert found["is_much"] is True
    assert str(found["sentence"]).startswith("general text has no likelihood any more")
    [warning] = forgot_much(found)
    assert warning.what == "The tuned model gives general text no likelihood at all"


def test_a_passage_in_parts_is_one_passage() -> None:
    parts = [
        Example([1], [1], place, text)
        for place, text in (("a:1", "가나"), ("a:1", "다라마"), ("a:2", "바"))
    ]
    rows = {"totals": [2 * log(2), 3 * log(2), 4 * log(2)], "counts": [2.0, 2.0, 1.0]}
    whole = of_passages("bits_per_character", parts, rows)
    assert whole.num_rows == 2
    assert value(whole) == pytest.approx(9 / 6)  # nine bits for six characters
    assert value(of_passages("eval_loss", parts, rows)) == pytest.approx(9 * log(2) / 5)


def test_a_warning_only_where_much_is_lost() -> None:
    [warning] = forgot_much(told([4.0] * 12, [6.0] * 12))
    assert (warning.severity, warning.what) == (
        "warning",
        "The loss on general text rose by 50%: the model forgot much of what it knew",
    )
    assert forgot_much(told([4.0] * 12, [4.1] * 12)) == []
    assert forgot_much({}) == []
