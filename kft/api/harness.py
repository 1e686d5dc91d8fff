"""Benchmarks of lm-evaluation-harness on runs and models, with the harness's own conventions."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from kft.api.opened import Opened, open_model
from kft.api.optional import optional_module
from kft.errors import UsageError
from kft.models.decoders import is_encoder
from kft.tasks.registry import TASKS

ROWS_PER_BATCH = 8
_SEED = 1234
"""The harness's own default, named so that a new version's other one changes nothing."""


def run_harness(
    places: Sequence[str], tasks: Sequence[str], *, limit: int | None = None
) -> dict[str, dict[str, Any]]:
    """Run benchmarks as the harness defines them.

    Prompts, number of examples in them, normalization and metrics are those of each task's file;
    no chat template is put around a prompt. The figures compare with others that were made by the
    same version of the harness, and not with those of ``kft evaluate`` on held-out rows.

    Args:
        places: Run folders, adapters, checkpoints' folders or hub names.
        tasks: Names of the harness's tasks, or paths of task files.
        limit: Rows per task at most, the first ones.

    Returns:
        Name of a model -> ``task metric`` -> value, each followed by its standard error (as
        ``task metric stderr``) where the harness gives one; ``num_rows`` of each task.

    Raises:
        UsageError: If the harness isn't installed, knows no such task, or a model writes no
            text from left to right in transformers' own way.
    """
    evaluator = optional_module("lm_eval.evaluator", extra="harness", wanted_by="--harness")
    wrapper = optional_module("lm_eval.models.huggingface", extra="harness", wanted_by="--harness")
    loader = optional_module("lm_eval.tasks", extra="harness", wanted_by="--harness")
    logging.getLogger("lm_eval").setLevel(logging.WARNING)
    manager = loader.TaskManager()
    try:
        manager.load(list(tasks))
    except (ValueError, KeyError, FileNotFoundError) as cause:
        raise UsageError(
            f"The harness can't load `{','.join(tasks)}`: {str(cause).strip().splitlines()[0]}",
            expected="names that `lm-eval ls tasks` lists, or paths of task files",
        ) from cause
    results = {}
    for place in places:
        opened = open_model(place)
        _require_decoder(opened)
        found = evaluator.simple_evaluate(
            model=wrapper.HFLM(
                pretrained=opened.model,
                tokenizer=opened.tokenizer,
                backend="causal",
                batch_size=ROWS_PER_BATCH,
            ),
            tasks=list(tasks),
            limit=limit,
            log_samples=False,
            task_manager=manager,
            random_seed=_SEED,
            numpy_random_seed=_SEED,
            torch_random_seed=_SEED,
            fewshot_random_seed=_SEED,
        )
        results[place] = flat_results(found)
    return results


def flat_results(found: Mapping[str, Any]) -> dict[str, Any]:
    """The harness's results as one list of names and numbers.

    Example:
        >>> found = {"results": {"copa": {"alias": "copa", "acc,none": 0.5}}}
        >>> flat_results({**found, "n-samples": {"copa": {"original": 9, "effective": 4}}})
        {'copa acc': 0.5, 'copa num_rows': 4}
    """
    numbers: dict[str, Any] = {}
    for task, values in found["results"].items():
        for name, value in values.items():
            metric, _, kind = name.partition(",")
            is_number = isinstance(value, int | float) and math.isfinite(value)
            if name == "alias" or not kind or not is_number:
                continue
            words = metric.removesuffix("_stderr") + ("" if kind == "none" else f" {kind}")
            suffix = " stderr" if metric.endswith("_stderr") else ""
            numbers[f"{task} {words}{suffix}"] = value
        rows = found.get("n-samples", {}).get(task)
        if rows:
            numbers[f"{task} num_rows"] = rows["effective"]
    return numbers


def _require_decoder(opened: Opened) -> None:
    if TASKS[opened.task].answers_in_text and not is_encoder(opened.model.config):
        return
    raise UsageError(
        f"`{opened.name}` can't be asked by the harness",
        expected="a GPT of `task: causal_lm`: the harness knows no prompt that sees itself both "
        "ways, nor heads of other tasks",
    )
