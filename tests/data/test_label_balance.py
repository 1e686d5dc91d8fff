"""How often labels occur."""

from __future__ import annotations

import pytest

from kft.data.label_balance import LabelCounts, likely_typos
from kft.reporting.finding_words import korean_finding


def counts_of(names: list[str], train: list[int], held_out: list[int]) -> LabelCounts:
    counts = LabelCounts(names)
    for side, numbers in ((False, train), (True, held_out)):
        for label, number in enumerate(numbers):
            for row in range(number):
                counts.add(label, held_out=side, place=f"{names[label]}.csv:{row + 2}")
    return counts


def test_summary() -> None:
    assert counts_of(["부정", "긍정"], [3, 1], [1, 1]).summary() == {
        "counts": {"부정": 3, "긍정": 1},
        "rows": 4,
        "held_out_counts": {"부정": 1, "긍정": 1},
        "majority_share": 0.75,
    }
    assert LabelCounts(["가"]).summary()["majority_share"] == 0.0


def test_a_row_may_have_several_labels() -> None:
    """Each counts once; names that are alike, as those of tags, are no typos."""
    counts = LabelCounts(["O", "B-PS", "I-PS"])
    for _ in range(60):
        counts.add_several({0, 1}, place="tags.tsv:2")
    counts.add_several({0, 1, 2}, place="tags.tsv:9")
    assert counts.summary()["counts"] == {"O": 61, "B-PS": 61, "I-PS": 1}
    assert (counts.summary()["rows"], counts.summary()["majority_share"]) == (61, 1.0)
    assert counts.findings() == []


@pytest.mark.parametrize(
    ("rare", "frequent"),
    [("비정상", "정상"), ("불합격", "합격"), ("미완료", "완료"), ("abnormal", "normal"),
     ("nontoxic", "toxic"), ("un-related", "Related")],
)  # fmt: skip
def test_an_opposite_is_no_typo(rare: str, frequent: str) -> None:
    assert not likely_typos({frequent: 200, rare: 1}, {})
    assert likely_typos({frequent: 200, f"{frequent}x": 1}, {})


def test_balanced_labels_are_fine() -> None:
    assert counts_of(["가", "나"], [99, 1], [1, 1]).findings() == []
    assert counts_of(["가", "나"], [3, 1], [0, 0]).findings() == []


def test_labels_that_can_hardly_be_learned() -> None:
    never, rare, unmeasured = counts_of(["가", "나", "다"], [199, 1, 0], [1, 0, 0]).findings()
    assert never.what == "No training row has the label `다`: it can't be learned"
    assert rare.what == "Labels are in less than 1% of 200 training rows: `나` 1"
    assert unmeasured.what == "No held-out row has the label `나`: it isn't measured"
    assert rare.where == "나.csv:2"
    assert [never.severity, rare.severity, unmeasured.severity] == ["warning", "warning", "note"]


def test_names_of_numbers_from_one_on_are_understood() -> None:
    def hint(names: list[str], train: list[int]) -> str:
        return next(
            one.hint or ""
            for one in counts_of(names, train, train).findings()
            if "No training" in one.what
        )

    assert "names count from 0" in hint(["부정", "보통", "긍정"], [0, 40, 40])
    assert "Take it out" in hint(["부정", "보통", "긍정"], [0, 40, 40])
    assert "names count from 0" not in hint(["부정", "보통", "긍정"], [40, 40, 0])
    assert "names count from 0" not in hint(["1", "2", "3"], [0, 40, 40])


def test_identifiers_are_no_labels() -> None:
    names = [f"id{number}" for number in range(30)]
    (told,) = counts_of(names, [1] * 29 + [2], [1] * 30).findings()
    assert told.severity == "error"
    assert told.what == "There are 30 labels for 31 training rows: nearly every row has its own"
    assert not counts_of(names, [3] * 30, [1] * 30).findings()
    few = counts_of(names[:10], [1] * 10, [1] * 10).findings()
    assert "error" not in [finding.severity for finding in few]


@pytest.mark.parametrize("held_out", [False, True])
def test_a_label_that_may_be_a_typo_is_named_with_count_and_place(held_out: bool) -> None:
    """Once, and not as rare, or as not trained or not measured, besides."""
    counts = counts_of(["긍정", "부정", "긍종"], [40, 40, 0], [4, 4, 0])
    counts.add(2, held_out=held_out, place="rows.csv:17")
    (told,) = counts.findings()
    assert str(told) == (
        "warning: `긍종` is the label of 1 row, and `긍정` of 44: it may be a typo\n"
        "  --> rows.csv:17\n"
        "  hint: Write `긍정` there, and take `긍종` out of `data.labels` if it is in it; leave "
        "both if both are meant."
    )
    assert "레이블이 `긍종`인 것은 1행, `긍정`인 것은 44행입니다" in (
        korean_finding(str(told)) or ""
    )


def test_what_is_a_label_of_its_own_is_no_typo() -> None:
    def typos(**counts: int) -> list[str]:
        return [typo.label for typo in likely_typos(counts, {})]

    assert typos(긍정=200, 부정=1, 중립=2) == []
    assert typos(긍정=200, 긍종=3) == []  # thrice is no slip
    assert typos(긍정=9, 긍종=1) == []
    assert typos(점1=200, 점2=1) == []
    assert typos(positive=30, Positive=2, positve=1, negative=1) == ["Positive", "positve"]
    assert typos(positive=30, Positive=25, negative=9) == ["Positive"]  # whatever their numbers
    assert typos(a=3, A=3, 가=5) == ["A"]
    assert typos(긍정=900, **{f"긍정{'가나다라마바사'[n % 7]}{n}": 1 for n in range(60)}) == []
