"""The held-out rows before training and after: numbers and sample answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kft.api.dataset import prompt_text
from kft.api.loaded import Loaded
from kft.api.observer import Sample
from kft.evaluation.held_out import Measurement, measure
from kft.models.generation import generate


def measure_held_out(loaded: Loaded, module: Any) -> Measurement | None:
    """The model on the held-out rows; ``None`` when there are none."""
    if not loaded.data.held_out.examples:
        return None
    unwrapped = loaded.accelerator.unwrap_model(module)
    with loaded.accelerator.autocast():
        return measure(
            unwrapped,
            loaded.data.held_out,
            loaded.collate(packed=loaded.unpadded),
            rows_per_batch=loaded.recipe.evaluate.per_device_eval_batch_size,
            device=loaded.accelerator.device,
            task=loaded.task.name,
        )


def write_rows(path: Path, loaded: Loaded, base: Measurement, tuned: Measurement) -> None:
    """One line per held-out row: where it stands, and its loss before and after.

    ``base_nats`` and ``tuned_nats`` are summed over the row's ``num_targets``; where answers are
    labels, ``label``, ``base_label`` and ``tuned_label`` are their indices; of other tasks
    ``base`` and ``tuned`` are what the row was given.
    """
    with path.open("w", encoding="utf-8") as file:
        for row, example in enumerate(loaded.data.held_out.examples):
            line: dict[str, Any] = {
                "place": example.place,
                "num_targets": int(base.rows["counts"][row]),
                "base_nats": base.rows["totals"][row],
                "tuned_nats": tuned.rows["totals"][row],
            }
            if base.predicted and example.label is not None:
                line["label"] = example.label
                line["base_label"] = base.predicted[row]
                line["tuned_label"] = tuned.predicted[row]
            elif base.predicted:
                line["base"], line["tuned"] = base.predicted[row], tuned.predicted[row]
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def sample_answers(loaded: Loaded) -> list[Sample]:
    """The base model's answers to the first held-out prompts."""
    if not loaded.task.answers_in_text:
        return []
    records = loaded.data.held_out_records[: loaded.recipe.evaluate.generate]
    asked = [prompt_text(record, loaded.data.renderer) for record in records]
    answers = _answers(loaded, [prompt for prompt, _, _ in asked])
    return [
        Sample(prompt=shown, reference=reference, base=answer)
        for (_, shown, reference), answer in zip(asked, answers, strict=True)
    ]


def answer_again(loaded: Loaded, samples: Sequence[Sample]) -> list[Sample]:
    """The same samples with the tuned model's answers beside the base model's."""
    if not samples:
        return []
    records = loaded.data.held_out_records[: len(samples)]
    prompts = [prompt_text(record, loaded.data.renderer)[0] for record in records]
    answers = _answers(loaded, prompts)
    return [replace(sample, tuned=text) for sample, text in zip(samples, answers, strict=True)]


def _answers(loaded: Loaded, prompts: Sequence[str]) -> list[str]:
    is_text = loaded.records.layout.format == "text"
    with loaded.accelerator.autocast():
        answers = generate(
            loaded.model,
            loaded.tokenizer,
            prompts,
            max_new_tokens=loaded.recipe.evaluate.max_new_tokens,
            is_text=is_text,
        )
    return answers if is_text else [answer.strip() for answer in answers]
