"""From the recipe's ``data`` section to examples: read, split, render, encode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from kft.api.encoding import Encoding, joined_findings
from kft.api.looking import looking_beside
from kft.api.records import Records
from kft.api.row_checks import Dataset, check_positions, check_template
from kft.api.row_report import RowReport
from kft.data.left_out import LeftOut
from kft.data.templates import TemplateRenderer, choose_template
from kft.errors import DataError, Finding
from kft.evaluation.held_out import HeldOut
from kft.recipe.schema import Recipe
from kft.tasks.registry import choose_task
from kft.tasks.task import EncodeOptions, Example, Record, Renderer, Task


@dataclass(frozen=True)
class Prepared:
    """Everything that training and evaluation read.

    Args:
        train: Training examples.
        held_out: Held-out examples, with a variant for each label where answers are labels.
        held_out_records: The records of the held-out examples, for sample generations.
        renderer: The template in use.
        template_note: Which template it is, in words.
        report: What the rows themselves show.
        findings: What was noticed of the tokenizer and of keeping the rows.
    """

    train: Dataset
    held_out: HeldOut
    held_out_records: Sequence[Record]
    renderer: TemplateRenderer
    template_note: str
    report: RowReport
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
    encoding = Encoding(task, tokenizer, renderer, _options(recipe, records))
    too_long_apart = LeftOut()
    held_out, held_out_records, findings = prepare_held_out(
        recipe, records, tokenizer, renderer, too_long_apart, positions=positions
    )
    with looking_beside(records.train, held_out_records, records.labels) as looking:
        encoded = encoding.encode(records.train)
        too_long, train = encoded.too_long, encoded.examples
        if not train:
            raise _all_too_long(too_long, recipe.data.max_length)
        check_positions([train], positions)
        report, told = looking.result()
    too_long.extend(too_long_apart)
    dropped = dict(records.dropped)
    if too_long.count:
        dropped[f"longer than {recipe.data.max_length} tokens"] = too_long
    dataset = Dataset(train, records.num_rows, dropped)
    return Prepared(
        train=dataset,
        held_out=held_out,
        held_out_records=held_out_records,
        renderer=renderer,
        template_note=note,
        report=report,
        findings=joined_findings(records.findings, encoded.findings, findings, told),
    )


def prepare_held_out(
    recipe: Recipe,
    records: Records,
    tokenizer: Any,
    renderer: TemplateRenderer,
    too_long: LeftOut,
    *,
    positions: int | None = None,
) -> tuple[HeldOut, Sequence[Record], tuple[Finding, ...]]:
    """Render and encode the held-out records alone.

    Args:
        recipe: The recipe.
        records: Its rows.
        tokenizer: The model's.
        renderer: With the template that the model was or will be trained with.
        too_long: Receives the rows left out.
        positions: As for :func:`prepare`.

    Returns:
        The examples, their records, and a note when they can't be kept for the next run.

    Raises:
        DataError: If a row can't be used, or ``data.eval`` was given and no row of it is left.
    """
    task, data = choose_task(recipe.task, recipe.model.attention), recipe.data
    encoding = Encoding(task, tokenizer, renderer, _options(recipe, records))
    encoded = encoding.encode(records.held_out)
    too_long.extend(encoded.too_long)
    examples, kept = encoded.examples, encoded.records
    if records.held_out and not examples:
        raise _all_too_long(too_long, data.max_length)
    # A label that is cut off would be scored on what is left of it, so labels never are.
    names = records.labels if task.answers_in_text else []
    room = max((len(tokenizer(name).input_ids) for name in names), default=0) + 8
    whole = replace(encoding, options=EncodeOptions(data.max_length + room, "truncate"))
    by_label = [replace(whole, answer=name).encode(kept) for name in names]
    groups = [one.examples for one in by_label]
    check_positions([examples, *groups], positions)
    findings = joined_findings(encoded.findings, *(one.findings for one in by_label))
    return HeldOut(examples, groups, records.labels), kept, findings


def _options(recipe: Recipe, records: Records) -> EncodeOptions:
    data = recipe.data
    return EncodeOptions(data.max_length, data.on_too_long, tuple(records.labels))


def _all_too_long(rows: LeftOut, max_length: int) -> DataError:
    return DataError(
        "No row is left: all are too long",
        where=rows.places[0] if rows.places else None,
        expected=f"at most {max_length} tokens (`data.max_length`)",
    )


def verification_examples(
    recipe: Recipe, records: Records, tokenizer: Any, num_rows: int
) -> list[Example]:
    """The first held-out rows (or training rows, when none are held out) as examples.

    Rows that the run left out as too long are left out here too.

    Args:
        recipe: The run's recipe.
        records: Its rows.
        tokenizer: With the template used in training.
        num_rows: Rows at most.
    """
    renderer = trained_renderer(recipe, records, tokenizer)
    options, task = _options(recipe, records), choose_task(recipe.task, recipe.model.attention)
    made = (
        example
        for side in (records.held_out, records.train)
        for row in side
        for example in task.encode(row, tokenizer, renderer, options)
    )
    return list(islice(made, num_rows))


def trained_renderer(recipe: Recipe, records: Records, tokenizer: Any) -> TemplateRenderer:
    """The template that a run was trained with: its tokenizer was saved with it."""
    template = tokenizer.chat_template
    if not isinstance(template, str) or records.layout.format == "text":
        _, template = choose_template(recipe.data.template, records.layout.format, tokenizer)
    return TemplateRenderer(tokenizer, template, recipe.data.train_on)


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
