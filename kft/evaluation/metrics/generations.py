"""What generated answers do: end, run on, repeat, switch script, copy training answers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from unicodedata import normalize

from kft.evaluation.metrics.answers import several_truths
from kft.evaluation.metrics.overlap import eojeols
from kft.evaluation.metrics.statistic import SumStatistic, mean_statistic

RUN_LENGTH = 4
"""Units (tokens or eojeols) of a run that is looked for again."""

TIMES = 4
"""How often a run, or a period at the end, must stand for the answer to count as repeating."""

LONGEST_PERIOD = 20
"""Characters of the longest period that is looked for at the end."""

HELD_CHARACTER = 20
"""How often one character must stand at the end: fewer (ㅋㅋㅋㅋ, ....) is how people write."""

SCRIPTS = {
    "hanja": re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"),
    "latin": re.compile("[A-Za-zªºÀ-ÖØ-öø-ɏḀ-ỿＡ-Ｚａ-ｚ]"),
    "kana": re.compile("[ぁ-ゖゝ-ゟァ-ヺー-ヿㇰ-ㇿｦ-ﾝ]"),
    "cyrillic": re.compile("[\u0400-\u052f]"),
}
"""Letters of scripts that a Korean answer may slip into."""


@dataclass(frozen=True)
class Generation:
    """One generated answer with what it answers.

    Args:
        text: The answer, without special tokens.
        prompt: What was asked, as the model saw it.
        ended: Whether the model wrote its end token; otherwise the length limit cut it.
        reference: The true answer, or several; ``None`` where there is none.
        token_ids: The answer's tokens; without them repetition is looked for in eojeols alone.
    """

    text: str
    prompt: str
    ended: bool
    reference: str | Sequence[str] | None = None
    token_ids: Sequence[int] | None = None


def repeats(text: str, token_ids: Sequence[int] | None = None) -> bool:
    """Whether an answer goes round in circles.

    It does if four units in a row (eojeols, or tokens where given) occur four times or more,
    or if it ends with a period of at most 20 characters four times over. A single character
    held on at the end counts from 20 times.

    Example:
        >>> repeats("네, 알겠습니다. 네, 알겠습니다. 네, 알겠습니다. 네, 알겠습니다.")
        True
        >>> repeats("정말 재미있어요 ㅋㅋㅋㅋㅋ")
        False
    """
    units: list[Sequence[object]] = [eojeols(text)]
    if token_ids is not None:
        units.append(token_ids)
    return any(_most_frequent_run(unit) >= TIMES for unit in units) or _ends_in_a_period(text)


def _most_frequent_run(units: Sequence[object]) -> int:
    starts = range(len(units) - RUN_LENGTH + 1)
    runs = Counter(tuple(units[start : start + RUN_LENGTH]) for start in starts)
    return max(runs.values(), default=0)


def _ends_in_a_period(text: str) -> bool:
    # The space in front belongs to the first period where they are whole eojeols.
    spaced = " " + " ".join(eojeols(text))
    for length in range(1, LONGEST_PERIOD + 1):
        period = spaced[-length:]
        times = TIMES if len(set(period)) > 1 else -(-HELD_CHARACTER // length)
        if len(spaced) >= length * times and spaced.endswith(period * times):
            return True
    return False


def scripts_in(text: str) -> set[str]:
    """Which of :data:`SCRIPTS` have a letter in the text, in NFC.

    Example:
        >>> sorted(scripts_in("서울은 首都이고 AI가 있다"))
        ['hanja', 'latin']
    """
    composed = normalize("NFC", text)
    return {name for name, letters in SCRIPTS.items() if letters.search(composed)}


def scripts_unasked(generation: Generation) -> set[str]:
    """Scripts of the answer that neither its prompt nor a reference has."""
    asked = scripts_in(generation.prompt)
    for truth in _truths(generation):
        asked |= scripts_in(truth)
    return scripts_in(generation.text) - asked


def answer_hash(text: str) -> str:
    """What two answers share that say exactly the same: of the NFC text, spaces evened out."""
    return blake2b(" ".join(eojeols(text)).encode(), digest_size=16).hexdigest()


def copies_training(generation: Generation, training_answers: Collection[str]) -> bool:
    """Whether the answer is a training answer, word for word.

    Args:
        generation: The answer; an empty one copies nothing.
        training_answers: :func:`answer_hash` of each.
    """
    return bool(generation.text.strip()) and answer_hash(generation.text) in training_answers


def matches_reference(generation: Generation) -> bool:
    """Whether the answer is one of its references, word for word."""
    answer = answer_hash(generation.text)
    return any(answer == answer_hash(truth) for truth in _truths(generation))


def _truths(generation: Generation) -> Sequence[str]:
    return [] if generation.reference is None else several_truths(generation.reference)


def _copies_alone(generation: Generation, training_answers: Collection[str]) -> bool:
    copied = copies_training(generation, training_answers)
    return copied and not matches_reference(generation)


def _copies_and_is_right(generation: Generation, training_answers: Collection[str]) -> bool:
    return copies_training(generation, training_answers) and matches_reference(generation)


GENERATION_SHARES: dict[str, Callable[[Generation], bool]] = {
    "ended": lambda generation: generation.ended,
    "length_limit": lambda generation: not generation.ended,
    "repeats": lambda generation: repeats(generation.text, generation.token_ids),
    "empty": lambda generation: not generation.text.strip(),
    "switches_script": lambda generation: bool(scripts_unasked(generation)),
    "switches_to_hanja": lambda generation: "hanja" in scripts_unasked(generation),
    "switches_to_latin": lambda generation: "latin" in scripts_unasked(generation),
    "switches_to_kana": lambda generation: "kana" in scripts_unasked(generation),
    "switches_to_cyrillic": lambda generation: "cyrillic" in scripts_unasked(generation),
}
"""What can be said of one generation; as metrics the share of those it is true of."""

MEMORY_SHARES: dict[str, Callable[[Generation, Collection[str]], bool]] = {
    "memorised": _copies_alone,
    "memorised_and_right": _copies_and_is_right,
}
"""The same where the training answers must be known: ``memorised`` are copies of a training
answer that isn't the reference; where it is too (a common answer such as "네"), the copy says
nothing about memory and counts under ``memorised_and_right``."""


def generation_statistic(name: str, generations: Sequence[Generation]) -> SumStatistic:
    """Share of generations of which one of :data:`GENERATION_SHARES` is true, from 0 to 1."""
    is_true = GENERATION_SHARES[name]
    return mean_statistic([is_true(generation) for generation in generations])


def memory_statistic(
    name: str, generations: Sequence[Generation], training_answers: Collection[str]
) -> SumStatistic:
    """Share of generations of which one of :data:`MEMORY_SHARES` is true, from 0 to 1.

    Args:
        name: One of :data:`MEMORY_SHARES`.
        generations: The answers.
        training_answers: :func:`answer_hash` of each answer that was trained on.

    Example:
        >>> from kft.evaluation.metrics.statistic import value
        >>> trained = {answer_hash("네, 그럼요."), answer_hash("좋아요.")}
        >>> asked = [Generation("좋아요.", "뭐 해?", True, "쉬어요.")]
        >>> value(memory_statistic("memorised", asked, trained))
        1.0
    """
    is_true = MEMORY_SHARES[name]
    return mean_statistic([is_true(generation, training_answers) for generation in generations])
