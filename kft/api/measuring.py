"""The held-out rows and one model: which metrics, the model's answers, and its numbers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from kft.api.dataset import prompt_text
from kft.evaluation.choice import MEMORY, Choice, RowFacts, choose_metrics
from kft.evaluation.forgetting import of_passages
from kft.evaluation.held_out import HeldOut, Measurement, measure
from kft.evaluation.inputs import generation_inputs, statistics
from kft.evaluation.metrics.generations import Generation, answer_hash
from kft.evaluation.metrics.statistic import Statistic, value
from kft.models.generation import generate_answers
from kft.recipe.evaluate_section import EvaluateSection
from kft.recipe.metric_rules import GENERAL_METRIC
from kft.tasks.task import Example, Record, Renderer, Task

_GENERAL_AT_ONCE = 4
"""General passages of one batch at most: the memory plan knows the run's own rows alone."""

MOST_LOOKED_UP = 50_000
"""Training rows up to which looking for copied answers takes a moment, so is done unasked."""


@dataclass(frozen=True)
class Asked:
    """A held-out row as a question.

    Args:
        prompt: As the model sees it.
        shown: What of it to show to a person.
        reference: The answer that the data gives.
    """

    prompt: str
    shown: str
    reference: str


@dataclass(frozen=True)
class Rows:
    """Held-out rows and how they are measured.

    Args:
        held_out: As examples.
        task: The task, which knows its tokenizer.
        section: The recipe's ``evaluate``.
        asked: The first rows as questions: for samples, and for metrics of answers.
        is_text: They are running text.
        choice: Names of the metrics.
        training_answers: Hashes of the answers trained on, where a metric needs them.
        unpadded: The model attends document by document, so batches need no padding.
        general: Passages that have nothing to do with the task.
    """

    held_out: HeldOut
    task: Task
    section: EvaluateSection
    asked: Sequence[Asked]
    is_text: bool
    choice: Choice
    training_answers: Collection[str] | None = None
    unpadded: bool = False
    general: Sequence[Example] = ()


@dataclass(frozen=True)
class Look:
    """What a model showed on the held-out rows.

    Args:
        result: Names and numbers, for ``result.json``; empty without rows.
        statistics: The metrics, ready to be resampled.
        measurement: What was measured of all rows; ``None`` without any.
        generations: Its answers to the first rows.
        general: Its metric of the general passages, by name; empty without any.
    """

    result: dict[str, Any]
    statistics: dict[str, Statistic] = field(repr=False)
    measurement: Measurement | None = field(default=None, repr=False)
    generations: list[Generation] = field(default_factory=list, repr=False)
    general: dict[str, Statistic] = field(default_factory=dict, repr=False)


def rows_to_measure(
    held_out: HeldOut,
    records: Sequence[Record],
    task: Task,
    section: EvaluateSection,
    renderer: Renderer,
    *,
    train: Sequence[Record] = (),
    best: str = "eval_loss",
) -> Rows:
    """Choose the metrics of held-out rows.

    Args:
        held_out: The rows as examples.
        records: The same rows as records.
        task: The task, which knows its tokenizer.
        section: The recipe's ``evaluate``.
        renderer: The template in use.
        train: Training rows, for metrics that look whether an answer was learnt by heart.
        best: The metric that tells the best evaluation while training.

    Raises:
        RecipeError: If a metric that the recipe names can't be computed from such rows.
    """
    num_asked = max(section.generate, section.scored_generations) if task.answers_in_text else 0
    asked = [Asked(*prompt_text(record, renderer)) for record in records[:num_asked]]
    is_text = bool(records) and records[0].messages is None
    examples = held_out.examples
    facts = RowFacts(
        task.name,
        held_out.kind(task.name) if examples else None,
        is_text,
        [one.reference for one in asked[: section.scored_generations]],
        bool(examples) and examples[0].word_ids is not None,
        0 < len(train) <= MOST_LOOKED_UP,
    )
    # Without rows nothing is measured, whatever is asked for.
    choice = Choice((), (), "eval_loss")
    if examples:
        choice = choose_metrics(section.metrics, facts, best=best)
    learnt = None
    if set(MEMORY) & set(choice.generated):
        answers = (record.messages[-1]["content"] for record in train if record.messages)
        learnt = {answer_hash(answer) for answer in answers}
    return Rows(held_out, task, section, asked, is_text, choice, learnt)


def measure_rows(
    rows: Rows, module: Any, tokenizer: Any, device: torch.device
) -> Measurement | None:
    """A model's losses and predictions on all rows; ``None`` when there are none.

    Args:
        rows: The rows.
        module: The model with its loss inside.
        tokenizer: Its tokenizer.
        device: Where it is.
    """
    each = rows.section.per_device_eval_batch_size
    return _measure(rows, rows.held_out, rows.choice.rows, (module, tokenizer, device), each)


def measure_general(
    rows: Rows, module: Any, tokenizer: Any, device: torch.device
) -> dict[str, Statistic]:
    """The same model's metric of the general passages, by name; empty when there are none."""
    name = GENERAL_METRIC.get(rows.task.name)
    if name is None:
        return {}
    each = min(rows.section.per_device_eval_batch_size, _GENERAL_AT_ONCE)
    measured = _measure(rows, HeldOut(rows.general), (name,), (module, tokenizer, device), each)
    return {name: of_passages(name, rows.general, measured.rows)} if measured else {}


def _measure(
    rows: Rows,
    held_out: HeldOut,
    metrics: Sequence[str],
    model: tuple[Any, Any, torch.device],
    rows_per_batch: int,
) -> Measurement | None:
    module, tokenizer, device = model
    if not held_out.examples:
        return None
    return measure(
        module,
        held_out,
        partial(rows.task.collate, pad_token_id=tokenizer.pad_token_id, packed=rows.unpadded),
        rows_per_batch=rows_per_batch,
        device=device,
        task=rows.task.name,
        metrics=metrics,
    )


def answer_rows(rows: Rows, model: Any, tokenizer: Any) -> list[Generation]:
    """A model's answers to the rows that are asked."""
    wanted = rows.asked if rows.choice.generated else rows.asked[: rows.section.generate]
    if not wanted:
        return []
    answers = generate_answers(
        model,
        tokenizer,
        [one.prompt for one in wanted],
        max_new_tokens=rows.section.max_new_tokens,
        rows_per_batch=rows.section.per_device_eval_batch_size,
        is_text=rows.is_text,
    )
    return [
        Generation(
            text=answer.text if rows.is_text else answer.text.strip(),
            prompt=one.prompt,
            ended=answer.ended,
            reference=one.reference,
            token_ids=answer.token_ids,
        )
        for one, answer in zip(wanted, answers, strict=True)
    ]


def put_together(
    rows: Rows,
    measurement: Measurement | None,
    generations: list[Generation],
    general: dict[str, Statistic],
) -> Look:
    """All numbers of one model: of every row, of its answers to the first ones, of passages."""
    if measurement is None:
        return Look({}, {}, None, generations, general)
    scored = generations[: rows.section.scored_generations]
    found: dict[str, Statistic] = {}
    if scored and rows.choice.generated:
        found = statistics(rows.choice.generated, generation_inputs(scored, rows.training_answers))
    numbers: dict[str, Any] = {name: value(statistic) for name, statistic in found.items()}
    if found:
        numbers["num_generations"] = len(scored)
    # Metrics first, then what they rest on.
    measured = {name: measurement.result[name] for name in measurement.statistics}
    result = {**measured, **numbers, **measurement.result}
    statistic = {**measurement.statistics, **found}
    return Look(result, statistic, measurement, generations, general)
