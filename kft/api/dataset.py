"""From the recipe's ``data`` section to examples: read, split, render, encode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kft.api.records import Records
from kft.api.row_checks import (
    Dataset,
    check_positions,
    check_template,
)
from kft.data.templates import TemplateRenderer, choose_template
from kft.errors import DataError, Finding
from kft.evaluation.held_out import HeldOut
from kft.recipe.schema import Recipe
from kft.tasks.registry import choose_task
from kft.tasks.task import EncodeOptions, Example, Message, Record, Renderer, Task

Encoder = Callable[[Sequence[Record]], list[list[Example]]]
"""Records -> the examples of each."""


@dataclass(frozen=True)
class Prepared:
    """Everything that training and evaluation read.

    Args:
        train: Training examples.
        held_out: Held-out examples, with a variant for each label where answers are labels.
        held_out_records: The records of the held-out examples, for sample generations.
        renderer: The template in use.
        template_note: Which template it is, in words.
        findings: What was noticed of the tokenizer; the rows are looked at by who asks.
    """

    train: Dataset
    held_out: HeldOut
    held_out_records: list[Record]
    renderer: TemplateRenderer
    template_note: str
    findings: Sequence[Finding] = ()


def prepare(
    recipe: Recipe,
    records: Records,
    tokenizer: Any,
    task: Task,
    *,
    positions: int | None = None,
) -> Prepared:
    """Render and encode the records.

    Args:
        recipe: The recipe.
        records: Its rows.
        tokenizer: The model's.
        task: The recipe's task.
        positions: Tokens per row that the model can take; ``None`` is no limit.

    Raises:
        DataError: If a row can't be rendered, has nothing to learn or is longer than the model.
        RecipeError: If the template can't be used.
    """
    note, chat_template = choose_template(recipe.data.template, records.layout.format, tokenizer)
    renderer = TemplateRenderer(tokenizer, chat_template, recipe.data.train_on)
    check_template(recipe.data.template, records.train, renderer)
    encode = encoder(recipe, records, tokenizer, renderer, task)
    too_long: list[str] = []
    train, _ = _encode_all(records.train, encode, too_long)
    if not train:
        raise _all_too_long(too_long, recipe.data.max_length)
    check_positions([train], positions)
    held_out, held_out_records = prepare_held_out(
        recipe, records, tokenizer, renderer, too_long, positions=positions
    )
    dropped = dict(records.dropped)
    if too_long:
        dropped[f"longer than {recipe.data.max_length} tokens"] = too_long
    dataset = Dataset(train, records.num_rows, dropped)
    return Prepared(
        train=dataset,
        held_out=held_out,
        held_out_records=held_out_records,
        renderer=renderer,
        template_note=note,
    )


def prepare_held_out(
    recipe: Recipe,
    records: Records,
    tokenizer: Any,
    renderer: TemplateRenderer,
    too_long: list[str],
    *,
    positions: int | None = None,
) -> tuple[HeldOut, list[Record]]:
    """Render and encode the held-out records alone.

    Args:
        recipe: The recipe.
        records: Its rows.
        tokenizer: The model's.
        renderer: With the template that the model was or will be trained with.
        too_long: Receives the places of rows left out.
        positions: As for :func:`prepare`.

    Raises:
        DataError: If a row can't be used, or ``data.eval`` was given and no row of it is left.
    """
    task, data = choose_task(recipe.task, recipe.model.attention), recipe.data
    encode = encoder(recipe, records, tokenizer, renderer, task)
    examples, kept = _encode_all(records.held_out, encode, too_long)
    if records.held_out and not examples:
        raise _all_too_long(too_long, data.max_length)
    # A label that is cut off would be scored on what is left of it, so labels never are.
    names = records.labels if task.answers_in_text else []
    room = max((len(tokenizer(name).input_ids) for name in names), default=0) + 8
    whole = EncodeOptions(data.max_length + room, "truncate")
    by_label = [
        _encode_all(
            [with_answer(record, name) for record in kept],
            lambda part: task.encode_many(part, tokenizer, renderer, whole),
            [],
        )[0]
        for name in names
    ]
    check_positions([examples, *by_label], positions)
    return HeldOut(examples, by_label, records.labels), kept


def encoder(
    recipe: Recipe, records: Records, tokenizer: Any, renderer: Renderer, task: Task
) -> Encoder:
    """Records -> examples, as the recipe's ``data`` section says."""
    options = EncodeOptions(recipe.data.max_length, recipe.data.on_too_long, tuple(records.labels))
    return lambda part: task.encode_many(part, tokenizer, renderer, options)


def _all_too_long(places: Sequence[str], max_length: int) -> DataError:
    return DataError(
        "No row is left: all are too long",
        where=places[0] if places else None,
        expected=f"at most {max_length} tokens (`data.max_length`)",
    )


def verification_examples(
    recipe: Recipe, records: Records, tokenizer: Any, num_rows: int
) -> list[Example]:
    """The first held-out rows (or training rows, when none are held out) as examples.

    Args:
        recipe: The run's recipe.
        records: Its rows.
        tokenizer: With the template used in training.
        num_rows: Rows at most.
    """
    renderer = trained_renderer(recipe, records, tokenizer)
    options = EncodeOptions(recipe.data.max_length, "truncate", tuple(records.labels))
    task = choose_task(recipe.task, recipe.model.attention)
    rows = (records.held_out or records.train)[:num_rows]
    return [example for row in rows for example in task.encode(row, tokenizer, renderer, options)]


def trained_renderer(recipe: Recipe, records: Records, tokenizer: Any) -> TemplateRenderer:
    """The template that a run was trained with: its tokenizer was saved with it."""
    template = tokenizer.chat_template
    if not isinstance(template, str) or records.layout.format == "text":
        _, template = choose_template(recipe.data.template, records.layout.format, tokenizer)
    return TemplateRenderer(tokenizer, template, recipe.data.train_on)


def with_answer(record: Record, answer: str) -> Record:
    """The record with another last answer."""
    turns = record.messages or ()
    last: Message = {"role": "assistant", "content": answer}
    return replace(record, messages=(*turns[:-1], last))


def prompt_text(record: Record, renderer: Renderer) -> tuple[str, str, str]:
    """A held-out record as a question to the model.

    Returns:
        The rendered prompt, what of it to show to a person, and the reference answer. Running
        text is cut after a third of its characters.
    """
    if record.messages is None:
        text = record.text or ""
        cut = max(1, len(text) // 3)
        return text[:cut], text[:cut], text[cut:]
    question, answer = record.messages[:-1], record.messages[-1]
    shown = question[-1]["content"] if question else ""
    return renderer.prompt(question), shown, answer["content"]


_ROWS_AT_ONCE = 1024


def _encode_all(
    records: Sequence[Record], encode: Encoder, too_long: list[str]
) -> tuple[list[Example], list[Record]]:
    examples: list[Example] = []
    kept: list[Record] = []
    for start in range(0, len(records), _ROWS_AT_ONCE):
        part = records[start : start + _ROWS_AT_ONCE]
        for record, encoded in zip(part, encode(part), strict=True):
            if not encoded:
                too_long.append(record.place)
                continue
            examples += encoded
            kept.append(record)
    return examples, kept
