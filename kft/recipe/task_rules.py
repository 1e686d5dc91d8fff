"""Rules between the recipe's `task`, its model and its rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

from kft.recipe.conflict import Conflict
from kft.recipe.keys import one_of
from kft.recipe.metric_rules import GENERAL_METRIC
from kft.recipe.schema import Format, Recipe, TaskName

_FORMATS_OF_TASK: dict[str, frozenset[str]] = {
    "sequence_classification": frozenset({"auto", "classification", "pairs"}),
    "sequence_regression": frozenset({"auto", "classification", "pairs"}),
    "token_classification": frozenset({"auto", "tokens"}),
    "masked_lm": frozenset({"auto", "text"}),
}


def tasks_for(rows_format: str) -> list[TaskName]:
    """The tasks that can be learned from rows of a format, in the schema's order.

    Example:
        >>> tasks_for("tokens")
        ['token_classification']
    """
    return [
        task
        for task in get_args(TaskName)
        if rows_format in _FORMATS_OF_TASK.get(task, {rows_format} - {"tokens"})
    ]


def prefix_has_a_prompt(recipe: Recipe) -> Iterator[Conflict]:
    """Prefix attention is for prompts with answers."""
    if recipe.model.attention != "prefix":
        return
    what = "`model.attention: prefix` has no meaning with "
    if recipe.task != "causal_lm":
        yield Conflict(
            "model.attention",
            f"{what}`task: {recipe.task}`, whose tokens all see each other",
            "`causal`, or `task: causal_lm`",
            "Leave `model.attention` out.",
        )
    elif recipe.data.format == "text":
        yield Conflict(
            "model.attention",
            f"{what}`data.format: text`, which has no prompt",
            "`causal`, or rows with a prompt and an answer",
        )
    elif recipe.data.train_on == "all":
        yield Conflict(
            "model.attention",
            f"{what}`data.train_on: all`: a prompt that sees itself can't be learned",
            "`data.train_on` `assistant` or `last_assistant`",
        )


def general_text_needs_a_language_model(recipe: Recipe) -> Iterator[Conflict]:
    """A model that labels texts has no likelihood of a general one."""
    asked = recipe.evaluate.general_text
    if asked == "none":
        yield Conflict(
            "evaluate.general_text",
            "Invalid value for `evaluate.general_text`, got `none`",
            "`auto`, `null` or a file of running text",
            "`null` measures none.",
        )
        return
    if asked in (None, "auto") or recipe.task in GENERAL_METRIC:
        return
    yield Conflict(
        "evaluate.general_text",
        f"`evaluate.general_text` can't be measured with `task: {recipe.task}`, whose model "
        "writes no text",
        f"`task` {one_of(list(GENERAL_METRIC))}",
        "Leave `evaluate.general_text` out.",
    )


def task_fits_the_rows(recipe: Recipe) -> Iterator[Conflict]:
    """A task that labels texts is not learned from conversations, nor the reverse."""
    fitting = _FORMATS_OF_TASK.get(recipe.task)
    if fitting is None or recipe.data.format in fitting:
        return
    yield Conflict(
        "data.format",
        f"`task: {recipe.task}` can't be learned from `data.format: {recipe.data.format}`",
        one_of([name for name in get_args(Format) if name in fitting]),
    )
