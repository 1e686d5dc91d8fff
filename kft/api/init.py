"""``kft init``: look at a data file, take a checkpoint's facts, and write a recipe that passes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from kft.api.recipe_text import recipe_text
from kft.api.sample import Sample, look_at
from kft.errors import RecipeError, UsageError, name_list
from kft.models.loader import check_name
from kft.models.preset_memory import memory_need
from kft.models.presets import Preset, find_preset, recognise
from kft.models.tokenizer_files import TokenizerFiles
from kft.recipe.foreign_names import meant_choice
from kft.recipe.reader import read_recipe
from kft.recipe.schema import Method, TaskName
from kft.recipe.task_rules import tasks_for

__all__ = [
    "Choice",
    "Sample",
    "Wanted",
    "check_free",
    "look_at",
    "offered_tasks",
    "plan",
    "resolve",
    "usual_task",
    "write",
]

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:g|gb|gib)", re.IGNORECASE)
_SMALL = 50_000_000
"""Weights below which both LoRA and full fine-tuning learn at a higher rate."""
_ROOM = 0.9
"""Share of a device's memory that a run may be planned to take."""
_POSITIONS = ("max_position_embeddings", "n_positions")


@dataclass(frozen=True)
class Wanted:
    """What the user asked for; ``None`` leaves it to kft.

    Args:
        model: Folder or hub name.
        preset: Its entry, when it is a listed checkpoint.
        data: The file of rows.
        task: One of :func:`offered_tasks`.
        output: The run folder.
        method: ``lora``, ``qlora`` or ``full``.
        device: ``cpu``, ``cuda``, or memory such as ``24GB``.
        labels: Names of the labels, when the file has numbers.
    """

    model: str
    preset: Preset | None
    data: str
    task: str | None = None
    output: str | None = None
    method: str | None = None
    device: str | None = None
    labels: Sequence[str] = ()


@dataclass(frozen=True)
class Choice:
    """What the recipe will say, each with its reason where it has one.

    Args:
        wanted: What the user asked for.
        sample: What the data file shows.
        task: The recipe's task.
        output: The run folder.
        method: The adapter's method.
        method_reason: Why it is that one.
        rows: Rows of a micro-batch, 8 or 1; eight make a step.
        max_length: Tokens per row.
        context: Tokens that the model takes; ``None`` when it isn't known.
        is_small: Whether it has so few weights that LoRA learns at a higher rate.
    """

    wanted: Wanted
    sample: Sample
    task: str
    output: str
    method: str
    method_reason: str
    rows: int
    max_length: int
    context: int | None
    is_small: bool


def resolve(model: str | None, preset: str | None) -> tuple[str, Preset | None]:
    """The checkpoint that was named, and its entry when it is listed.

    Args:
        model: A folder or hub name; it wins over the preset's hub name.
        preset: A preset's name.

    Raises:
        UsageError: If neither is given, or the preset is unknown.
        ModelError: If there is no such folder, and no hub can have that name.
    """
    found = find_preset(preset) if preset is not None else None
    if model is None and found is None:
        raise UsageError("No checkpoint is named", hint="Give `--preset NAME` or `--model PATH`.")
    if model is not None:
        check_name(model, "`--model`")
    if model is not None and found is None:
        found = recognise(model, TokenizerFiles.of(model).config if Path(model).is_dir() else {})
    place = model or (found.hub if found is not None else "")
    return place, found


def offered_tasks(preset: Preset | None, rows_format: str, model: str = "") -> list[str]:
    """The tasks that the rows are fit for, the usual one for the checkpoint first.

    Args:
        preset: The checkpoint's entry, where it is listed.
        rows_format: As the rows were recognised.
        model: The checkpoint; where it isn't listed, its configuration tells an encoder, which is
            asked for answers only when nothing else fits.
    """
    fitting: list[str] = list(tasks_for(rows_format))
    if preset is None:
        config = TokenizerFiles.of(model).config if model and Path(model).is_dir() else {}
        is_encoder = any("ForMaskedLM" in name for name in config.get("architectures") or ())
        return sorted(fitting, key=lambda task: is_encoder and task == "causal_lm")
    return [task for task in preset.tasks if task in fitting] or fitting


def usual_task(sample: Sample, tasks: Sequence[str]) -> str:
    """The first of the offered tasks; of scores no class is learned, but the number."""
    classes, number = "sequence_classification", "sequence_regression"
    is_number = tasks[0] == classes and sample.labels_are_scores and number in tasks
    return number if is_number else tasks[0]


def plan(wanted: Wanted, sample: Sample) -> Choice:
    """Fill in what the user left open, from the checkpoint and the data.

    Raises:
        UsageError: If task, method or device are none that kft knows.
    """
    tasks = offered_tasks(wanted.preset, sample.layout.format, wanted.model)
    task = _one_of("--task", wanted.task, list(get_args(TaskName))) or usual_task(sample, tasks)
    method = _one_of("--method", wanted.method, list(get_args(Method)))
    suited, rows, reason = _method(wanted)
    if method is not None and method != suited:
        rows, reason = 8, "as asked for"
    context = _context(wanted)
    name = re.sub(r"[^\w.-]+", "-", Path(wanted.model).name).strip("-") or "model"
    output = wanted.output or f"runs/{name.lower()}-{Path(wanted.data).stem}"
    return Choice(
        wanted=wanted,
        sample=sample,
        task=task,
        output=output,
        method=method or suited,
        method_reason=reason,
        rows=rows,
        max_length=sample.suggested_length(context),
        context=context,
        is_small=0 < _num_weights(wanted) < _SMALL,
    )


def check_free(path: Path) -> None:
    """See that there is no such recipe yet.

    Raises:
        UsageError: If there is.
    """
    if path.exists():
        raise UsageError(
            f"`{path}` exists, and kft overwrites no recipe",
            expected="a name that is free",
            hint="`kft init OTHER.yaml` writes another one.",
        )


def write(choice: Choice, path: Path) -> None:
    """Write the recipe; the file must not exist.

    Raises:
        UsageError: If there is such a file already.
    """
    check_free(path)
    text = recipe_text(choice, path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as cause:
        raise UsageError(f"Can't write the recipe: {cause.strerror}", where=str(path)) from cause
    try:
        read_recipe(path)
    except RecipeError:
        path.unlink()  # a path or label that no recipe can hold; the error names it
        raise


def _one_of(flag: str, given: str | None, names: list[str]) -> str | None:
    if given is None or given in names:
        return given
    meant = meant_choice(given, names)
    raise UsageError(
        f"Unknown value `{given}` for `{flag}`",
        expected=f"one of {name_list(names, 9)}",
        hint=f"Did you mean `{meant}`?" if meant else None,
    )


def _method(wanted: Wanted) -> tuple[str, int, str]:
    """Method, rows of a micro-batch, and the reason.

    LoRA with the usual 8 rows where that fits; else QLoRA; else a row at a time, in which case
    eight are accumulated: the steps are the same.
    """
    room, device = _memory(wanted.device)
    has = f"{device} has {room / 2**30:.1f} GiB"
    preset = wanted.preset
    lora = memory_need(preset, quantized=False) if preset is not None else None
    qlora = memory_need(preset, quantized=True) if preset is not None else None
    if lora is not None and qlora is not None and lora.is_whole:
        told = f"LoRA needs about {lora.total / 2**30:.1f} GiB, QLoRA {qlora.total / 2**30:.1f}"
        for rows in (8, 1):
            for name, need in (("lora", lora), ("qlora", qlora)):
                if need.with_rows(rows) <= _ROOM * room:
                    return name, rows, f"{told}; {has}"
        return "qlora", 1, f"{told}; {has}, which may not do"
    held = lora.weights if lora is not None else _weight_bytes(Path(wanted.model))
    if not held:
        return "lora", 8, "`qlora` holds the frozen weights in 4 bits"
    told = f"the weights take {held / 2**30:.2g} GiB; {has}"
    return ("qlora" if held > 0.5 * room else "lora"), 8, told


def _num_weights(wanted: Wanted) -> int:
    """Roughly, from the preset or the files of a folder; 0 when it isn't known."""
    listed = wanted.preset.parameters if wanted.preset is not None else None
    return listed or _weight_bytes(Path(wanted.model)) // 4


def _weight_bytes(folder: Path) -> int:
    files = [*folder.glob("*.safetensors"), *folder.glob("*.bin")] if folder.is_dir() else []
    return sum(path.stat().st_size for path in files)


def _memory(device: str | None) -> tuple[float, str]:
    """Bytes of the device's memory, and what to call it."""
    size = _SIZE.fullmatch(device.strip()) if device else None
    if size is not None:
        return float(size[1]) * 2**30, "the device"
    if device not in {None, "cpu", "cuda"}:
        raise UsageError(
            f"Unknown device `{device}`", expected="`cpu`, `cuda`, or its memory, such as `24GB`"
        )
    if device != "cpu":
        import torch

        if torch.cuda.is_available():
            return float(torch.cuda.mem_get_info()[1]), "this GPU"
        if device == "cuda":
            raise UsageError(
                "There is no CUDA device here",
                hint="`--device 24GB` plans for one of that memory elsewhere.",
            )
    import psutil

    return float(psutil.virtual_memory().total), "this machine"


def _context(wanted: Wanted) -> int | None:
    folder = Path(wanted.model)
    if folder.is_dir():
        config = TokenizerFiles.of(wanted.model).config
        found = next((config[key] for key in _POSITIONS if type(config.get(key)) is int), None)
        if found is not None:
            return int(found)
    return wanted.preset.context if wanted.preset is not None else None
