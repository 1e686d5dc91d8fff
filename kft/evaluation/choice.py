"""Which metrics a run is measured by: those its recipe names, or those of its task and rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from kft.errors import RecipeError, name_list
from kft.evaluation.metrics.entries import Kind
from kft.evaluation.metrics.registry import METRICS, find_metric

GENERATED: tuple[Kind, ...] = ("texts", "generations")
"""Kinds of metrics that need generated answers."""

SHORT = 20
"""Characters of a reference up to which answers can be expected to match it exactly."""

_TEXT = ("bits_per_character", "perplexity", "bits_per_byte")
_BY_KIND: dict[Kind, tuple[str, ...]] = {
    "labels": ("accuracy", "macro_f1"),
    "multilabels": ("multilabel_macro_f1", "multilabel_micro_f1", "multilabel_exact_match"),
    "numbers": ("r2", "pearson", "spearman", "mean_squared_error"),
    "tags": ("entity_micro_f1", "entity_macro_f1", "entity_macro_f1_strict"),
}
_ENDS = ("ended", "length_limit", "repeats", "switches_script")
_ANSWERS = ("chrf", "rouge_l_eojeol", *_ENDS)
_SHORT_ANSWERS = ("exact_match", "korquad_character_f1", *_ANSWERS)
MEMORY = ("memorised", "memorised_and_right")
"""Metrics of answers that look them up among the training answers."""


@dataclass(frozen=True)
class Choice:
    """Names of metrics.

    Args:
        rows: Computed from losses and predictions of all held-out rows.
        generated: Computed from generated answers.
        headline: The one that answers whether training helped.
    """

    rows: tuple[str, ...]
    generated: tuple[str, ...]
    headline: str


@dataclass(frozen=True)
class RowFacts:
    """What of the rows decides which metrics make sense.

    Args:
        task: The recipe's task.
        kind: What models say of the rows beside a loss.
        is_text: Rows are running text, which has no answer.
        references: True answers of the rows for which answers are generated; empty for none.
        are_characters: Tags belong to characters.
        knows_training: The training answers can soon be looked up.
    """

    task: str
    kind: Kind | None
    is_text: bool = False
    references: Sequence[str] = ()
    are_characters: bool = False
    knows_training: bool = False


def choose_metrics(
    asked: Literal["auto"] | Sequence[str], facts: RowFacts, *, best: str = "eval_loss"
) -> Choice:
    """The metrics of a run; the loss is always among them.

    Args:
        asked: The recipe's ``evaluate.metrics``.
        facts: Of the held-out rows.
        best: The metric that tells the best evaluation while training; measured too.

    Raises:
        RecipeError: If a metric can't be computed from such rows.

    Example:
        >>> choose_metrics("auto", RowFacts("sequence_regression", "numbers")).headline
        'r2'
    """
    names = list(_default(facts) if asked == "auto" else asked)
    for name in names:
        _require_possible(name, facts, "evaluate.metrics")
    _require_possible(best, facts, "train.metric_for_best_model")
    generated = tuple(name for name in names if find_metric(name).kind in GENERATED)
    rows = [name for name in names if name not in generated]
    return Choice(tuple(dict.fromkeys(["eval_loss", *rows, best])), generated, names[0])


def _default(facts: RowFacts) -> tuple[str, ...]:
    if facts.task == "masked_lm":
        return ("eval_loss", "perplexity")
    if facts.kind is not None and facts.task != "causal_lm":
        klue = ("klue_character_f1",) if facts.are_characters else ()
        return (*_BY_KIND[facts.kind], *klue)
    if facts.kind is not None:  # labels by likelihood say more than generated ones
        return (*_BY_KIND[facts.kind], *_TEXT)
    if not facts.references:
        return _TEXT
    if facts.is_text:
        return (*_TEXT, "repeats", "switches_script")
    is_short = median(len(reference) for reference in facts.references) <= SHORT
    copies = MEMORY[:1] if facts.knows_training else ()
    return (*_TEXT, *(_SHORT_ANSWERS if is_short else _ANSWERS), *copies)


def _require_possible(name: str, facts: RowFacts, key: str) -> None:
    entry = find_metric(name, where=f"`{key}`")
    possible = {"nats", facts.kind, *(GENERATED if facts.references else ())}
    if entry.kind in possible:
        return
    if entry.kind in GENERATED and facts.task == "causal_lm":
        raise RecipeError(
            f"The metric `{name}` needs generated answers",
            where="`evaluate.scored_generations`",
            expected="at least 1, with held-out rows",
        )
    fitting = [other for other, metric in METRICS.items() if metric.kind in possible]
    raise RecipeError(
        f"The metric `{name}` can't be computed from these rows",
        where=f"`{key}`",
        expected=f"one of {name_list(fitting, limit=8)}",
    )
