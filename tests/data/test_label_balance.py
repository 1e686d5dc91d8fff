"""How often labels occur."""

from __future__ import annotations

from kft.data.label_balance import LabelCounts


def counted(names: list[str], train: list[int], held_out: list[int]) -> LabelCounts:
    counts = LabelCounts(names)
    for side, numbers in ((False, train), (True, held_out)):
        for label, number in enumerate(numbers):
            for _ in range(number):
                counts.add(label, held_out=side)
    return counts


def test_summary() -> None:
    assert counted(["부정", "긍정"], [3, 1], [1, 1]).summary() == {
        "counts": {"부정": 3, "긍정": 1},
        "held_out_counts": {"부정": 1, "긍정": 1},
        "majority_share": 0.75,
    }
    assert LabelCounts(["가"]).summary()["majority_share"] == 0.0


def test_balanced_labels_are_fine() -> None:
    assert counted(["가", "나"], [99, 1], [1, 1]).findings() == []
    assert counted(["가", "나"], [3, 1], [0, 0]).findings() == []


def test_labels_that_can_hardly_be_learned() -> None:
    never, rare, unmeasured = counted(["가", "나", "다"], [199, 1, 0], [1, 0, 0]).findings()
    assert never.what == "No training row has the label `다`: it can't be learned"
    assert rare.what == "Labels are in less than 1% of 200 training rows: `나` 1"
    assert unmeasured.what == "No held-out row has the label `나`: it isn't measured"
    assert [never.severity, rare.severity, unmeasured.severity] == ["warning", "warning", "note"]


def test_identifiers_are_no_labels() -> None:
    names = [f"id{number}" for number in range(30)]
    (told,) = counted(names, [1] * 29 + [2], [1] * 30).findings()
    assert told.severity == "error"
    assert told.what == "There are 30 labels for 31 training rows: nearly every row has its own"
    assert not counted(names, [3] * 30, [1] * 30).findings()
    few = counted(names[:10], [1] * 10, [1] * 10).findings()
    assert "error" not in [finding.severity for finding in few]
