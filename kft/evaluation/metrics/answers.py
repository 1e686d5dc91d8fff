"""Metrics of short answers to questions, as KorQuAD and KLUE-MRC define them.

Both take the best over several true answers, on texts that are normalised first; the two
normalisations differ, and each is its benchmark's own.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher

from kft.evaluation.metrics.statistic import SumStatistic, mean_statistic

WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)

KORQUAD_TO_SPACE = str.maketrans(dict.fromkeys("'\"《》<>〈〉()‘’", " "))

# KLUE's published pattern closes its bracket too early: it matches one of `'"《》<>〈〉` only
# before the very text `()‘’`, so in practice such brackets stay. Scores are comparable only so.
KLUE_TO_SPACE = re.compile("['\"《》<>〈〉]\\(\\)‘’")


def normalize_korquad(text: str) -> str:
    """An answer as KorQuAD compares it: quotes and brackets to spaces, then as SQuAD's.

    Source:
        KorQuAD 1.0, evaluate-v1.0.py, ``normalize_answer``.

    Example:
        >>> normalize_korquad("《Faust》 교향곡, (서곡)")
        'faust 교향곡 서곡'
    """
    lowered = text.translate(KORQUAD_TO_SPACE).lower()
    return " ".join(lowered.translate(WITHOUT_PUNCTUATION).split())


def normalize_klue(text: str) -> str:
    """An answer as KLUE-MRC compares it: lower-cased, ASCII punctuation removed.

    Source:
        KLUE-baseline, metrics/utils.py, ``normalize_answer_for_klue_mrc``.

    Example:
        >>> normalize_klue("《Faust》 교향곡, (서곡)")
        '《faust》 교향곡 서곡'
    """
    lowered = KLUE_TO_SPACE.sub(" ", text.lower())
    return " ".join(lowered.translate(WITHOUT_PUNCTUATION).split())


def character_f1(prediction: str, truth: str) -> float:
    """F1 over the bag of characters, spaces left out, after KorQuAD's normalisation.

    Two answers of which nothing is left have F1 0, as in KorQuAD's script.

    Example:
        >>> character_f1("서울시", "서울")
        0.8
    """
    given = Counter(normalize_korquad(prediction).replace(" ", ""))
    true = Counter(normalize_korquad(truth).replace(" ", ""))
    same = (given & true).total()
    return 2 * same / (given.total() + true.total()) if same else 0.0


def rouge_w(prediction: str, truth: str) -> float:
    """F1 of the longest run of characters that both have, after KLUE's normalisation.

    KLUE calls it ROUGE-W; Lin's ROUGE-W weighs all common runs, KLUE's takes the longest alone,
    spaces included. An empty truth (an unanswerable question) asks for an empty answer.

    Source:
        Park et al. 2021, "KLUE: Korean Language Understanding Evaluation", section 3.7;
        KLUE-baseline, metrics/utils.py, ``rouge_w_score_for_klue_mrc``.

    Example:
        >>> rouge_w("서울특별시", "서울시")          # "서울": 2/5 and 2/3
        0.5
    """
    given, true = normalize_klue(prediction), normalize_klue(truth)
    if not given or not true:
        return float(given == true)
    # Its default of passing over characters that are frequent in texts of 200 and more is KLUE's.
    match = SequenceMatcher(None, given, true).find_longest_match()
    return 2 * match.size / (len(given) + len(true))


def _korquad_match(prediction: str, truth: str) -> float:
    return float(normalize_korquad(prediction) == normalize_korquad(truth))


def _klue_match(prediction: str, truth: str) -> float:
    return float(normalize_klue(prediction) == normalize_klue(truth))


def _exact(prediction: str, truth: str) -> float:
    return float(" ".join(prediction.split()) == " ".join(truth.split()))


ANSWER_SCORES: dict[str, Callable[[str, str], float]] = {
    "exact_match": _exact,
    "korquad_exact_match": _korquad_match,
    "korquad_character_f1": character_f1,
    "klue_exact_match": _klue_match,
    "klue_rouge_w": rouge_w,
}
"""Metrics of one answer against one truth. ``exact_match`` is on texts as they are, but for
how much space stands between words."""


def answer_statistic(
    name: str, predictions: Sequence[str], references: Sequence[str | Sequence[str]]
) -> SumStatistic:
    """The mean over rows of the best score over each row's true answers, between 0 and 1.

    Args:
        name: One of :data:`ANSWER_SCORES`.
        predictions: An answer per row.
        references: The true answer of each row, or several of which any will do. None at all
            is an unanswerable question: the empty text is right.

    Raises:
        ValueError: If the two differ in length.

    Example:
        >>> from kft.evaluation.metrics.statistic import value
        >>> value(answer_statistic("korquad_exact_match", ["1989년!"], [["1989년", "1989"]]))
        1.0
    """
    score = ANSWER_SCORES[name]
    if len(predictions) != len(references):
        raise ValueError(f"{len(predictions)} answers for {len(references)} truths")
    best = [
        max(score(prediction, truth) for truth in several_truths(reference))
        for prediction, reference in zip(predictions, references, strict=True)
    ]
    return mean_statistic(best)


def several_truths(reference: str | Sequence[str]) -> Sequence[str]:
    """One truth as a list of one; none at all as the empty text."""
    return [reference] if isinstance(reference, str) else list(reference) or [""]
