"""How much of a reference a generated text has: chrF, and ROUGE that keeps Hangul.

ROUGE counts units that someone has to choose. The common library keeps only ``[a-z0-9]``, which
gives identical Korean sentences 0. Here the unit stands in the metric's name: ``eojeol``
(what stands between spaces) or ``character`` (each NFC character but spaces).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from unicodedata import normalize

import numpy as np

from kft.evaluation.metrics.answers import several_truths
from kft.evaluation.metrics.statistic import Array, SumStatistic, divide, mean_statistic

CHRF_ORDER = 6
CHRF_BETA = 2


def eojeols(text: str) -> list[str]:
    """What stands between spaces, in NFC."""
    return normalize("NFC", text).split()


def characters(text: str) -> list[str]:
    """Each NFC character but spaces."""
    return list("".join(normalize("NFC", text).split()))


UNITS: dict[str, Callable[[str], list[str]]] = {"eojeol": eojeols, "character": characters}
"""What ROUGE may count."""


def rouge_n(prediction: Sequence[str], reference: Sequence[str], n: int) -> float:
    """ROUGE-N: F1 of the runs of ``n`` units, each counted as often as both have it.

    Args:
        prediction: Units of the generated text.
        reference: Units of the reference.
        n: Length of a run.

    Source:
        Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries", section 2, as F1;
        rouge_score 0.1.2 gives the same for the same units.

    Example:
        >>> rouge_n("날씨가 매우 좋습니다".split(), "날씨가 매우 좋다".split(), 2)
        0.5
    """
    given, true = _runs(prediction, n), _runs(reference, n)
    same = (given & true).total()
    return 2 * same / (given.total() + true.total()) if same else 0.0


def rouge_l(prediction: Sequence[str], reference: Sequence[str]) -> float:
    """ROUGE-L: F1 of the longest common subsequence of units.

    Args:
        prediction: Units of the generated text.
        reference: Units of the reference.

    Source:
        Lin 2004, section 3.1, as F1.

    Example:
        >>> rouge_l(list("가나다라"), list("가다"))         # 2/4 and 2/2
        0.6666666666666666
    """
    length = common_subsequence(prediction, reference)
    return 2 * length / (len(prediction) + len(reference)) if length else 0.0


def common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence, in O(len(first)) operations on long integers.

    Source:
        Hyyrö 2004, "Bit-parallel LCS-length computation revisited", figure 2: a row of the usual
        table is one integer, a bit for each unit of ``second``.
    """
    places: dict[str, int] = {}
    for position, unit in enumerate(second):
        places[unit] = places.get(unit, 0) | 1 << position
    row = every = (1 << len(second)) - 1
    for unit in first:
        matches = row & places.get(unit, 0)
        row = ((row + matches) | (row - matches)) & every
    return len(second) - row.bit_count()


def rouge_statistic(
    variant: str,
    unit: str,
    predictions: Sequence[str],
    references: Sequence[str | Sequence[str]],
) -> SumStatistic:
    """The mean over rows of ROUGE's F1, the best where a row has several references.

    Args:
        variant: ``1``, ``2`` or ``l``.
        unit: ``eojeol`` or ``character``.
        predictions: A generated text per row.
        references: One or several of each row.

    Raises:
        ValueError: If the two differ in length.

    Example:
        >>> from kft.evaluation.metrics.statistic import value
        >>> value(rouge_statistic("l", "eojeol", ["날씨가 좋다"], ["날씨가 좋다"]))
        1.0
    """
    if len(predictions) != len(references):
        raise ValueError(f"{len(predictions)} texts for {len(references)} references")
    split = UNITS[unit]

    def score(given: list[str], true: list[str]) -> float:
        return rouge_l(given, true) if variant == "l" else rouge_n(given, true, int(variant))

    best = []
    for prediction, reference in zip(predictions, references, strict=True):
        given = split(prediction)
        best.append(max(score(given, split(truth)) for truth in several_truths(reference)))
    return mean_statistic(best)


def chrf(predictions: Sequence[str], references: Sequence[str | Sequence[str]]) -> SumStatistic:
    """chrF2 over all rows, from 0 to 100: F-score of runs of one to six characters.

    Precision and recall are each averaged over the six lengths, recall weighs double, spaces
    are left out, and counts are summed over rows before dividing. Texts are taken as they are:
    bring both to NFC first. Equals sacrebleu's ``chrF2|case:mixed|eff:yes|nc:6|nw:0|space:no``.

    Args:
        predictions: A generated text per row.
        references: One or several of each row; of several the one with the best chrF counts.

    Raises:
        ValueError: If the two differ in length.

    Source:
        Popović 2015, "chrF: character n-gram F-score for automatic MT evaluation"; Post 2018,
        "A Call for Clarity in Reporting BLEU Scores".
    """
    if len(predictions) != len(references):
        raise ValueError(f"{len(predictions)} texts for {len(references)} references")
    rows = np.zeros((len(predictions), 3 * CHRF_ORDER))
    for number, (prediction, reference) in enumerate(zip(predictions, references, strict=True)):
        given = _character_runs(prediction)
        found = [_matches(given, _character_runs(truth)) for truth in several_truths(reference)]
        rows[number] = max(found, key=lambda counts: float(chrf_score(counts)))
    return SumStatistic(rows, chrf_score)


def chrf_score(sums: Array) -> Array:
    """chrF2 of counts (..., 18): of each length those predicted, in the reference, in both."""
    given, true, same = np.moveaxis(sums.reshape(*sums.shape[:-1], CHRF_ORDER, 3), -1, 0)
    both = (given > 0) & (true > 0)  # lengths longer than either text say nothing
    lengths = both.sum(axis=-1)
    precision = divide((divide(same, given, empty=0) * both).sum(axis=-1), lengths, empty=0)
    recall = divide((divide(same, true, empty=0) * both).sum(axis=-1), lengths, empty=0)
    weight = CHRF_BETA**2
    return 100 * divide((1 + weight) * precision * recall, weight * precision + recall, empty=0.0)


def _matches(given: list[Counter[str]], true: list[Counter[str]]) -> Array:
    counts = [
        (guesses.total() if truths else 0, truths.total(), (guesses & truths).total())
        for guesses, truths in zip(given, true, strict=True)
    ]
    return np.array(counts, dtype=float).reshape(-1)


def _character_runs(text: str) -> list[Counter[str]]:
    solid = "".join(text.split())
    return [
        Counter(solid[start : start + n] for start in range(len(solid) - n + 1))
        for n in range(1, CHRF_ORDER + 1)
    ]


def _runs(units: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(units[start : start + n]) for start in range(len(units) - n + 1))
