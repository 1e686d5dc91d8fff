"""What is told of scores before they are learned."""

from __future__ import annotations

from collections.abc import Iterable

from kft.data.score_spread import ScoreSpread
from kft.errors import Finding


def seen(values: Iterable[float | None]) -> tuple[ScoreSpread, list[Finding]]:
    spread = ScoreSpread()
    for value in values:
        spread.add(value)
    return spread, list(spread.findings(lambda row: f"rows.csv:{row + 2}"))


def test_a_summary_by_hand() -> None:
    spread, found = seen([0.0, 1.0, 5.0, None, 2.0] * 6)
    assert spread.summary() == {
        "rows": 24,
        "distinct": 4,
        "lowest": 0.0,
        "median": 1.5,
        "mean": 2.0,
        "highest": 5.0,
    }
    assert found == []
    assert seen([])[0].summary() == {}


def test_scores_far_from_all_others_are_told_with_the_first_row() -> None:
    values = [0.0, 1.0, 2.0, 3.0, 4.0] * 10
    values[7], values[31] = 35.0, -40.0
    _, (warning,) = seen(values)
    assert warning.where == "rows.csv:9"
    assert warning.count == 2
    assert "such as 35, where the middle half lies between 1 and 3" in warning.what
    _, found = seen([*values[:7], 8.9])  # too few to know
    assert found == []


def test_the_fence_is_three_times_the_middle_half() -> None:
    values = [1.0, 2.0, 3.0] * 10
    assert seen([*values, 6.0])[1] == []  # 3 + 3 * (3 - 1) is 9
    assert seen([*values, 9.0])[1] == []
    assert len(seen([*values, 9.1])[1]) == 1


def test_half_of_them_may_be_the_same() -> None:
    _, (warning,) = seen([3.0] * 200 + [1e9])
    assert warning.where == "rows.csv:202"
    assert seen([3.0] * 200 + [5.0])[1] == []


def test_identifiers_and_one_score_are_no_scores() -> None:
    _, (warning,) = seen(float(number) for number in range(1000, 1050))
    assert "a whole number of its own" in warning.what
    _, (warning,) = seen([3.0] * 30)
    assert "Every training row has the score 3" in warning.what
    assert seen([number / 7 for number in range(50)])[1] == []
