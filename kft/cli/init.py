"""The questions of ``kft init``: only what was not given, and only at a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from kft.cli.messages import error_text, show_finding, tell
from kft.errors import DataError, KftError, UsageError, counted

if TYPE_CHECKING:
    from kft.api.init import Wanted
    from kft.api.presets import Preset
    from kft.api.sample import Sample

Answer = TypeVar("Answer")

_LABELLED = ("sequence_classification", "sequence_regression")
"""Tasks that learn a label of a text."""


@dataclass(frozen=True)
class Given:
    """What stood on the command line.

    Args:
        model: ``--model``.
        preset: ``--preset``.
        data: ``--data``.
        task: ``--task``.
        output: ``--output``.
        method: ``--method``.
        device: ``--device``.
        columns: ``--columns``.
    """

    model: str | None = None
    preset: str | None = None
    data: str | None = None
    task: str | None = None
    output: str | None = None
    method: str | None = None
    device: str | None = None
    columns: str | None = None


def write_recipe(file: str, given: Given) -> None:
    """Ask what is missing, write the recipe and tell what was chosen.

    Raises:
        UsageError: If there is such a file, or something is missing and nobody is there to ask.
        DataError: If the data can't be read.
    """
    from kft.api.init import check_free, plan, write

    check_free(Path(file))
    wanted, sample = collect(given)
    choice = plan(wanted, sample)
    write(choice, Path(file))
    for typo in choice.sample.typos:
        show_finding(typo.finding())
    tell(f"{choice.method}: {choice.method_reason}")
    tell(f"Next: kft check {file}")


def collect(given: Given) -> tuple[Wanted, Sample]:
    """Everything that the recipe needs, asked for where it is missing.

    Raises:
        UsageError: If something is missing and nobody is there to ask.
        DataError: If the data can't be read.
    """
    from kft.api.init import Wanted, offered_tasks, resolve

    is_asking = sys.stdin.isatty()
    missing = [] if given.model or given.preset else ["`--preset` (or `--model`)"]
    missing += [] if given.data else ["`--data`"]
    if missing and not is_asking:
        raise UsageError(
            f"`kft init` needs {' and '.join(missing)}",
            expected="them as options, or a terminal to ask at",
            hint="`kft init --preset kogpt2 --data rows.csv`",
        )
    try:
        model, preset = (
            resolve(given.model, given.preset)
            if given.model or given.preset
            else _ask_again("Checkpoint (a preset, a folder or a hub name)", _resolve_either)
        )
        fits_labels = offered_tasks(preset, "classification", model)[0] != "causal_lm"
        look = partial(_look, given=given, fits_labels=fits_labels, is_asking=is_asking)
        data, (sample, task) = (
            (given.data, look(given.data))
            if given.data is not None
            else _ask_again("Data (a file of rows)", lambda answer: (answer, look(answer)))
        )
        wanted = Wanted(
            model,
            preset,
            data,
            task=task,
            output=given.output,
            method=given.method,
            device=given.device,
        )
        tell(f"{counted(sample.num_rows, 'row')}; format {sample.layout.note}")
        return (
            _ask_rest(wanted, sample, offered_tasks(preset, sample.layout.format, wanted.model))
            if missing
            else wanted
        ), sample
    except click.Abort as cause:
        raise KeyboardInterrupt from cause


def _resolve_either(answer: str) -> tuple[str, Preset | None]:
    """A preset's name, or any other checkpoint."""
    from kft.api.init import resolve

    try:
        return resolve(None, answer)
    except UsageError:
        if "/" not in answer and not answer.startswith((".", "~")):
            raise
        return resolve(answer, None)


def _look(
    path: str, *, given: Given, fits_labels: bool, is_asking: bool
) -> tuple[Sample, str | None]:
    """Look at the file, and find out or ask which columns are meant where their names don't tell.

    Returns:
        What was seen, and the task, where it was asked for.
    """
    from kft.api.sample import columns_of, guess_columns, look_at

    if given.columns is not None:
        return look_at(path, _roles(given.columns)), given.task
    try:
        return look_at(path), given.task
    except DataError as error:
        columns = columns_of(path)
        if len(columns) < 2:
            raise
        guess = guess_columns(path)
        wants_labels = given.task in _LABELLED or (given.task is None and fits_labels)
        if not is_asking and guess and wants_labels:
            return look_at(path, guess), given.task
        if not is_asking:
            columns_meant = guess or {"prompt": columns[0], "completion": columns[1]}
            raise _with_option(error, columns_meant) from error
    tell(f"The columns are {', '.join(f'`{name}`' for name in columns)}.")
    task = given.task
    if task is None:
        usual = _LABELLED[0] if guess or fits_labels else "causal_lm"
        task = _choose("What is learned", [*_LABELLED, "causal_lm"], usual)
    roles = ("text", "label") if task in _LABELLED else ("prompt", "completion")
    meant = {
        role: _choose(f"Which one holds the {role}", columns, guess.get(role)) for role in roles
    }
    return look_at(path, meant), task


def _with_option(error: DataError, columns: Mapping[str, str]) -> DataError:
    """The same error with an option of this command as its hint."""
    shown = ",".join(f"{role}={name}" for role, name in columns.items())
    hint = f'`--columns "{shown}"` says it.'
    return DataError(error.what, where=error.where, expected=error.expected, hint=hint)


def _roles(text: str) -> dict[str, str]:
    """``text=의견,label=만족`` as role -> column.

    Raises:
        UsageError: If it has another form.
    """
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(role.strip() and name.strip() for role, _, name in pairs):
        raise UsageError(
            f"Can't read `--columns {text}`",
            expected="roles with columns, such as `text=의견,label=만족`",
        )
    return {role.strip(): name.strip() for role, _, name in pairs}


def _ask_rest(wanted: Wanted, sample: Sample, tasks: Sequence[str]) -> Wanted:
    from kft.api.init import plan, usual_task

    if wanted.task is None and len(tasks) > 1:
        wanted = replace(wanted, task=_choose("Task", tasks, usual_task(sample, tasks)))
    if sample.labels_are_numbers:
        names = [
            click.prompt(f"Name of label {number}", default=number, err=True)
            for number in sample.labels
        ]
        wanted = replace(wanted, labels=names)
    if wanted.output is None:
        output = click.prompt("Run folder", default=plan(wanted, sample).output, err=True)
        wanted = replace(wanted, output=output)
    return wanted


def _choose(question: str, names: Sequence[str], default: str | None = None) -> str:
    return str(click.prompt(question, type=click.Choice(list(names)), default=default, err=True))


def _ask_again(question: str, read: Callable[[str], Answer]) -> Answer:
    """Ask until the answer can be used."""
    while True:
        answer = click.prompt(question, err=True)
        try:
            return read(answer.strip())
        except KftError as error:
            tell(error_text(error))
