"""The general text that a model is measured on beside its task: kft's own, or the user's."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import Any

from kft.data.files import resolve_files
from kft.data.record_store import read_side
from kft.data.templates import TemplateRenderer
from kft.errors import DataError, Finding
from kft.evaluation.forgetting import general_texts
from kft.recipe.metric_rules import GENERAL_METRIC
from kft.recipe.schema import DataSection, Recipe
from kft.tasks.task import IGNORE_INDEX, EncodeOptions, Example, Record, Task

MOST_PASSAGES = 256
"""Of the user's own text: enough for an interval, and soon measured."""

KEY = "evaluate.general_text"


def general_records(recipe: Recipe) -> list[Record]:
    """The passages; none where none are asked for, or the task has no language model.

    Raises:
        DataError: If the recipe's file can't be read, or holds no text.
    """
    asked = recipe.evaluate.general_text
    if asked is None or recipe.task not in GENERAL_METRIC:
        return []
    if asked == "auto":
        texts = enumerate(general_texts(), 1)
        return [Record(text=text, place=f"general_ko.txt:{line}") for line, text in texts]
    section = DataSection(train=asked, format="text")
    files = resolve_files(asked, KEY)
    try:
        side = read_side(files, section, "answer", most=MOST_PASSAGES)
    except DataError as error:  # whose hint is for the keys of `data`
        hint = f"`{KEY}` takes running text: a txt file, or rows with a column `text`."
        raise DataError(
            error.what, where=error.where, expected=error.expected, hint=hint
        ) from error
    if not side.records:
        raise DataError("No passage to measure", where=asked, expected=f"text, for `{KEY}`")
    return list(islice(side.records, MOST_PASSAGES))


def general_examples(
    recipe: Recipe,
    task: Task,
    tokenizer: Any,
    renderer: TemplateRenderer,
    positions: int | None,
) -> list[Example]:
    """The passages as running text, whatever the layout of the rows is.

    That a passage ends is no part of what is measured: a task teaches when to end.

    Args:
        recipe: Names them, and the longest row.
        task: The task, which knows its tokenizer.
        tokenizer: The model's.
        renderer: Of conversations; running text has no template.
        positions: Tokens per row that the model can take; ``None`` is no limit. A passage that
            is longer goes on in a further example.
    """
    records = general_records(recipe)
    longest = recipe.data.max_length
    options = EncodeOptions(min(longest, positions or longest), "truncate")
    made = task.encode_many(records, tokenizer, renderer, options)
    end = tokenizer.eos_token_id
    return [_without_end(example, end) for examples in made for example in examples]


def general_if_there(
    recipe: Recipe,
    task: Task,
    tokenizer: Any,
    renderer: TemplateRenderer,
    positions: int | None,
) -> tuple[list[Example], list[Finding]]:
    """As :func:`general_examples`; a text that has gone since the run is told, and is no error."""
    try:
        return general_examples(recipe, task, tokenizer, renderer, positions), []
    except DataError as error:
        what = f"The general text isn't measured: {error.what}"
        hint = "Put the run's text back where it was, and measure again."
        return [], [Finding("warning", what, where=f"`{KEY}`", hint=hint)]


def _without_end(example: Example, end: int | None) -> Example:
    if end is None or example.labels[-1] != end:
        return example
    return replace(example, labels=[*example.labels[:-1], IGNORE_INDEX])
