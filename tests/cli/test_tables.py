"""Tables as text: literally, at the widths where they change shape."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from kft.cli.messages import visible
from kft.cli.tables import (
    check_text,
    comparison_table,
    evaluation_table,
    number_text,
    pairs,
    row_text,
    time_text,
)
from kft.errors import Finding

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


ROW: Any = SimpleNamespace(
    place="rows.jsonl:1",
    tokens=[("질문: ", False), ("a\\n\x1b\n", False), ("서", True), ("울\n", True), ("</s>", True)],
)


def test_targets_stand_in_brackets_without_colour() -> None:
    assert row_text(ROW, colored=False) == (
        "rows.jsonl:1\n  질문: a\\n\\x1b\\n\n  ⟦서울\\n\n  </s>⟧"
    )


def test_targets_are_coloured_on_a_terminal() -> None:
    assert row_text(ROW, colored=True) == (
        "rows.jsonl:1\n"
        "  질문: a\\n\\x1b\\n\n"
        "  \x1b[32m\x1b[1m서\x1b[0m\x1b[32m\x1b[1m울\\n\n"
        "  \x1b[0m\x1b[32m\x1b[1m</s>\x1b[0m"
    )


def test_check() -> None:
    check: Any = SimpleNamespace(
        facts={"model": "gpt2", "targets": "60 %"},
        findings=[
            Finding("error", "Row has no target", "rows.jsonl:3", "Raise `data.max_length`."),
            Finding("warning", "Rows are cut", "rows.jsonl:7", count=2),
            Finding("warning", "Rows repeat"),
            Finding("note", "No end token"),
        ],
        shown=[ROW],
        has_errors=True,
    )
    assert check_text(check, colored=False) == (
        "model    gpt2\n"
        "targets  60 %\n"
        "\n"
        "rows.jsonl:1\n"
        "  질문: a\\n\\x1b\\n\n"
        "  ⟦서울\\n\n"
        "  </s>⟧\n"
        "\n"
        "error: Row has no target\n"
        "  --> rows.jsonl:3\n"
        "  hint: Raise `data.max_length`.\n"
        "\n"
        "warning: Rows are cut (2 times)\n"
        "  --> rows.jsonl:7\n"
        "\n"
        "warning: Rows repeat\n"
        "\n"
        "note: No end token\n"
        "\n"
        "Not ready to train: 1 error, 2 warnings."
    )


@pytest.mark.parametrize(
    ("findings", "verdict"),
    [
        ([], "Ready to train."),
        ([Finding("note", "x")], "Ready to train."),
        ([Finding("warning", "x")], "Ready to train, with 1 warning."),
    ],
)
def test_verdict(findings: list[Finding], verdict: str) -> None:
    check: Any = SimpleNamespace(facts={}, findings=findings, shown=[], has_errors=False)
    assert check_text(check, colored=False) == "\n\n".join([*map(str, findings), verdict])


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
