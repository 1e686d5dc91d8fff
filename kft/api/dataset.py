"""From the recipe's ``data`` section to examples: read, split, render, encode."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kft.api.row_checks import check_positions, check_template, findings, nothing_left
from kft.data.batches import hold_out
from kft.data.files import resolve_files
from kft.data.formats import Dropped, label_names, to_records
from kft.data.layouts import Layout, choose_layout
from kft.data.rows import Row, read_rows
from kft.data.templates import TemplateRenderer, choose_template
from kft.errors import DataError, Finding
from kft.evaluation.held_out import HeldOut
from kft.recipe.schema import DataSection, Recipe
from kft.tasks.registry import TASKS
from kft.tasks.task import Dataset, EncodeOptions, Example, Message, Record, Renderer, Task


@dataclass(frozen=True)
class Records:
    """The rows of both sides as records, before any tokenizer.

    Args:
        train: Training rows.
        held_out: Held-out rows.
        num_rows: Rows read for training (and, when split from them, holding out).
        dropped: Reason -> places of rows that were left out.
        layout: How the columns were read.
        labels: Names of the labels, when the answers are labels.
        files_sha256: Path -> hash of each file that was read.
    """

    train: list[Record]
    held_out: list[Record]
    num_rows: int
    dropped: dict[str, list[str]]
    layout: Layout
    labels: list[str]
    files_sha256: dict[str, str]


@dataclass(frozen=True)
class Prepared:
    """Everything that training and evaluation read.

    Args:
        train: Training examples.
        held_out: Held-out examples, with a variant for each label where answers are labels.
        held_out_records: The records of the held-out examples, for sample generations.
        renderer: The template in use.
        template_note: Which template it is, in words.
        findings: What was noticed on the way.
    """

    train: Dataset
    held_out: HeldOut
    held_out_records: list[Record]
    renderer: TemplateRenderer
    template_note: str
    findings: list[Finding]


def read_records(recipe: Recipe) -> Records:
    """Read the recipe's files and hold rows out.

    Raises:
        DataError: If a file or row can't be used, or no row is left.
    """
    data = recipe.data
    dropped: dict[str, list[str]] = defaultdict(list)
    files = resolve_files(data.train, "data.train")
    rows = _rows(files)
    layout = choose_layout(rows[0], data)
    labels = _labels(rows, layout, data)
    train = _keep(rows, layout, labels, data, dropped)
    num_rows = len(rows)
    if not train:
        raise nothing_left(files, dropped)
    if data.eval is None:
        kept, apart = hold_out(len(train), data.eval_fraction, recipe.train.seed)
        train, held_out = [train[row] for row in kept], [train[row] for row in apart]
    else:
        eval_files = resolve_files(data.eval, "data.eval")
        rows = _rows(eval_files)
        left_out: dict[str, list[str]] = defaultdict(list)
        held_out = _keep(rows, choose_layout(rows[0], data), labels, data, left_out)
        if not held_out:
            raise nothing_left(eval_files, left_out)
        for reason, places in left_out.items():
            dropped[reason] += places
        files = [*files, *eval_files]
    return Records(
        train=train,
        held_out=_some(held_out, recipe.evaluate.max_rows, recipe.train.seed),
        num_rows=num_rows,
        dropped=dict(dropped),
        layout=layout,
        labels=labels,
        files_sha256={str(path): _sha256(path) for path in files},
    )


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
    options = EncodeOptions(recipe.data.max_length, recipe.data.on_too_long)

    def encode(record: Record) -> list[Example]:
        return task.encode(record, tokenizer, renderer, options)

    too_long: list[str] = []
    train, _ = _encode_all(records.train, encode, too_long)
    held_out, held_out_records = _encode_all(records.held_out, encode, too_long)
    if not train:
        raise DataError(
            "No row is left to train on: all are too long",
            where=too_long[0],
            expected=f"at most {recipe.data.max_length} tokens (`data.max_length`)",
        )
    by_label = [
        [encode(with_answer(record, name))[0] for record in held_out_records]
        for name in records.labels
    ]
    check_positions([train, held_out, *by_label], positions)
    dropped = dict(records.dropped)
    if too_long:
        dropped[f"longer than {recipe.data.max_length} tokens"] = too_long
    dataset = Dataset(train, records.num_rows, dropped)
    return Prepared(
        train=dataset,
        held_out=HeldOut(held_out, by_label),
        held_out_records=held_out_records,
        renderer=renderer,
        template_note=note,
        findings=list(findings(dataset, tokenizer)),
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
    _, template = choose_template(recipe.data.template, records.layout.format, tokenizer)
    if tokenizer.chat_template is not None and records.layout.format != "text":
        template = tokenizer.chat_template
    renderer = TemplateRenderer(tokenizer, template, recipe.data.train_on)
    options = EncodeOptions(recipe.data.max_length, "truncate")
    task = TASKS[recipe.task]
    rows = (records.held_out or records.train)[:num_rows]
    return [example for row in rows for example in task.encode(row, tokenizer, renderer, options)]


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


def texts_of(records: Sequence[Record]) -> Iterator[str]:
    """Every text of the records, for making a tokenizer."""
    for record in records:
        if record.text is not None:
            yield record.text
        for message in record.messages or ():
            yield message["content"]


def _rows(files: Sequence[Path]) -> list[Row]:
    rows = [row for path in files for row in read_rows(path)]
    if not rows:
        raise DataError("The data has no rows", where=", ".join(map(str, files)))
    return rows


def _labels(rows: Sequence[Row], layout: Layout, data: DataSection) -> list[str]:
    if layout.format != "classification":
        return []
    return list(data.labels) or label_names(rows, layout, normalization=data.normalization)


def _keep(
    rows: Sequence[Row],
    layout: Layout,
    labels: Sequence[str],
    data: DataSection,
    dropped: dict[str, list[str]],
) -> list[Record]:
    kept: list[Record] = []
    for record in to_records(rows, layout, labels=labels, normalization=data.normalization):
        if isinstance(record, Dropped):
            dropped[record.reason].append(record.place)
        else:
            kept.append(record)
    return kept


def _some(records: list[Record], max_rows: int | None, seed: int) -> list[Record]:
    if max_rows is None or max_rows >= len(records):
        return records
    order = np.random.default_rng([seed, len(records)]).permutation(len(records))
    return [records[row] for row in order[:max_rows]]


def _encode_all(
    records: Sequence[Record], encode: Callable[[Record], list[Example]], too_long: list[str]
) -> tuple[list[Example], list[Record]]:
    examples: list[Example] = []
    kept: list[Record] = []
    for record in records:
        encoded = encode(record)
        if not encoded:
            too_long.append(record.place)
            continue
        examples += encoded
        kept.append(record)
    return examples, kept


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
