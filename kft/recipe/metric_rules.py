"""The metrics a recipe may name, and which of them fit its task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kft.errors import name_list, nearest_name
from kft.recipe.conflict import Conflict
from kft.recipe.schema import Recipe

METRIC_NAMES: Mapping[str, tuple[str, ...]] = {
    "labels": ("accuracy", "macro_f1", "micro_f1", "weighted_f1", "matthews"),
    "multilabels": (
        "multilabel_macro_f1",
        "multilabel_micro_f1",
        "multilabel_weighted_f1",
        "multilabel_exact_match",
    ),
    "numbers": ("pearson", "spearman", "r2", "mean_squared_error", "mean_absolute_error"),
    "tags": (
        "entity_micro_f1",
        "entity_macro_f1",
        "entity_micro_f1_strict",
        "entity_macro_f1_strict",
        "klue_character_f1",
    ),
    "texts": (
        "exact_match",
        "korquad_exact_match",
        "korquad_character_f1",
        "klue_exact_match",
        "klue_rouge_w",
        "chrf",
        "rouge_1_eojeol",
        "rouge_1_character",
        "rouge_2_eojeol",
        "rouge_2_character",
        "rouge_l_eojeol",
        "rouge_l_character",
    ),
    "nats": ("eval_loss", "perplexity", "bits_per_character", "bits_per_byte"),
    "generations": (
        "ended",
        "length_limit",
        "repeats",
        "empty",
        "switches_script",
        "switches_to_hanja",
        "switches_to_latin",
        "switches_to_kana",
        "switches_to_cyrillic",
        "memorised",
        "memorised_and_right",
    ),
}
"""Names by what a metric is computed from; :mod:`kft.evaluation.metrics` computes them."""

GENERAL_METRIC: Mapping[str, str] = {"causal_lm": "bits_per_character", "masked_lm": "eval_loss"}
"""Task -> what ``evaluate.general_text`` is measured by; models of other tasks write no text."""

GENERATED = ("texts", "generations")
"""What is computed from generated answers, so not while training."""

_KINDS_OF_TASK: Mapping[str, tuple[str, ...]] = {
    "causal_lm": ("nats", "labels", *GENERATED),
    "sequence_classification": ("labels", "multilabels"),
    "sequence_regression": ("numbers",),
    "token_classification": ("tags",),
}
_LOSSES = ("eval_loss", "perplexity")


def metrics_of_task(task: str, *, is_training: bool = False) -> tuple[str, ...]:
    """Names of the metrics that a task can be measured by.

    Args:
        task: The recipe's ``task``.
        is_training: Only those that need no generated answers.

    Example:
        >>> metrics_of_task("masked_lm")
        ('eval_loss', 'perplexity')
    """
    if task == "masked_lm":
        return _LOSSES
    kinds = [kind for kind in _KINDS_OF_TASK[task] if not (is_training and kind in GENERATED)]
    names = [name for kind in kinds for name in METRIC_NAMES[kind]]
    return tuple(names) if "nats" in kinds else ("eval_loss", *names)


def metrics_fit_the_task(recipe: Recipe) -> Iterator[Conflict]:
    """Metrics exist, and are ones of the task."""
    asked = [] if recipe.evaluate.metrics == "auto" else recipe.evaluate.metrics
    for name in asked:
        yield from _known("evaluate.metrics", name, recipe.task, metrics_of_task(recipe.task))
    best = recipe.train.metric_for_best_model
    while_training = metrics_of_task(recipe.task, is_training=True)
    yield from _known("train.metric_for_best_model", best, recipe.task, while_training)


def _known(key: str, name: str, task: str, known: tuple[str, ...]) -> Iterator[Conflict]:
    if name in known:
        return
    everywhere = [metric for names in METRIC_NAMES.values() for metric in names]
    guess = nearest_name(name, known)
    what = f"Unknown metric in `{key}`, got `{name}`"
    if name in everywhere:
        what = f"`{key}` can't be `{name}` with `task: {task}`"
    yield Conflict(
        key,
        what,
        f"one of {name_list(known, limit=8)}",
        f"Did you mean `{guess}`?" if guess else None,
    )


def best_is_looked_for(recipe: Recipe) -> Iterator[Conflict]:
    """Stopping early and keeping the best need evaluations while training."""
    train = recipe.train
    if recipe.evaluate.eval_steps is not None:
        return
    asked = {
        "train.early_stopping_patience": train.early_stopping_patience is not None,
        "train.load_best_model_at_end": train.load_best_model_at_end is True,
    }
    for key, is_asked in asked.items():
        if is_asked:
            yield Conflict(
                key,
                f"`{key}` needs evaluations while training, got `evaluate.eval_steps: null`",
                "`evaluate.eval_steps` with a number of optimizer steps",
            )
