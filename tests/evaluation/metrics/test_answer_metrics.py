"""Metrics of short answers: the benchmarks' definitions, worked out by hand."""

from __future__ import annotations

import pytest

from kft.evaluation.metrics.answers import (
    answer_statistic,
    character_f1,
    normalize_klue,
    normalize_korquad,
    rouge_w,
)
from kft.evaluation.metrics.statistic import value


@pytest.mark.parametrize(
    ("text", "korquad", "klue"),
    [
        ("《대한민국》", "대한민국", "《대한민국》"),
        ("‘나는’ 간다", "나는 간다", "‘나는’ 간다"),
        ("<KBS>-TV", "kbs tv", "kbstv"),
        ("3.1 운동", "31 운동", "31 운동"),
        ("가'나(다)", "가 나 다", "가나다"),
        ("  여러   칸 ", "여러 칸", "여러 칸"),
        ("〉()‘’끝", "끝", "끝"),
    ],
)
def test_the_two_normalisations(text: str, korquad: str, klue: str) -> None:
    assert normalize_korquad(text) == korquad
    assert normalize_klue(text) == klue


def test_character_f1_by_hand() -> None:
    # "박정희대통령" and "박정희": three characters of six and of three.
    assert character_f1("박정희 대통령", "박정희") == pytest.approx(2 * 3 / 9)
    # A bag: order and spaces don't count, how often does. Two of three and of two.
    assert character_f1("나가가", "가나") == pytest.approx(2 * 2 / 5)
    assert character_f1("서울", "부산") == 0
    assert character_f1("", "") == 0  # as in KorQuAD's script: nothing in common
    assert character_f1("서울 시", "서울시.") == 1


def test_rouge_w_by_hand() -> None:
    # Longest common run of "이순신장군" and "장군이순신": three of five and of five.
    assert rouge_w("이순신장군", "장군이순신") == pytest.approx(3 / 5)
    assert rouge_w("한 산도", "한산도") == pytest.approx(2 * 2 / 7)  # a space breaks a run
    assert (rouge_w("", ""), rouge_w("서울", ""), rouge_w("", "서울")) == (1, 0, 0)


def test_rouge_w_of_long_answers_passes_over_frequent_characters_as_klue_does() -> None:
    truth = "가" * 150 + "나" * 50  # 200 characters, both over one in a hundred
    assert rouge_w("나" * 50, truth) == 0
    assert rouge_w("나" * 50, truth[:-1]) == pytest.approx(2 * 49 / (50 + 199))


def test_the_best_of_several_truths_counts() -> None:
    references = [["1989년", "1989"], ["서울"], []]
    predictions = ["1989", "부산", ""]
    score = value(answer_statistic("korquad_exact_match", predictions, references))
    assert score == pytest.approx(2 / 3)
    assert value(answer_statistic("exact_match", ["가  나"], ["가 나"])) == 1
    assert value(answer_statistic("exact_match", ["가나."], ["가나"])) == 0
    assert value(answer_statistic("klue_exact_match", ["가나."], ["가나"])) == 1


def test_wrong_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="1 answers for 2 truths"):
        answer_statistic("exact_match", ["가"], ["가", "나"])
