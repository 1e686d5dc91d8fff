"""Tables as text: literally, at the widths where they change shape."""

from __future__ import annotations

from typing import Any

import pytest

from kft.cli.messages import visible
from kft.cli.tables import (
    comparison_table,
    evaluation_table,
    number_text,
    pairs,
    time_text,
    verdict_lines,
)

RESULT = {
    "base": {"eval_loss": 3.21451, "perplexity": 24.89, "accuracy": 0.5, "num_rows": 120},
    "tuned": {"eval_loss": 2.1, "perplexity": 8.1662, "num_rows": 120},
    "intervals": {"eval_loss": {"difference": -1.11451, "low": -1.3, "high": -0.9}},
}


def test_comparison() -> None:
    assert comparison_table(RESULT, 80) == (
        "               base   tuned  difference       95 % interval\n"
        "eval_loss    3.2145  2.1000     -1.1145  -1.3000 to -0.9000\n"
        "perplexity  24.8900  8.1662    -16.7238"
    )


def test_comparison_in_40_columns_is_blocks() -> None:
    assert comparison_table(RESULT, 40) == (
        "eval_loss\n"
        "  base           3.2145\n"
        "  tuned          2.1000\n"
        "  difference     -1.1145\n"
        "  95 % interval  -1.3000 to -0.9000\n"
        "perplexity\n"
        "  base           24.8900\n"
        "  tuned          8.1662\n"
        "  difference     -16.7238"
    )


def test_comparison_without_intervals() -> None:
    plain = {"base": RESULT["base"], "tuned": RESULT["tuned"]}
    assert comparison_table(plain, 40) == (
        "               base   tuned  difference\n"
        "eval_loss    3.2145  2.1000     -1.1145\n"
        "perplexity  24.8900  8.1662    -16.7238"
    )


def test_comparison_of_nothing() -> None:
    assert comparison_table({"base": {}, "tuned": {}}, 80) == ""


def test_evaluation_with_double_width_names() -> None:
    results: dict[str, dict[str, Any]] = {
        "runs/한국어": {"eval_loss": 2.5, "num_rows": 1200, "label_counts": [3, 4]},
        "klue/bert-base": {"eval_loss": 3.0, "accuracy": 0.875},
    }
    assert evaluation_table(results, 80) == (
        "              runs/한국어  klue/bert-base\n"
        "eval_loss          2.5000          3.0000\n"
        "num_rows            1,200               -\n"
        "label_counts         3, 4               -\n"
        "accuracy                -          0.8750"
    )


def test_pairs_leave_nested_values_out() -> None:
    numbers = {"passed": False, "largest_difference": 0.41, "layer": "h.7\n", "limits": {"kl": 1}}
    assert pairs(numbers) == (
        "passed              no\nlargest_difference  0.4100\nlayer               h.7\\n"
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.0000"), (99.99999, "100.0000"), (1e6, "1.0e+06"), (float("nan"), "nan"), (-7, "-7")],
)
def test_numbers(value: float, text: str) -> None:
    assert number_text(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (59.6, "1:00"), (3599.7, "1:00:00")]
)
def test_durations(seconds: float, text: str) -> None:
    assert time_text(seconds) == text


@pytest.mark.parametrize(
    "character",
    ["\x00", "\x07", "\x1b", "\x7f", "\x9b", "\u200b", "\u202e", "\u2066", "\ufeff", "\ud800"],
)
def test_control_characters_are_written_out(character: str) -> None:
    shown = visible(f"가{character}나", "\n\t")
    assert character not in shown
    assert shown.isprintable()


def test_text_stays_as_it_is() -> None:
    text = "한국어, ㄱㅏ, 漢字, 👩\u200d👩, e\u0301, ⟦⟧"
    assert visible(text) == text


@pytest.mark.parametrize(("before", "is_told"), [(6.1, True), (6.7, False), (7.0, False)])
def test_a_best_loss_above_that_before_training_is_told(before: float, is_told: bool) -> None:
    best = {"metric": "eval_loss", "value": 6.7, "step": 8, "is_saved": True}
    (line,) = verdict_lines({"best": best, "base": {"eval_loss": before}})
    assert line.startswith("best: eval_loss 6.7000 at step 8; these weights are saved")
    assert ("before training it was" in line) is is_told
