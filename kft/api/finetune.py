"""``kft finetune``: the whole way from a recipe to a run."""

from __future__ import annotations

import atexit
from collections.abc import Generator, Iterator
from pathlib import Path
from weakref import WeakSet

from kft.api.given import RecipeOrPath, as_recipe
from kft.api.launched import launched_rank
from kft.api.observer import Observer, Silent
from kft.api.run import Run, load_run
from kft.api.session import run_steps
from kft.recipe.reader import Overrides
from kft.train.loop import StepStats


def finetune(
    recipe_or_path: RecipeOrPath,
    overrides: Overrides | None = None,
    *,
    observer: Observer | None = None,
    resume: bool = False,
) -> Run:
    """Fine-tune a pretrained checkpoint as the recipe says.

    Args:
        recipe_or_path: A recipe, or the path of its YAML file.
        overrides: ``{"adapter.r": 16}``, or ``["adapter.r=16"]`` as on the command line.
        observer: Told what happens; ``None`` shows nothing.
        resume: Go on from the run folder's last complete checkpoint; without one, start afresh.

    Returns:
        The run: its folder, numbers and models.

    Raises:
        KftError: With ``exit_code`` 2 for what is wrong before training, 1 for what fails later.

    Example:
        >>> few = {"train.max_steps": 2, "evaluate.generate": 0, "output_dir": "runs/two"}
        >>> run = kft.finetune("recipes/quickstart.yaml", few)
        >>> run.result["steps"], run.verify()["passed"]
        (2, True)
    """
    recipe = as_recipe(recipe_or_path, overrides)
    for _ in run_steps(recipe, observer or Silent(), resume=resume):
        pass
    if launched_rank():  # the main rank's folder need not be seen from here
        return Run(Path(recipe.output_dir))
    return load_run(recipe.output_dir)


def steps(
    recipe_or_path: RecipeOrPath,
    overrides: Overrides | None = None,
    *,
    observer: Observer | None = None,
    resume: bool = False,
) -> Iterator[StepStats]:
    """The same, one optimizer step at a time: watch training with a plain ``for``.

    The run is complete when the iterator ends; ``kft.load_run(output_dir)`` opens it.

    Returns:
        What each step showed; ``float(stats.loss)`` is in nats per target. An iterator that is left
        half way stops the run; ``resume`` goes on from its last checkpoint.

    Raises:
        KftError: As :func:`finetune`.

    Example:
        >>> few = {"train.max_steps": 3, "evaluate.generate": 0, "output_dir": "runs/three"}
        >>> for stats in kft.steps("recipes/quickstart.yaml", few):
        ...     print(stats.step, int(stats.num_tokens) > int(stats.num_targets))
        1 True
        2 True
        3 True
    """
    running = run_steps(as_recipe(recipe_or_path, overrides), observer or Silent(), resume=resume)
    _RUNNING.add(running)
    return running


def _close_all() -> None:
    for running in list(_RUNNING):
        running.close()


_RUNNING: WeakSet[Generator[StepStats, None, None]] = WeakSet()
"""Of iterators that are left half way, so that they end before Python takes itself apart."""

atexit.register(_close_all)
