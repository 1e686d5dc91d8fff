"""The memory plan of a recipe: what it needs, what there is, what to change when it won't fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from kft.api.dataset import Prepared
from kft.api.observer import Observer
from kft.api.planner import Planner
from kft.api.shapes import shapes_of
from kft.api.token_report import lengths_of
from kft.errors import Finding, MemoryPlanError, ModelError, counted
from kft.recipe.reader import override_recipe
from kft.recipe.schema import Recipe
from kft.tasks.task import Task
from kft.train.batch_size import SHARE, automatic_rows, fits, largest_rows
from kft.train.free_memory import free_bytes, held_bytes
from kft.train.memory import MemoryPlan
from kft.train.micro_batch import Lengths
from kft.train.sharing import UNSHARED, Sharing

_SHORTEST = 64
"""Tokens below which no shorter `data.max_length` is proposed."""
_SEARCHED = 1024
"""Rows up to which the largest number that fits is looked for."""
_GIB = 2**30


@dataclass(frozen=True)
class Place:
    """A process's place in its run, as its memory depends on it.

    Args:
        rows: What ``auto`` became when the run began; else it is chosen now.
        ranks: Processes that the run was begun with.
        neighbours: Processes of the run that share this machine's memory, this one among them.
        sharing: What the run's processes hold parts of.
        sharers: How many of them there are.
    """

    rows: int | None = None
    ranks: int = 1
    neighbours: int = 1
    sharing: Sharing = UNSHARED
    sharers: int = 1


ALONE = Place()


@dataclass(frozen=True)
class RunPlan:
    """The memory of a run.

    Args:
        rows: Of a micro-batch: the recipe's, or what ``auto`` became.
        plan: What the run needs with them.
        largest_rows: The most that fit; 0 when not even one does.
        free_bytes: What is free beside what the process holds.
        device: ``cpu`` or ``cuda``.
        override: What to change when it does not fit, and what it needs then.
    """

    rows: int
    plan: MemoryPlan
    largest_rows: int
    free_bytes: int
    device: str
    override: tuple[str, int] | None = field(default=None)

    @property
    def fits(self) -> bool:
        """Whether the run fits into the memory there is."""
        return fits(self.plan, self.free_bytes)

    @property
    def there_is(self) -> int:
        """Bytes that the process may hold in all."""
        return self.plan.process + self.free_bytes

    def as_dict(self) -> dict[str, Any]:
        """For ``kft check``: bytes by what needs them, the whole, and what there is."""
        plan = self.plan
        return {
            "needed_bytes": plan.total,
            "available_bytes": self.there_is,
            "fits": self.fits,
            "device": self.device,
            "phase": plan.phase,
            "rows": self.rows,
            "largest_rows": self.largest_rows,
            "process_bytes": plan.process,
            "weights_bytes": plan.weights,
            "adapter_bytes": plan.adapter,
            "gradients_bytes": plan.gradients,
            "optimizer_bytes": plan.optimizer,
            "activations_bytes": plan.activations,
            "logits_bytes": plan.logits,
            "backward_bytes": plan.backward,
            "allocator_bytes": plan.allocator,
            "training_bytes": plan.training,
            "loading_bytes": plan.loading,
            "evaluation_bytes": plan.evaluation,
        }

    def as_text(self) -> str:
        """In one line: what is needed of what there is, and for how many rows."""
        needed = f"about {gib(self.plan.total)} of {gib(self.there_is)}"
        return f"{needed}, with {counted(self.rows, 'row')} in a micro-batch"

    def error(self) -> MemoryPlanError:
        """The refusal of a run that does not fit."""
        what, told = self._told()
        return MemoryPlanError(what, **told)

    def findings(self) -> Iterator[Finding]:
        """An error on a CPU, where the process would be killed, and a warning on CUDA."""
        if self.fits:
            return
        what, told = self._told()
        severity: Any = "error" if self.device == "cpu" else "warning"
        yield Finding(severity, what, where=told["where"], hint=told["hint"])

    def _told(self) -> tuple[str, dict[str, str | None]]:
        plan, there = self.plan, "the machine" if self.device == "cpu" else "the device"
        limit = gib(int(self.there_is * SHARE))
        parts = {
            "process": plan.process,
            "weights": plan.weights,
            "adapter and optimizer": plan.adapter + plan.gradients + plan.optimizer,
            "activations": plan.activations,
            "logits": plan.logits,
        }
        shown = ", ".join(f"{name} {value / _GIB:.1f}" for name, value in parts.items() if value)
        hint = None
        if self.override is not None:
            hint = f"`{self.override[0]}` needs about {gib(self.override[1])}."
        what = f"The run needs about {gib(plan.total)} of memory and {there} has "
        return what + f"{gib(self.there_is)} for it", {
            "where": f"{shown} GiB, with {counted(self.rows, 'row')} in a micro-batch",
            "expected": f"at most {limit}: a tenth is left free, as the plan may be wrong by that",
            "hint": hint,
        }


def require_memory(
    recipe: Recipe,
    config: Any,
    task: Task,
    data: Prepared,
    device: torch.device,
    observer: Observer,
    place: Place = ALONE,
) -> RunPlan | None:
    """Plan a run, and refuse it where it would be killed.

    Raises:
        MemoryPlanError: If it does not fit on a CPU; on CUDA that is a warning.
    """
    lengths = lengths_of(data.train.examples, data.held_out.examples)
    found = plan_run(recipe, config, task, lengths, device, place=place)
    if found is None or found.fits:
        return found
    if found.device == "cpu":
        raise found.error()
    for finding in found.findings():
        observer.finding(finding)
    return found


def gib(number: int) -> str:
    """Bytes in GiB, as text."""
    return f"{number / _GIB:.1f} GiB"


def memory_facts(result: Mapping[str, Any]) -> dict[str, str]:
    """The peak that was measured beside the one that was planned, for the end of a run."""
    measured, planned = result["peak_memory_bytes"], result["predicted_memory_bytes"]
    if not planned:
        return {"peak memory": gib(measured)}
    ratio = planned / measured
    return {"peak memory": f"{gib(measured)}, planned {gib(planned)} ({ratio:.2f} of it)"}


def plan_run(
    recipe: Recipe,
    config: Any,
    task: Task,
    lengths: Lengths,
    device: torch.device,
    *,
    place: Place = ALONE,
) -> RunPlan | None:
    """Plan a run's memory before any weight is loaded.

    Args:
        recipe: The recipe.
        config: The checkpoint's configuration, with the task's head in it.
        task: The recipe's task.
        lengths: Of its examples.
        device: Where it will compute.
        place: The process's place in its run.

    Returns:
        The plan; ``None`` for a checkpoint with code of its own, whose shapes aren't known.
    """
    if recipe.model.trust_remote_code or not len(lengths.tokens):
        return None
    free, process = free_bytes(device), held_bytes(device)
    if device.type == "cpu":
        code = shapes_of(recipe, config, task).code_bytes  # will be held too
        free, process = free // place.neighbours - code, process + code
    planner = Planner(config, task, device, process, place.sharing, place.sharers)

    def plan_with(changed: Recipe) -> Callable[[int], MemoryPlan]:
        return planner.plan_of(_of_all_ranks(changed, place.ranks), lengths)

    plan_of = plan_with(recipe)
    num_rows = planner.num_rows(recipe, lengths)
    largest = largest_rows(plan_of, free, min(_SEARCHED, num_rows))
    said = recipe.train.per_device_train_batch_size
    chosen = place.rows or (
        automatic_rows(
            largest,
            num_rows,
            accumulation=recipe.train.gradient_accumulation_steps * place.ranks,
            epochs=recipe.train.num_train_epochs,
            max_steps=recipe.train.max_steps,
        )
        if said == "auto"
        else said
    )
    found = RunPlan(chosen, plan_of(chosen), largest, free, device.type)
    if found.fits:
        return found
    return replace(found, override=_override(recipe, chosen, plan_with, free))


def _of_all_ranks(recipe: Recipe, ranks: int) -> Recipe:
    """The recipe by which one process would take the steps of all."""
    steps = recipe.train.gradient_accumulation_steps * ranks
    train = recipe.train.model_copy(update={"gradient_accumulation_steps": steps})
    return recipe.model_copy(update={"train": train})


def _override(
    recipe: Recipe,
    rows: int,
    plan_with: Callable[[Recipe], Callable[[int], MemoryPlan]],
    free: int,
) -> tuple[str, int] | None:
    """The first change that makes the run fit, and what it needs then; ``None``: none does.

    In the order in which they cost: fewer rows in a micro-batch, with as many more of them in a
    step; activations computed again; a 4-bit base; shorter rows.
    """
    for changes in _changes(recipe):
        try:
            plan_of = plan_with(override_recipe(recipe, changes) if changes else recipe)
        except ModelError:  # an adapter that the model refuses is no way out
            continue
        fitting = largest_rows(plan_of, free, rows)
        if not fitting:
            continue
        words = [f"{key}={_word(value)}" for key, value in changes.items()]
        if fitting < rows:
            steps = -(-rows * recipe.train.gradient_accumulation_steps // fitting)
            words = [
                f"train.per_device_train_batch_size={fitting}",
                f"train.gradient_accumulation_steps={steps}",
                *words,
            ]
        return " ".join(words), plan_of(fitting).total
    return None


def _changes(recipe: Recipe) -> Iterator[dict[str, Any]]:
    """What else may be changed beside the number of rows, each on top of those before."""
    changes: dict[str, Any] = {}
    yield dict(changes)
    if recipe.train.gradient_checkpointing is not True:
        changes["train.gradient_checkpointing"] = True
        yield dict(changes)
    if recipe.model.quantization in ("none", "int8") and recipe.model.init == "pretrained":
        changes["model.quantization"] = "nf4"
        changes["adapter.method"] = "qlora"
        yield dict(changes)
    limit = recipe.data.max_length // 2
    while limit >= _SHORTEST:
        changes["data.max_length"] = limit
        yield dict(changes)
        limit //= 2


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
