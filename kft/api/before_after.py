"""The held-out rows before training and after: numbers, intervals and sample answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from kft.api.general_text import general_examples
from kft.api.loaded import Loaded
from kft.api.measuring import (
    Look,
    Rows,
    answer_rows,
    measure_general,
    measure_rows,
    put_together,
    rows_to_measure,
)
from kft.api.observer import Sample
from kft.evaluation.comparison import compare, headline
from kft.evaluation.forgetting import forgetting
from kft.evaluation.held_out import Measurement
from kft.evaluation.intervals import NUM_RESAMPLES
from kft.evaluation.predictions import tag_rows
from kft.models.architecture import num_positions
from kft.train.weights import compute_with


def choose_rows(loaded: Loaded) -> Rows:
    """The run's held-out rows with the metrics they are measured by.

    Raises:
        RecipeError: If a metric that the recipe names can't be computed from them.
    """
    data = loaded.data
    rows = rows_to_measure(
        data.held_out,
        data.held_out_records,
        loaded.task,
        loaded.recipe.evaluate,
        data.renderer,
        train=loaded.records.train,
        best=loaded.recipe.train.metric_for_best_model,
    )
    positions = num_positions(loaded.model.config)
    general = general_examples(
        loaded.recipe, loaded.task, loaded.tokenizer, data.renderer, positions
    )
    return replace(rows, unpadded=loaded.unpadded, general=general)


def measure_held_out(loaded: Loaded, module: Any, rows: Rows) -> Measurement | None:
    """The model on the held-out rows; ``None`` when there are none."""
    unwrapped = loaded.accelerator.unwrap_model(module)
    device = loaded.accelerator.device
    with loaded.accelerator.autocast():
        return compute_with(
            unwrapped, lambda: measure_rows(rows, unwrapped, loaded.tokenizer, device)
        )


def look_at(loaded: Loaded, module: Any, rows: Rows, measured: Measurement | None = None) -> Look:
    """The model on the held-out rows, with its answers to the first ones.

    Args:
        loaded: The run's model and data.
        module: The model with its loss inside.
        rows: The rows.
        measured: What was measured of these very weights already.
    """
    measurement = measured or measure_held_out(loaded, module, rows)
    unwrapped, device = loaded.accelerator.unwrap_model(module), loaded.accelerator.device
    with loaded.accelerator.autocast():
        generations = compute_with(
            unwrapped, lambda: answer_rows(rows, loaded.model, loaded.tokenizer)
        )
        general = compute_with(
            unwrapped, lambda: measure_general(rows, unwrapped, loaded.tokenizer, device)
        )
    return put_together(rows, measurement, generations, general)


def compared(rows: Rows, base: Look, tuned: Look, *, seed: int) -> dict[str, Any]:
    """What ``result.json`` says of base and tuned: numbers, intervals, headline, forgetting."""
    result: dict[str, Any] = {"base": base.result, "tuned": tuned.result}
    differences = compare(base.statistics, tuned.statistics, seed=seed)
    result["intervals"] = {name: asdict(found) for name, found in differences.items()}
    result["bootstrap"] = {"resamples": NUM_RESAMPLES, "seed": seed}
    if base.result:
        name = rows.choice.headline
        result["headline"] = headline(name, differences, tuned.statistics[name], tuned.result)
    for name, before in base.general.items():
        text = str(rows.section.general_text)
        result["forgetting"] = forgetting(name, before, tuned.general[name], text=text, seed=seed)
    return result


def samples_of(rows: Rows, base: Look, tuned: Look | None = None) -> list[Sample]:
    """The first questions with the answers before training and, once there are any, after."""
    shown = min(rows.section.generate, len(base.generations))
    return [
        Sample(
            prompt=rows.asked[row].shown,
            reference=rows.asked[row].reference,
            base=base.generations[row].text,
            tuned=tuned.generations[row].text if tuned else None,
        )
        for row in range(shown)
    ]


def write_rows(path: Path, rows: Rows, base: Measurement, tuned: Measurement) -> None:
    """One line per held-out row: where it stands, and its loss before and after.

    ``base_nats`` and ``tuned_nats`` are summed over the row's ``num_targets``; where answers are
    labels, ``label``, ``base_label`` and ``tuned_label`` are their indices; of other tasks
    ``truth``, ``base`` and ``tuned`` are what the row has and was given: a number, zeros and
    ones for all labels, or tags.
    """
    examples, labels = rows.held_out.examples, rows.held_out.labels
    kind = rows.held_out.kind(rows.task.name)
    truths: Sequence[Any] = [example.value for example in examples]
    given = [base.predicted, tuned.predicted]
    if kind == "multilabels":
        truths = [example.label_ids for example in examples]
    elif kind == "tags":
        named = [tag_rows(predicted, examples, labels) for predicted in given]
        truths, given = named[0][1], [names for names, _ in named]
    with path.open("w", encoding="utf-8") as file:
        for row, example in enumerate(examples):
            line: dict[str, Any] = {
                "place": example.place,
                "num_targets": int(base.rows["counts"][row]),
                "base_nats": base.rows["totals"][row],
                "tuned_nats": tuned.rows["totals"][row],
            }
            if kind == "labels":
                line["label"] = example.label
                line["base_label"], line["tuned_label"] = given[0][row], given[1][row]
            elif kind is not None:
                line["truth"] = truths[row]
                line["base"], line["tuned"] = given[0][row], given[1][row]
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
