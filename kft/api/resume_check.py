"""``kft resume-check``: proves on a user's own run that stopping and going on changes nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kft.api.begun import MADE_TOKENIZER
from kft.api.observer import Silent
from kft.api.run import load_run
from kft.errors import KftError, TrainError, UsageError
from kft.recipe.reader import override_recipe, write_recipe
from kft.train.same_bits import Compared, compare_steps

_STOPPED = 128 + signal.SIGTERM
_REFUSED = "refused.json"
_STEPS = "from kft.api.resume_check import take_steps; take_steps(*__import__('sys').argv[1:])"

# What is measured beside the steps takes time and changes none of them.
_ONLY_STEPS: Mapping[str, Any] = {
    "evaluate.eval_steps": None,
    "evaluate.general_text": None,
    "evaluate.generate": 0,
    "evaluate.max_rows": 1,
    "evaluate.metrics": "auto",
    "evaluate.scored_generations": 0,
    "export.merge": False,
    "train.early_stopping_patience": None,
    "train.load_best_model_at_end": "auto",
    "train.metric_for_best_model": "eval_loss",
    "train.save_steps": None,
}


@dataclass(frozen=True)
class ResumeCheck:
    """What came out.

    Args:
        steps: Optimizer steps that both ways took.
        stopped_after: The step after which one of them was stopped and went on.
        compared: Each kind of value.
    """

    steps: int
    stopped_after: int
    compared: tuple[Compared, ...]

    @property
    def passed(self) -> bool:
        """Whether every bit is the same."""
        return all(one.first_difference is None for one in self.compared)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "passed": self.passed,
            "steps": self.steps,
            "stopped_after": self.stopped_after,
            "compared": [asdict(one) for one in self.compared],
        }


def resume_check(run: str | Path, *, steps: int = 6) -> ResumeCheck:
    """Take a run's first steps again, once straight through and once with a stop between.

    Each way is a process of its own, in a temporary folder, with the run's recipe, schedule,
    rows and base; the stop is a SIGTERM, as a cluster sends it, and going on is another process.
    Evaluations are left out. On a GPU torch's deterministic kernels are asked for.

    Args:
        run: A run folder; nothing in it is changed.
        steps: Optimizer steps to take; fewer where the run has fewer.

    Returns:
        The comparison; it is up to the caller what to do with a difference.

    Raises:
        UsageError: If there is no run, or it has a single step.
        KftError: What the run itself is refused with, for example because rows have changed.
        TrainError: If a process died of something else.
    """
    folder = load_run(run).folder
    with tempfile.TemporaryDirectory(prefix="kft-resume-check-") as place:
        straight = _copy(folder, Path(place) / "straight")
        stopped = _copy(folder, Path(place) / "stopped")
        taken = _last_step(straight, steps)
        if taken < 2:
            raise UsageError(
                f"`{run}` has a single step, so there is nothing between two of them",
                expected="a run of two optimizer steps or more",
            )
        middle = _last_step(stopped, taken // 2)
        _last_step(stopped, taken)
        return ResumeCheck(taken, middle, tuple(compare_steps(straight, stopped, taken)))


def _copy(run: Path, folder: Path) -> Path:
    """What a run was begun with, without its steps: going on with it begins at the first."""
    folder.mkdir()
    recipe = override_recipe(load_run(run).recipe, {**_ONLY_STEPS, "output_dir": str(folder)})
    write_recipe(recipe, folder / "recipe.yaml")
    if not (run / "environment.json").is_file():
        raise UsageError(
            f"`{run}` was never begun", where=str(run), expected="a run with `environment.json`"
        )
    shutil.copy(run / "environment.json", folder)
    if (run / MADE_TOKENIZER).is_dir():
        shutil.copytree(run / MADE_TOKENIZER, folder / MADE_TOKENIZER)
    return folder


def _last_step(folder: Path, until: int) -> int:
    """Let another process take the steps up to ``until``; the step it was stopped after."""
    words = [sys.executable, "-c", _STEPS, str(folder), str(until)]
    exact = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    done = subprocess.run(words, env=os.environ | exact, capture_output=True, text=True)
    refused = folder / _REFUSED
    if refused.is_file():
        told = json.loads(refused.read_text(encoding="utf-8"))
        raise (UsageError if told.pop("exit_code") == 2 else TrainError)(**told)
    checkpoints = sorted((folder / "checkpoints").glob("step-????????"))
    if done.returncode != _STOPPED or not checkpoints:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise TrainError(
            f"A process that took the steps ended with exit code {done.returncode}: {last}",
            where=str(folder),
            expected=f"{_STOPPED}, after a checkpoint",
        )
    return int(checkpoints[-1].name.removeprefix("step-"))


class _StopAt(Silent):
    """Ends the process after a step, as a cluster would."""

    def __init__(self, step: int) -> None:
        self.last = step

    def step(self, record: Mapping[str, float], total_steps: int) -> None:
        """Send SIGTERM after the step, or after the run's last one."""
        if record["step"] >= min(self.last, total_steps):
            signal.raise_signal(signal.SIGTERM)


def take_steps(folder: str, until: str) -> None:
    """Go on with a run up to a step; leaves with 143. What another process is started with."""
    import torch

    from kft.api.session import run_steps
    from kft.recipe.reader import read_recipe

    if torch.cuda.is_available():
        torch.use_deterministic_algorithms(True, warn_only=True)
    recipe = read_recipe(Path(folder) / "recipe.yaml")
    try:
        for _ in run_steps(recipe, _StopAt(int(until)), resume=True):
            pass
    except KftError as error:
        told = {name: getattr(error, name) for name in ("what", "where", "expected", "hint")}
        content = json.dumps({**told, "exit_code": error.exit_code}, ensure_ascii=False)
        (Path(folder) / _REFUSED).write_text(content, encoding="utf-8")
