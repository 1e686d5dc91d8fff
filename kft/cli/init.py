"""The questions of ``kft init``: only what was not given, and only at a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from kft.cli.messages import error_text, tell
from kft.errors import DataError, KftError, UsageError

if TYPE_CHECKING:
    from kft.api.init import Wanted
    from kft.api.presets import Preset
    from kft.api.sample import Sample

Answer = TypeVar("Answer")


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
    """

    model: str | None = None
    preset: str | None = None
    data: str | None = None
    task: str | None = None
    output: str | None = None
    method: str | None = None
    device: str | None = None


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
        data, sample = _data(given.data, is_asking=is_asking)
        wanted = Wanted(
            model,
            preset,
            data,
            task=given.task,
            output=given.output,
            method=given.method,
            device=given.device,
        )
        tell(f"{sample.num_rows:,} rows; format {sample.layout.note}")
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


def _data(path: str | None, *, is_asking: bool) -> tuple[str, Sample]:
    from kft.api.sample import look_at

    if path is None:
        return _ask_again("Data (a file of rows)", lambda answer: (answer, _look(answer)))
    if is_asking:
        return path, _look(path)
    return path, look_at(path)


def _look(path: str) -> Sample:
    """Look at the file; ask which columns are meant where their names don't tell."""
    from kft.api.sample import columns_of, look_at

    try:
        return look_at(path)
    except DataError:
        columns = columns_of(path)
        if len(columns) < 2:
            raise
    tell(f"The columns are {', '.join(f'`{name}`' for name in columns)}.")
    roles: Mapping[str, str] = {
        role: _choose(f"Which one holds the {role}", columns) for role in ("prompt", "completion")
    }
    return look_at(path, roles, "prompt_completion")


def _ask_rest(wanted: Wanted, sample: Sample, tasks: Sequence[str]) -> Wanted:
    from kft.api.init import plan

    if wanted.task is None and len(tasks) > 1:
        wanted = replace(wanted, task=_choose("Task", tasks, tasks[0]))
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
