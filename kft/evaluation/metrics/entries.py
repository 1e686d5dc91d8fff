"""Each metric with what it needs, which way is better, and its range."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from kft.evaluation.metrics import (
    answers,
    classification,
    entities,
    generations,
    language_modelling,
    overlap,
    regression,
)
from kft.evaluation.metrics.statistic import Statistic, value

Kind = Literal["labels", "multilabels", "numbers", "tags", "texts", "nats", "generations"]

INPUTS: dict[Kind, tuple[str, ...]] = {
    "labels": ("predictions", "references", "num_labels"),
    "multilabels": ("predictions", "references"),
    "numbers": ("predictions", "references"),
    "tags": ("predictions", "references"),
    "texts": ("predictions", "references"),
    "nats": ("nats",),
    "generations": ("generations",),
}
"""What every metric of a kind needs, by the names of its arguments. ``labels`` are indices,
``multilabels`` a 0 or 1 for each label, ``tags`` ``B-`` / ``I-`` / ``O`` of each sequence,
``texts`` strings (a reference may be a list of several), ``nats`` each row's sum."""


@dataclass(frozen=True)
class MetricEntry:
    """One metric.

    Args:
        name: As a recipe writes it.
        kind: What it is computed from.
        statistic: From the inputs, by name, to the metric over the rows.
        meaning: One line.
        inputs: Names of its arguments.
        higher_is_better: ``None`` where neither way is better in itself.
        low: Smallest value there can be.
        high: Largest value there can be.
    """

    name: str
    kind: Kind
    statistic: Callable[..., Statistic]
    meaning: str
    inputs: tuple[str, ...]
    higher_is_better: bool | None = True
    low: float = 0.0
    high: float = 1.0

    def compute(self, **inputs: Any) -> float:
        """The metric of all rows; NaN where it is undefined.

        Raises:
            ValueError: If there are no rows, or the inputs don't fit each other.
        """
        return value(self.statistic(**inputs))


def _labels(name: str) -> Callable[..., Statistic]:
    def statistic(predictions: Any, references: Any, num_labels: int) -> Statistic:
        return classification.label_statistic(name, predictions, references, num_labels)

    return statistic


def _multilabels(name: str) -> Callable[..., Statistic]:
    def statistic(predictions: Any, references: Any) -> Statistic:
        return classification.multilabel_statistic(name, predictions, references)

    return statistic


def _pair(function: Callable[..., Statistic], **options: Any) -> Callable[..., Statistic]:
    def statistic(predictions: Any, references: Any) -> Statistic:
        return function(predictions, references, **options)

    return statistic


def metric_entries() -> Iterable[MetricEntry]:
    """Every metric, in the order in which tables show them."""
    yield from _label_entries()
    yield from _number_entries()
    yield from _tag_entries()
    yield from _text_entries()
    yield from _nat_entries()
    yield from _generation_entries()


def _label_entries() -> Iterable[MetricEntry]:
    entry = partial(MetricEntry, kind="labels", inputs=INPUTS["labels"])
    for name, meaning in {
        "accuracy": "share of rows whose label is right",
        "macro_f1": "mean of the labels' F1",
        "micro_f1": "F1 of all labels' counts together",
        "weighted_f1": "mean of the labels' F1, weighted by their rows",
    }.items():
        yield entry(name, statistic=_labels(name), meaning=meaning)
    correlation = "Matthews' correlation coefficient, for any number of labels"
    yield entry("matthews", statistic=_labels("matthews"), meaning=correlation, low=-1.0)
    entry = partial(MetricEntry, kind="multilabels", inputs=INPUTS["multilabels"])
    for average in ("macro_f1", "micro_f1", "weighted_f1"):
        yield entry(
            f"multilabel_{average}",
            statistic=_multilabels(average),
            meaning=f"{average.replace('_f1', '')} F1 where a row may have several labels",
        )
    yield entry(
        "multilabel_exact_match",
        statistic=_pair(classification.multilabel_exact_match),
        meaning="share of rows all of whose labels are right",
    )


def _number_entries() -> Iterable[MetricEntry]:
    entry = partial(MetricEntry, kind="numbers", inputs=INPUTS["numbers"])
    yield entry(
        "pearson", statistic=_pair(regression.pearson), meaning="Pearson's correlation", low=-1.0
    )
    yield entry(
        "spearman",
        statistic=_pair(regression.Spearman),
        meaning="Spearman's rank correlation",
        low=-1.0,
    )
    yield entry(
        "r2",
        statistic=_pair(regression.r_squared),
        meaning="coefficient of determination; 0 is the mean of the truths",
        low=-math.inf,
    )
    error = partial(entry, higher_is_better=False, high=math.inf)
    yield error(
        "mean_squared_error",
        statistic=_pair(regression.squared_errors),
        meaning="mean of the squared errors",
    )
    yield error(
        "mean_absolute_error",
        statistic=_pair(regression.absolute_errors),
        meaning="mean size of the errors",
    )


def _tag_entries() -> Iterable[MetricEntry]:
    entry = partial(MetricEntry, kind="tags", inputs=INPUTS["tags"])
    for strict in (False, True):
        for average in ("micro", "macro"):
            name = f"entity_{average}_f1" + ("_strict" if strict else "")
            how = "IOB2 strictly, as KLUE counts" if strict else "as seqeval counts"
            yield entry(
                name,
                statistic=_pair(entities.entity_f1, average=average, strict=strict),
                meaning=f"{average} F1 of whole entities, {how}",
            )
    yield entry(
        "klue_character_f1",
        statistic=_pair(entities.klue_character_f1),
        meaning="macro F1 of the tags of characters, without O",
    )


def _text_entries() -> Iterable[MetricEntry]:
    entry = partial(MetricEntry, kind="texts", inputs=INPUTS["texts"])
    for name, meaning in {
        "exact_match": "share of texts equal to a reference",
        "korquad_exact_match": "the same after KorQuAD's normalisation",
        "korquad_character_f1": "F1 of the bag of characters, as KorQuAD's",
        "klue_exact_match": "share equal to a reference after KLUE-MRC's normalisation",
        "klue_rouge_w": "F1 of the longest common run of characters, as KLUE-MRC's",
    }.items():
        yield entry(name, statistic=partial(answers.answer_statistic, name), meaning=meaning)
    yield entry("chrf", statistic=overlap.chrf, meaning="chrF2, from 0 to 100", high=100.0)
    for variant, what in {
        "1": "units",
        "2": "pairs of units",
        "l": "longest common subsequence",
    }.items():
        for unit in overlap.UNITS:
            yield entry(
                f"rouge_{variant}_{unit}",
                statistic=partial(overlap.rouge_statistic, variant, unit),
                meaning=f"ROUGE-{variant.upper()}: F1 of {what}, the unit is one {unit}",
            )


def _nat_entries() -> Iterable[MetricEntry]:
    entry = partial(MetricEntry, kind="nats", higher_is_better=False, high=math.inf)
    targets, texts = ("nats", "num_targets"), ("nats", "texts")
    yield entry(
        "eval_loss",
        statistic=language_modelling.loss_per_target,
        meaning="nats per target",
        inputs=targets,
    )
    yield entry(
        "perplexity",
        statistic=language_modelling.perplexity,
        meaning="exp of the nats per target; depends on the tokenizer",
        inputs=targets,
        low=1.0,
    )
    yield entry(
        "bits_per_character",
        statistic=language_modelling.bits_per_character,
        meaning="bits per NFC character, spaces counted",
        inputs=texts,
    )
    yield entry(
        "bits_per_byte",
        statistic=language_modelling.bits_per_byte,
        meaning="bits per UTF-8 byte of the NFC text",
        inputs=texts,
    )


def _generation_entries() -> Iterable[MetricEntry]:
    entry = partial(MetricEntry, kind="generations", higher_is_better=False)
    given = INPUTS["generations"]
    for name, meaning in {
        "ended": "share of answers that end by themselves",
        "length_limit": "share of answers that the length limit cut",
        "repeats": "share of answers that go round in circles",
        "empty": "share of answers that say nothing",
        "switches_script": "share of answers with letters of a script that nobody used before",
        "switches_to_hanja": "the same for Hanja alone",
        "switches_to_latin": "the same for Latin letters alone",
        "switches_to_kana": "the same for kana alone",
        "switches_to_cyrillic": "the same for Cyrillic letters alone",
    }.items():
        yield entry(
            name,
            statistic=partial(generations.generation_statistic, name),
            meaning=meaning,
            inputs=given,
            higher_is_better=name == "ended",
        )
    for name, meaning in {
        "memorised": "share of answers that copy a training answer and not the reference",
        "memorised_and_right": "share of answers that are a training answer and the reference",
    }.items():
        yield entry(
            name,
            statistic=partial(generations.memory_statistic, name),
            meaning=meaning,
            inputs=(*given, "training_answers"),
            higher_is_better=False if name == "memorised" else None,
        )
