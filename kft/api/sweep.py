"""``kft sweep``: a recipe with several values of some keys, run after run, and which was best."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from kft.api.drawing import Drawing, Sampler
from kft.api.finetune import finetune
from kft.api.observer import Observer, Silent
from kft.api.paths import with_absolute_paths
from kft.api.report import report
from kft.api.run_folder import check_place, free_folder, write_json
from kft.api.sweep_space import Space, Values
from kft.errors import Finding, KftError, TrainError, UsageError, counted
from kft.evaluation.metrics.registry import METRICS
from kft.recipe.reader import write_recipe

SWEEP = "sweep.json"
"""File name of a sweep's record."""


@dataclass(frozen=True)
class Trial:
    """One run of a sweep.

    Args:
        name: Of its folder, inside the sweep's.
        values: Key -> value as typed.
        status: ``begun``, ``finished`` or ``failed``.
        metric: The tuned model's; ``None`` until it is known, and where it isn't finite.
        error: Why it failed.
    """

    name: str
    values: Values
    status: str = "begun"
    metric: float | None = None
    error: str | None = None


@dataclass(frozen=True)
class Sweep:
    """What came of a sweep.

    Args:
        folder: The sweep's, with a run folder for each trial.
        metric: What trials are compared by.
        higher_is_better: Which way.
        trials: In the order in which they ran.
    """

    folder: Path
    metric: str
    higher_is_better: bool
    trials: Sequence[Trial]

    @property
    def ranked(self) -> list[Trial]:
        """The trials that have a metric, the best first."""
        known = [trial for trial in self.trials if trial.metric is not None]
        return sorted(known, key=lambda trial: trial.metric or 0.0, reverse=self.higher_is_better)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        best = self.ranked[0] if self.ranked else None
        return {
            "folder": str(self.folder),
            "metric": self.metric,
            "higher_is_better": self.higher_is_better,
            "trials": [asdict(trial) for trial in self.trials],
            "best": best and best.name,
        }


def sweep(
    space: Space,
    *,
    trials: int | None = None,
    sampler: Sampler = "tpe",
    observer: Observer | None = None,
) -> Sweep:
    """Run every combination, or as many drawn ones as asked for.

    The same call again goes on: finished trials are read, a half one is resumed, a failed one is
    tried again, and more ``trials`` may be asked for. Trials are compared by
    ``train.metric_for_best_model`` of the tuned model on the held-out rows.

    Args:
        space: What varies.
        trials: Trials to draw through optuna; ``None`` is the grid.
        sampler: How they are drawn.
        observer: Told what happens.

    Returns:
        The trials. The sweep's folder holds ``sweep.json``, ``best.yaml`` (the best trial's
        recipe, with its own ``output_dir`` and the recipe's ``export``) and ``comparison.html``.

    Raises:
        UsageError: If the folder holds another sweep, or optuna is needed and isn't there.
        RecipeError: If the values of a trial don't make sense together.
        TrainError: If no trial came to an end.
    """
    observer = observer or Silent()
    folder = Path(space.recipe.output_dir)
    metric = space.recipe.train.metric_for_best_model
    better = METRICS[metric].higher_is_better is True
    record = _Record(space, folder, trials, sampler)
    known = record.begun()
    drawing = None
    if trials is not None:
        drawing = Drawing(space, sampler, seed=space.recipe.train.seed, higher_is_better=better)
    else:
        for number, values in enumerate(space.grid(), start=1):  # all, before the first is run
            space.trial_recipe(values, str(folder / _name(number)))
    for number, trial in enumerate(_trials(space, known, drawing, trials), start=1):
        ended = trial
        if trial.status != "finished":
            ended = _run(space, folder, trial, metric, observer, record.keep)
        record.keep(ended)
        known[number - 1 :] = [ended, *known[number:]]
    done = Sweep(folder, metric, better, known)
    _write_outcome(space, done, observer)
    return done


def _trials(
    space: Space, known: list[Trial], drawing: Drawing | None, count: int | None
) -> Iterator[Trial]:
    """The known trials, then new ones; ``known`` is read anew for each that is drawn."""
    if drawing is None:
        for number, values in enumerate(space.grid(), start=1):
            yield known[number - 1] if number <= len(known) else Trial(_name(number), values)
        return
    number = 0
    while number < (count or 0):
        number += 1
        if number <= len(known):
            yield known[number - 1]
            continue
        drawn = drawing.draw([(trial.values, trial.metric) for trial in known])
        if drawn is None:
            return
        yield Trial(_name(number), drawn)


def _name(number: int) -> str:
    return f"trial-{number:03}"


def _run(
    space: Space,
    folder: Path,
    trial: Trial,
    metric: str,
    observer: Observer,
    keep: Callable[[Trial], None],
) -> Trial:
    """Run or resume a trial; one that fails is told, and the sweep goes on."""
    keep(trial)
    place = folder / trial.name
    observer.facts({trial.name: " ".join(f"{key}={value}" for key, value in trial.values.items())})
    recipe = space.trial_recipe(trial.values, str(place))
    try:
        run = finetune(recipe, observer=observer, resume=True)
    except KftError as error:
        observer.finding(Finding("warning", f"{trial.name} failed: {error.what}", error.where))
        return replace(trial, status="failed", error=error.what)
    value = run.result["tuned"].get(metric)
    is_number = isinstance(value, int | float) and math.isfinite(value)
    return replace(trial, status="finished", metric=value if is_number else None, error=None)


class _Record:
    """What is known of a sweep on disk; written whenever a trial begins or ends."""

    def __init__(self, space: Space, folder: Path, trials: int | None, sampler: str) -> None:
        self._folder = folder
        recipe = with_absolute_paths(space.recipe).resolved()
        drawn = None if trials is None else sampler
        self._same = json.loads(json.dumps({**space.as_dict(), "recipe": recipe, "drawn": drawn}))
        self._trials: dict[str, Trial] = {}

    def begun(self) -> list[Trial]:
        """The trials of an earlier call; none for a new sweep, whose folder is looked at."""
        check_place(self._folder)
        path = self._folder / SWEEP
        if not path.is_file():
            free_folder(str(self._folder))
            return []
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["sweep"] != self._same:
            raise UsageError(
                f"`{self._folder}` holds another sweep",
                where=str(path),
                expected="the same recipe, keys and values, to go on with it",
                hint=f"`output_dir={self._folder}-2` names another folder.",
            )
        self._trials = {entry["name"]: Trial(**entry) for entry in content["trials"]}
        return list(self._trials.values())

    def keep(self, trial: Trial) -> None:
        """Write what is known, this trial included."""
        self._trials[trial.name] = trial
        self._folder.mkdir(parents=True, exist_ok=True)
        trials = [asdict(self._trials[name]) for name in sorted(self._trials)]
        write_json(self._folder / SWEEP, {"sweep": self._same, "trials": trials})


def _write_outcome(space: Space, done: Sweep, observer: Observer) -> None:
    """``best.yaml`` and ``comparison.html``, the best run first: the others are paired with it."""
    if not done.ranked:
        raise TrainError(
            f"None of the {counted(len(done.trials), 'trial')} came to an end with a "
            f"`{done.metric}`",
            where=str(done.folder / SWEEP),
            expected="at least one",
        )
    best = done.ranked[0]
    recipe = space.trial_recipe(best.values, f"{done.folder}-best")
    recipe = recipe.model_copy(update={"export": space.recipe.export})
    write_recipe(with_absolute_paths(recipe), done.folder / "best.yaml")
    places = [str(done.folder / trial.name) for trial in done.ranked]
    page = done.folder / "comparison.html"
    if len(places) > 1:
        report(places, output=str(page))
        observer.facts({"comparison": str(page)})
    observer.facts({"best": best.name, "recipe": str(done.folder / "best.yaml")})
    observer.finding(
        Finding(
            "note",
            f"{best.name} was chosen by these very rows, so its {done.metric} flatters it",
            hint=f"`kft evaluate {done.folder / best.name} --data FILE` measures it on others.",
        )
    )
