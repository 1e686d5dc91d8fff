"""``kft evaluate``: the same held-out rows for any number of models."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from kft.api.dataset import prepare_held_out, trained_renderer
from kft.api.general_text import general_if_there
from kft.api.given_rows import of_given_file, require_file
from kft.api.measuring import (
    Look,
    answer_rows,
    measure_general,
    measure_rows,
    put_together,
    rows_to_measure,
)
from kft.api.opened import Opened, is_run, open_model, run_recipe
from kft.api.preflight import with_labels
from kft.api.records import Records, read_records
from kft.api.row_checks import dropped_findings
from kft.api.seen_rows import data_sha256, own_findings, run_of, seen_findings
from kft.data.content import same_content
from kft.data.left_out import LeftOut
from kft.errors import DataError, Finding, UsageError
from kft.evaluation.choice import MEMORY
from kft.evaluation.comparison import compare
from kft.evaluation.metrics.statistic import Statistic, value
from kft.models.architecture import num_positions
from kft.models.attention import use_document_attention
from kft.models.decoders import is_prefix
from kft.models.loader import check_name
from kft.models.logits import logits_from
from kft.recipe.schema import DataSection, ModelSection, Recipe
from kft.tasks.inputs import plain_model
from kft.tasks.record import Record
from kft.tasks.registry import TASKS, choose_task


def evaluate(
    places: Sequence[str],
    *,
    data: str | None = None,
    max_rows: int | None = None,
    on_finding: Callable[[Finding], None] | None = None,
) -> dict[str, dict[str, Any]]:
    """Measure models on held-out rows.

    Args:
        places: Run folders, adapters, checkpoints' folders or hub names.
        data: A file of rows; ``None`` takes the held-out rows of the first run named.
        max_rows: Rows at most, the first ones after the seeded shuffle.
        on_finding: Told what doesn't stop it: a head that nobody trained, a text that has gone.

    Returns:
        Name -> numbers: ``eval_loss`` in nats per target, the task's metrics (or those of the
        first run's recipe), ``num_rows``, for labels ``majority_accuracy``, and of models that
        write text ``general_bits_per_character`` (of general Korean, or the recipe's
        ``evaluate.general_text``; of ``masked_lm`` ``general_eval_loss``). Of every model
        but the first also ``against``: ``model`` (the first's name) and ``differences``, metric
        -> its ``difference`` to the first, ``low`` and ``high`` of the paired 95 % bootstrap
        interval, ``outcome`` and ``num_rows``; empty where their rows differ. Nats per token are
        left out of it where the tokens differ.

    Raises:
        KftError: If a model or the data can't be used.
    """
    for place in places:
        check_name(place, "`kft evaluate`")
    runs = [place for place in places if is_run(Path(place))]
    if data is None and not runs:
        raise UsageError(
            "No rows to evaluate on",
            expected="`--data FILE`, or a run folder whose held-out rows are used",
        )
    recipe = run_recipe(Path(runs[0])) if runs else None
    _require_one_task(runs)
    if data is None:
        require_same_rows(Path(runs[0]))
    else:
        require_file(data)
    results: dict[str, dict[str, Any]] = {}
    first: Measured | None = None
    told = set[Finding]()
    for place in dict.fromkeys(places):
        opened = open_model(place, like=recipe)
        rows = _rows_recipe(recipe, data, max_rows)
        if recipe is None:
            rows = _own_task(rows, opened)
        with of_given_file(data):
            measured = measure_opened(opened, rows)
        is_own = data is None and place == runs[0]
        for finding in (*measured.findings, *_seen(place, measured, is_own=is_own)):
            if on_finding is not None and finding not in told:
                on_finding(finding)
            told.add(finding)
        general = measured.look.general.items()
        results[place] = {
            **measured.look.result,
            **{f"general_{name}": value(statistic) for name, statistic in general},
        }
        if first is None:
            first = measured
        else:
            found = differences(first, measured)
            results[place]["against"] = {"model": next(iter(results)), "differences": found}
    return results


def _seen(place: str, measured: Measured, *, is_own: bool) -> Iterator[Finding]:
    """What of the rows a model was trained on, where it is known whose run it comes from."""
    run = run_of(place)
    if is_own:
        yield from own_findings(Path(place))
    elif run is not None:
        yield from seen_findings(run, measured.records)


def _require_one_task(runs: Sequence[str]) -> None:
    tasks = [run_recipe(Path(run)).task for run in runs]
    for run, task in zip(runs, tasks, strict=True):
        if task != tasks[0]:
            raise UsageError(
                "Models of different tasks can't be measured on the same rows",
                where=run,
                expected=f"`task: {tasks[0]}`, as of `{runs[0]}`; it has `task: {task}`",
            )


@dataclass(frozen=True)
class Measured:
    """A model on the rows.

    Args:
        look: What it showed.
        places: Where each row stands.
        targets: How many targets each row has under its tokenizer.
        findings: What to tell beside the numbers.
        records: The rows themselves.
    """

    look: Look
    places: list[str]
    targets: list[int]
    findings: Sequence[Finding] = ()
    records: Sequence[Record] = ()


_PER_TOKEN = frozenset({"eval_loss", "perplexity"})
"""What can't be compared where the tokens are another tokenizer's."""


def differences(first: Measured, other: Measured) -> dict[str, dict[str, Any]]:
    """Every metric of a model against the first one's, in pairs of rows.

    Returns:
        Empty where the rows aren't the same ones.
    """
    if first.places != other.places or not first.places:
        return {}
    left_out = frozenset() if first.targets == other.targets else _PER_TOKEN
    found = _compared(first.look.statistics, other.look.statistics, left_out)
    general = _compared(first.look.general, other.look.general, left_out)
    return found | {f"general_{name}": difference for name, difference in general.items()}


def _compared(
    first: Mapping[str, Statistic], other: Mapping[str, Statistic], left_out: frozenset[str]
) -> dict[str, dict[str, Any]]:
    here = {
        name: statistic
        for name, statistic in first.items()
        if name not in left_out and name in other
    }
    return {name: asdict(found) for name, found in compare(here, other).items()}


def _own_task(recipe: Recipe, opened: Opened) -> Recipe:
    """The recipe for the task that a model was trained for, with its labels."""
    updates: dict[str, Any] = {"task": opened.task}
    if TASKS[opened.task].head == "classes":
        names = list(opened.model.config.id2label.values())
        updates["data"] = recipe.data.model_copy(update={"labels": names})
    return recipe.model_copy(update=updates)


def require_same_rows(folder: Path) -> None:
    """Refuse a run's own held-out rows when its files have changed: others would be held out.

    Raises:
        DataError: Naming the file.
    """
    for path, sha in data_sha256(folder).items():
        if not same_content(Path(path), sha):
            raise DataError(
                "The data has changed since the run, so its held-out rows can't be told any more",
                where=path,
                expected=f"the file with sha256 {sha}",
                hint="`--data FILE` names rows to evaluate on.",
            )


def measure_opened(opened: Opened, recipe: Recipe) -> Measured:
    """A loaded model on the held-out rows of a recipe.

    Args:
        opened: The model.
        recipe: Says which rows, and how they become text.

    Raises:
        UsageError: If the recipe holds no rows out.
    """
    attention = "prefix" if is_prefix(opened.model.config) else "causal"
    task = choose_task(recipe.task, attention, opened.tokenizer)
    records = with_labels(read_records(recipe))
    positions = num_positions(opened.model.config)
    if opened.recipe is None and positions is not None:  # it has no `max_length` of its own
        shorter = min(recipe.data.max_length, positions)
        data = recipe.data.model_copy(update={"max_length": shorter})
        recipe = recipe.model_copy(update={"data": data})
    renderer = trained_renderer(recipe, records, opened.tokenizer)
    too_long = LeftOut()
    held_out, kept, _ = prepare_held_out(
        recipe, records, opened.tokenizer, renderer, too_long, positions=positions
    )
    if not held_out.examples:
        raise UsageError(
            "The run held no rows out", expected="`--data FILE` with rows to evaluate on"
        )
    section = recipe.evaluate.model_copy(update={"generate": 0})  # numbers are all that's asked
    # Of rows from a file of its own, or of another run, nothing tells what was trained on.
    theirs = opened.recipe is None or opened.recipe.data.train == recipe.data.train
    train = records.train if theirs and recipe.data.train != recipe.data.eval else []
    rows = rows_to_measure(held_out, kept, task, section, renderer, train=train)
    fast = recipe.train.fast_paths
    passages, told = general_if_there(recipe, task, opened.tokenizer, renderer, positions)
    rows = replace(
        rows,
        unpadded=fast and use_document_attention(plain_model(opened.model)),
        general=passages,
    )
    module = task.with_loss(opened.model, logits_from=logits_from(opened.model, fast=fast))
    device = opened.model.device
    with torch.autocast(device.type, opened.dtype, enabled=opened.dtype != torch.float32):
        measured = measure_rows(rows, module, opened.tokenizer, device)
        general = measure_general(rows, module, opened.tokenizer, device)
        answers = answer_rows(rows, opened.model, opened.tokenizer)
    look = put_together(rows, measured, answers, general)
    counts = measured.rows["counts"] if measured else []
    places = [example.place for example in held_out.examples]
    targets = [int(count) for count in counts]
    findings = [*opened.findings, *told]
    if recipe.data.train == recipe.data.eval:
        findings += _given_findings(recipe, records, too_long)
    return Measured(look, places, targets, findings, kept)


def _given_findings(recipe: Recipe, records: Records, too_long: LeftOut) -> Iterator[Finding]:
    """Which of the rows of `--data` weren't measured."""
    dropped = dict(records.dropped_apart)
    if too_long.count:
        dropped[f"longer than {recipe.data.max_length} tokens"] = too_long
    yield from dropped_findings(dropped)


def _rows_recipe(recipe: Recipe | None, data: str | None, max_rows: int | None) -> Recipe:
    """The recipe whose held-out rows are meant, with ``data`` and ``max_rows`` put in."""
    if recipe is None:
        recipe = Recipe(
            model=ModelSection(name_or_path="-"), data=DataSection(train="-"), output_dir="-"
        )
    section, options = recipe.data, recipe.evaluate
    if data is not None:
        section = section.model_copy(update={"train": data, "eval": data})
        metrics = options.metrics
        if metrics != "auto":  # what was trained on isn't among these rows
            metrics = [name for name in metrics if name not in MEMORY] or "auto"
        options = options.model_copy(update={"max_rows": None, "metrics": metrics})
    if max_rows is not None:
        options = options.model_copy(update={"max_rows": max_rows})
    return recipe.model_copy(update={"data": section, "evaluate": options})
