"""From what a model said to what metrics are computed from."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from kft.evaluation.metrics.classification import majority_accuracy
from kft.evaluation.metrics.entries import Kind
from kft.evaluation.metrics.generations import Generation
from kft.evaluation.metrics.registry import find_metric, metric_statistic
from kft.evaluation.metrics.statistic import Statistic
from kft.evaluation.predictions import Outputs, tag_rows
from kft.tasks.task import Example

Inputs = Mapping[Kind, Mapping[str, Any]]
"""Kind of metric -> its arguments by name."""


def kind_of_rows(task: str, examples: Sequence[Example], *, have_labels: bool) -> Kind | None:
    """What a task's models say of such rows beside a loss; ``None`` where that is all.

    Args:
        task: The task's name.
        examples: The rows; at least one.
        have_labels: The answers of ``causal_lm`` are labels.
    """
    if task == "sequence_classification":
        return "labels" if examples[0].label_ids is None else "multilabels"
    if task == "causal_lm":
        return "labels" if have_labels else None
    kinds: dict[str, Kind] = {"sequence_regression": "numbers", "token_classification": "tags"}
    return kinds.get(task)


def row_inputs(
    kind: Kind | None, outputs: Outputs, examples: Sequence[Example], labels: Sequence[str]
) -> Inputs:
    """What the metrics of losses, and of one kind more, are computed from.

    Args:
        kind: As :func:`kind_of_rows` says.
        outputs: What the model said of the rows.
        examples: The rows.
        labels: Names of the classes or tags.
    """
    texts = [example.target_text for example in examples]
    nats = {"nats": outputs.totals, "num_targets": outputs.counts, "texts": texts}
    if kind is None:
        return {"nats": nats}
    return {"nats": nats, kind: _predictions(kind, outputs.predicted, examples, labels)}


def _predictions(
    kind: Kind, predicted: list[Any], examples: Sequence[Example], labels: Sequence[str]
) -> dict[str, Any]:
    if kind == "tags":
        given, true = tag_rows(predicted, examples, labels)
        return {"predictions": given, "references": true}
    if kind == "labels":
        references = [-1 if example.label is None else example.label for example in examples]
        return {"predictions": predicted, "references": references, "num_labels": len(labels)}
    truths = [example.label_ids if kind == "multilabels" else example.value for example in examples]
    return {"predictions": predicted, "references": truths}


def generation_inputs(
    generations: Sequence[Generation], training_answers: Collection[str] | None = None
) -> Inputs:
    """What the metrics of generated answers are computed from.

    Args:
        generations: The answers.
        training_answers: Hashes of the answers that were trained on, where they are known.
    """
    answers: dict[str, Any] = {"generations": generations}
    if training_answers is not None:
        answers["training_answers"] = training_answers
    if any(generation.reference is None for generation in generations):
        return {"generations": answers}
    texts = {
        "predictions": [generation.text for generation in generations],
        "references": [generation.reference for generation in generations],
    }
    return {"generations": answers, "texts": texts}


def statistics(names: Sequence[str], inputs: Inputs) -> dict[str, Statistic]:
    """Metrics by name, ready to be computed and resampled.

    Raises:
        RecipeError: If there is no metric of a name.
        ValueError: If what one needs isn't there.
    """
    return {name: metric_statistic(name, inputs.get(find_metric(name).kind, {})) for name in names}


def baseline(inputs: Inputs) -> dict[str, Any]:
    """What always answering the commonest label would score; empty where rows have no label."""
    if "labels" not in inputs:
        return {}
    references, num_labels = (inputs["labels"][key] for key in ("references", "num_labels"))
    return {
        "majority_accuracy": majority_accuracy(references),
        "label_counts": [references.count(label) for label in range(num_labels)],
    }
