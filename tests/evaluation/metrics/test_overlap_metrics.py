"""chrF and ROUGE, by hand and against sacrebleu and rouge_score."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import CHRF

from kft.evaluation.metrics.overlap import (
    UNITS,
    chrf,
    common_subsequence,
    rouge_l,
    rouge_n,
    rouge_statistic,
)
from kft.evaluation.metrics.statistic import value

SENTENCES = Path(__file__).parents[2] / "assets" / "sentences.txt"


class Units:
    """A tokenizer as rouge_score wants one."""

    def __init__(self, split: Callable[[str], list[str]]) -> None:
        self.tokenize = split


def random_pairs(seed: int, num: int) -> tuple[list[str], list[str]]:
    """Korean sentences, and each with words dropped, moved and cut short."""
    generator = np.random.default_rng(seed)
    sentences = SENTENCES.read_text(encoding="utf-8").splitlines()
    references = [str(generator.choice(sentences)) for _ in range(num)]
    predictions = []
    for reference in references:
        words = [word for word in reference.split() if generator.random() < 0.7]
        generator.shuffle(words)
        predictions.append(" ".join(words)[: int(generator.integers(0, 60))])
    return predictions, references


@pytest.mark.parametrize("unit", ["eojeol", "character"])
@pytest.mark.parametrize("variant", ["1", "2", "l"])
def test_rouge_agrees_with_rouge_score(variant: str, unit: str) -> None:
    predictions, references = random_pairs(1, 60)
    name = "rougeL" if variant == "l" else f"rouge{variant}"
    scorer = RougeScorer([name], tokenizer=Units(UNITS[unit]))
    theirs = [
        scorer.score(reference, prediction)[name].fmeasure
        for prediction, reference in zip(predictions, references, strict=True)
    ]
    ours = rouge_statistic(variant, unit, predictions, references)
    assert ours.rows[:, 0] == pytest.approx(np.array(theirs))
    assert 0.01 < value(ours) < 0.95


def test_rouge_by_hand() -> None:
    # 날씨가 매우 좋습니다 / 날씨가 매우 좋다: two of three words, one pair of two.
    given, true = ["날씨가", "매우", "좋습니다"], ["날씨가", "매우", "좋다"]
    assert rouge_n(given, true, 1) == pytest.approx(2 / 3)
    assert rouge_n(given, true, 2) == pytest.approx(1 / 2)
    assert rouge_l(given, true) == pytest.approx(2 / 3)
    assert rouge_n([], true, 1) == rouge_l([], true) == rouge_n(given, [], 2) == 0


def test_the_longest_common_subsequence_by_the_usual_table() -> None:
    generator = np.random.default_rng(2)
    for _ in range(100):
        first, second = (
            [str(unit) for unit in generator.integers(0, 5, generator.integers(0, 90))]
            for _ in range(2)
        )
        table = np.zeros((len(first) + 1, len(second) + 1), dtype=int)
        for i, one in enumerate(first):
            for j, other in enumerate(second):
                longer = max(table[i, j + 1], table[i + 1, j])
                table[i + 1, j + 1] = table[i, j] + 1 if one == other else longer
        assert common_subsequence(first, second) == table[-1, -1]


def test_rouge_keeps_hangul() -> None:
    same = "오늘 날씨가 매우 좋습니다"
    first, second = "오늘 AI 모델 3개를 배포했다", "어제 AI 데이터 3개를 지웠다"
    plain = RougeScorer(["rougeL"])
    assert plain.score(same, same)["rougeL"].fmeasure == 0.0  # what this metric is here for
    assert plain.score(first, second)["rougeL"].fmeasure == 1.0
    for variant in ("1", "2", "l"):
        for unit in UNITS:
            assert value(rouge_statistic(variant, unit, [same], [same])) == 1.0
            assert value(rouge_statistic(variant, unit, [first], [second])) < 0.7
    assert value(rouge_statistic("l", "eojeol", [first], [second])) == pytest.approx(2 / 5)


def test_rouge_of_decomposed_hangul_is_the_same() -> None:
    from unicodedata import normalize

    text = "날씨가 좋다"
    assert value(rouge_statistic("l", "character", [normalize("NFD", text)], [text])) == 1.0


def test_the_best_reference_counts() -> None:
    references = [["전혀 다른 말", "날씨가 좋다"]]
    assert value(rouge_statistic("1", "eojeol", ["날씨가 좋다"], references)) == 1.0
    assert value(chrf(["날씨가 좋다"], references)) == 100.0


@pytest.mark.parametrize("seed", range(5))
def test_chrf_equals_sacrebleus(seed: int) -> None:
    predictions, references = random_pairs(seed, 40)
    theirs = CHRF().corpus_score(predictions, [references]).score
    assert value(chrf(predictions, references)) == pytest.approx(theirs)
    for prediction, reference in zip(predictions[:10], references[:10], strict=True):
        theirs = CHRF().sentence_score(prediction, [reference]).score
        assert value(chrf([prediction], [reference])) == pytest.approx(theirs)


def test_chrf_with_several_references_equals_sacrebleus() -> None:
    predictions, first = random_pairs(7, 30)
    _, second = random_pairs(8, 30)
    theirs = CHRF().corpus_score(predictions, [first, second]).score
    both = [list(pair) for pair in zip(first, second, strict=True)]
    assert value(chrf(predictions, both)) == pytest.approx(theirs)


@pytest.mark.parametrize(
    ("prediction", "reference"),
    [("", "가나다"), ("가나다", ""), ("", ""), ("가", "가"), (" ", "가")],
)
def test_chrf_of_hardly_anything_equals_sacrebleus(prediction: str, reference: str) -> None:
    theirs = CHRF().sentence_score(prediction, [reference]).score
    assert value(chrf([prediction], [reference])) == pytest.approx(theirs)


def test_chrf_by_hand() -> None:
    # "가나" in "가나다": precision 1 and 1; recall 2/3, 1/2; three characters have no more runs.
    precision, recall = 1.0, (2 / 3 + 1 / 2) / 2
    by_hand = 5 * precision * recall / (4 * precision + recall)
    assert value(chrf(["가나"], ["가 나다"])) == pytest.approx(100 * by_hand)


def test_real_answers_agree_with_the_references(real_data: Path) -> None:
    import csv

    with (real_data / "data" / "chatbot" / "ChatbotData.csv").open(encoding="utf-8") as file:
        answers = [row["A"] for row in csv.DictReader(file)][:400]
    predictions, references = answers[:-1], answers[1:]
    theirs = CHRF().corpus_score(predictions, [references]).score
    assert value(chrf(predictions, references)) == pytest.approx(theirs)
    scorer = RougeScorer(["rougeL"], tokenizer=Units(UNITS["character"]))
    mean = np.mean(
        [
            scorer.score(reference, prediction)["rougeL"].fmeasure
            for prediction, reference in zip(predictions, references, strict=True)
        ]
    )
    ours = value(rouge_statistic("l", "character", predictions, references))
    assert ours == pytest.approx(mean)
