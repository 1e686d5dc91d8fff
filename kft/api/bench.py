"""``kft bench``: how fast a recipe trains here, and how far that is from what could be."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any

import torch
from accelerate.utils import set_seed

from kft.api.given import RecipeOrPath, as_recipe
from kft.api.loaded import load
from kft.api.observer import Observer, Silent
from kft.api.run_folder import device_name
from kft.api.stepping import training_windows
from kft.api.training import prepare_training
from kft.bench import matmul_peak, product_weights, synchronize
from kft.errors import UsageError, counted
from kft.models.precision import dtype_name
from kft.recipe.reader import Overrides
from kft.tasks.task import Window
from kft.train.loop import StepStats, train
from kft.train.optimizer import learning_rate_schedule
from kft.train.runlog import peak_memory_bytes


@dataclass(frozen=True)
class Bench:
    """What a few steps showed; nothing of them is kept.

    Args:
        device: Its name.
        precision: Of computation.
        steps: That were timed; one before them was not.
        tokens_per_second: Real tokens, without padding.
        targets_per_second: Of those, what is learned; or rows, where rows are counted.
        flop_per_second: Of matrix products, as :meth:`kft.bench.ProductWeights.flop` counts.
        peak_flop_per_second: What a large product reached on this device at the same time.
        utilization: The one by the other.
        peak_memory_bytes: Of the process, or of the GPU.
        seconds: Per step: ``data``, ``forward``, ``backward`` (with clipping), ``optimizer``; and
            ``loading`` the model and the data, once.
    """

    device: str
    precision: str
    steps: int
    tokens_per_second: float
    targets_per_second: float
    flop_per_second: float
    peak_flop_per_second: float
    utilization: float
    peak_memory_bytes: int
    seconds: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """As plain types."""
        return asdict(self)


def bench(
    recipe_or_path: RecipeOrPath,
    overrides: Overrides | None = None,
    *,
    steps: int = 5,
    observer: Observer | None = None,
) -> Bench:
    """Take a few optimizer steps of a recipe and time them; writes nothing.

    Args:
        recipe_or_path: A recipe, or the path of its YAML file.
        overrides: As for :func:`kft.finetune`.
        steps: Steps that are timed, after one that isn't.
        observer: Told what happens.

    Raises:
        KftError: As :func:`kft.finetune`, before training.
        UsageError: If the run has fewer steps than are to be timed.
    """
    recipe = as_recipe(recipe_or_path, overrides)
    started = time.perf_counter()
    observer = observer or Silent()
    loaded = load(recipe, observer)
    training = prepare_training(loaded)
    loading = time.perf_counter() - started
    available = training.plan.total_steps
    if available < steps + 1:
        raise UsageError(
            f"The run has {counted(available, 'step')}, and {steps + 1} are needed",
            where="`train.max_steps`",
            hint=f"`train.max_steps={steps + 1}`, or fewer `--steps`",
        )
    observer.stage(f"timing {counted(steps, 'step')}")
    device = loaded.accelerator.device
    set_seed(loaded.recipe.train.seed)
    clock = Clock(device)
    clock.watch(training.module, training.optimizer)
    stats = list(
        train(
            training.module,
            training.optimizer,
            learning_rate_schedule(loaded.recipe.train, available),
            clock.timed(islice(training_windows(loaded, training.plan, 1), steps + 1)),
            loaded.accelerator,
            max_grad_norm=loaded.recipe.train.max_grad_norm,
        )
    )
    synchronize(device)
    needed = peak_memory_bytes(device)  # before other matrices are made
    peak = matmul_peak(device, loaded.dtype)
    return replace(
        _summary(stats[1:], clock, product_weights(loaded.model), peak),
        device=device_name(device),
        precision=dtype_name(loaded.dtype),
        peak_memory_bytes=needed,
        seconds={**clock.phases(stats[1:]), "loading": loading},
    )


def _summary(stats: list[StepStats], clock: Clock, weights: Any, peak: float) -> Bench:
    seconds = sum(clock.totals[step.step - 1] for step in stats)
    tokens = sum(int(step.num_tokens) for step in stats)
    targets = sum(int(step.num_targets) for step in stats)
    speed = weights.flop(tokens, targets) / seconds
    return Bench(
        "", "", len(stats), tokens / seconds, targets / seconds, speed, peak, speed / peak, 0, {}
    )


class Clock:
    """Seconds of each phase of each step, by hooks that torch offers."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._since = 0.0
        self._step_since = 0.0
        self.totals: list[float] = []
        self._spent: list[dict[str, float]] = []

    def watch(self, module: torch.nn.Module, optimizer: Any) -> None:
        """Time the forward passes of a module and the steps of its optimizer."""
        module.register_forward_pre_hook(lambda *_: self._start())
        module.register_forward_hook(lambda *_: self._stop("forward"))
        inner = getattr(optimizer, "optimizer", optimizer)  # accelerate's wrapper has no hooks
        inner.register_step_pre_hook(lambda *_: self._start())
        inner.register_step_post_hook(lambda *_: self._stop("optimizer"))

    def timed(self, windows: Iterable[Window]) -> Iterator[Window]:
        """The windows, with the time that each took to make; a step ends where the next begins."""
        iterator = iter(windows)
        while True:
            self._end_step()
            self._start()
            self._step_since = self._since
            window = next(iterator, None)
            if window is None:
                return
            self._spent.append({})
            self._stop("data")
            yield window

    def phases(self, stats: list[StepStats]) -> dict[str, float]:
        """Median seconds per step of each phase; what is none of the others is ``backward``."""
        numbers = [step.step - 1 for step in stats]
        named = {
            name: statistics.median(self._spent[number].get(name, 0.0) for number in numbers)
            for name in ("data", "forward", "optimizer")
        }
        whole = statistics.median(self.totals[number] for number in numbers)
        return {
            "data": named["data"],
            "forward": named["forward"],
            "backward": max(0.0, whole - sum(named.values())),
            "optimizer": named["optimizer"],
        }

    def _now(self) -> float:
        synchronize(self._device)
        return time.perf_counter()

    def _start(self) -> None:
        self._since = self._now()

    def _stop(self, name: str) -> None:
        spent = self._spent[-1]
        spent[name] = spent.get(name, 0.0) + self._now() - self._since

    def _end_step(self) -> None:
        if self._spent:
            self.totals.append(self._now() - self._step_since)
