"""What of general Korean a model loses while it learns a task: the same texts before and after."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.resources import files
from math import isfinite
from typing import Any

from kft.errors import Finding
from kft.evaluation.comparison import compare
from kft.evaluation.metrics.registry import metric_statistic
from kft.evaluation.metrics.statistic import Statistic, value
from kft.tasks.task import Example

MUCH = 0.10
"""A loss on general text that rises by more than this share is worth a warning."""

_OUTCOMES = {
    "better": "general text is known better than before",
    "within noise": "general text is known as well as before",
    "worse": "a little of general text was forgotten",
}


def general_texts() -> list[str]:
    """Kft's own Korean passages: knowledge, instructions, news, talk, letters, stories.

    They were written for kft in 2026: no checkpoint from before has been trained on them.

    Example:
        >>> texts = general_texts()
        >>> len(texts), min(map(len, texts)) > 40
        (64, True)
    """
    text = files("kft.evaluation").joinpath("general_ko.txt").read_text(encoding="utf-8")
    return text.splitlines()


def of_passages(
    name: str, examples: Sequence[Example], rows: Mapping[str, Sequence[float]]
) -> Statistic:
    """A metric over passages: one that is cut into several examples is one row of it.

    Args:
        name: ``bits_per_character`` or ``eval_loss``.
        examples: Parts of passages; those of one stand at the same place.
        rows: Of each part: ``totals`` in nats and ``counts`` of targets.
    """
    nats: dict[str, float] = {}
    counts, texts = Counter[str](), defaultdict[str, str](str)
    parts = zip(examples, rows["totals"], rows["counts"], strict=True)
    for example, total, count in parts:
        nats[example.place] = nats.get(example.place, 0.0) + total
        counts[example.place] += int(count)
        texts[example.place] += example.target_text
    inputs = {
        "nats": list(nats.values()),
        "num_targets": [counts[place] for place in nats],
        "texts": [texts[place] for place in nats],
    }
    return metric_statistic(name, inputs)


def forgetting(
    name: str, base: Statistic, tuned: Statistic, *, text: str, seed: int = 0
) -> dict[str, Any]:
    """What training a model cost it on general text.

    Args:
        name: The metric; lower is better.
        base: Of the passages before training.
        tuned: Of the same ones after it.
        text: Where the passages come from.
        seed: Of the bootstrap's draws.

    Returns:
        ``metric``, ``text``, ``base``, ``tuned``, ``share`` (by which it rose) and ``sentence``;
        of ten passages and more also ``difference``, ``low``, ``high``, ``outcome`` and
        ``num_rows``, as :func:`kft.evaluation.comparison.compare` has them; ``is_much``: it rose
        by more than :data:`MUCH`, and by more than noise.
    """
    before, after = value(base), value(tuned)
    share = after / before - 1 if before else 0.0
    told = {"metric": name, "text": text, "base": before, "tuned": after, "share": share}
    if not isfinite(after):
        said = f"general text has no likelihood any more: {name} {before:.4g} -> {after}"
        return {**told, "is_much": True, "sentence": said}
    found = compare({name: base}, {name: tuned}, seed=seed).get(name)
    outcome = found.outcome if found else None
    is_much = outcome == "worse" and share > MUCH
    said = _OUTCOMES.get(outcome or "", f"too few passages to tell ({base.num_rows})")
    if is_much:
        said = "much of general text was forgotten"
    sentence = f"{said}: {name} {before:.4g} -> {after:.4g} ({share:+.1%})"
    return {**told, **(asdict(found) if found else {}), "is_much": is_much, "sentence": sentence}


def forgot_much(told: Mapping[str, Any]) -> list[Finding]:
    """A warning where training cost much, by what :func:`forgetting` told."""
    if not told.get("is_much"):
        return []
    if not isfinite(told["tuned"]):
        what = "The tuned model gives general text no likelihood at all"
        return [Finding("warning", what, where="`evaluate.general_text`")]
    return [
        Finding(
            "warning",
            f"The loss on general text rose by {told['share']:.0%}: the model forgot much of what "
            "it knew",
            where="`evaluate.general_text`",
            hint="A smaller `train.learning_rate`, fewer epochs, or general rows among the "
            "training rows keep more of it.",
        )
    ]
