"""The run folder: what is written into it, and the records beside the weights."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import traceback
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from kft.api.paths import absolute, with_absolute_paths
from kft.api.run_lock import LOCK
from kft.errors import TrainError, UsageError, without_secrets
from kft.models.heads import HeadOptions
from kft.models.loader import weights_sha256
from kft.models.precision import dtype_name
from kft.recipe.reader import write_recipe
from kft.recipe.schema import Recipe
from kft.train.runlog import finite

_PACKAGES = ("kft", "torch", "transformers", "peft", "accelerate", "bitsandbytes", "tokenizers")


_BEGINNING = {"recipe.yaml", "environment.json.part"}
"""What a run that was killed while its folder was made may have left."""


def free_folder(output_dir: str, *, resumed: bool = False) -> Path:
    """The run folder's path, after seeing that it can be made and nothing is there.

    Args:
        output_dir: As the recipe has it.
        resumed: A run that was killed before it had begun is none, and begins here.

    Raises:
        UsageError: If there is no place for it, or it exists and is not an empty folder.
    """
    folder = Path(output_dir)
    check_place(folder)
    left = {path.name for path in folder.iterdir()} - {LOCK} if folder.exists() else set()
    if left and not (resumed and left <= _BEGINNING):
        has_begun = {"recipe.yaml", "environment.json"} <= left
        is_unfinished = has_begun and "result.json" not in left
        goes_on = "`--resume` goes on with the run that stands there; " if is_unfinished else ""
        raise UsageError(
            f"The run folder `{output_dir}` is not empty",
            where="`output_dir`",
            expected="a folder that doesn't exist yet, or is empty",
            hint=f"{goes_on}`output_dir={output_dir}-2` on the command line names another one.",
        )
    return folder


def check_place(folder: Path) -> None:
    """See that a folder is there, or can be made.

    Raises:
        UsageError: If what is there is not a folder, or nothing may be written into it.
    """
    there = folder.absolute()
    try:
        while not there.exists() and not there.is_symlink():
            there = there.parent
        if "\0" in str(folder):
            raise ValueError("a NUL character stands in its name")
    except (OSError, ValueError) as cause:  # too long a name, or a NUL in it
        raise UsageError(
            f"The run folder can't be made: {getattr(cause, 'strerror', None) or cause}",
            where="`output_dir`",
            expected="a path that the system takes",
        ) from cause
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return
    why = "nothing may be written into" if there.is_dir() else "there is no folder"
    raise UsageError(
        f"The run folder `{folder}` can't be made: {why} `{there}`",
        where="`output_dir`",
        expected="a folder, or a place where one can be made",
    )


def create(folder: Path, recipe: Recipe, environment: Mapping[str, Any]) -> None:
    """Make the run folder with the resolved recipe and the environment in it.

    Raises:
        UsageError: If it can't be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_recipe(with_absolute_paths(recipe), folder / "recipe.yaml")
        write_json(folder / "environment.json", environment)
    except OSError as cause:
        raise UsageError(
            f"The run folder can't be made: {cause.strerror or cause}",
            where=str(folder),
            expected="a place where files can be written",
        ) from cause


def environment(
    recipe: Recipe, device: torch.device, choices: Mapping[str, str], files: Mapping[str, str]
) -> dict[str, Any]:
    """What ``environment.json`` holds.

    Args:
        recipe: The resolved recipe.
        device: Where the run computes.
        choices: What each ``auto`` became.
        files: Path -> sha256 of each data file.
    """
    return {
        "packages": {name: version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "auto": dict(choices),
        "seed": recipe.train.seed,
        "data_sha256": dict(files),
        "base_sha256": weights_sha256(recipe.model.name_or_path),
    }


def device_name(device: torch.device) -> str:
    """A person's name for the device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    many = f"{threads} thread{'' if threads == 1 else 's'}"
    return f"CPU ({platform.processor() or platform.machine()}, {many})"


def base_record(recipe: Recipe, dtype: torch.dtype, head: HeadOptions) -> dict[str, Any]:
    """What the adapter was trained against, saved beside it as ``kft_base.json``.

    Args:
        recipe: The resolved recipe.
        dtype: Precision of computation.
        head: What the last layer says, and of what.
    """
    quantized = recipe.model.quantization in {"nf4", "fp4"}
    return {
        "name_or_path": absolute(recipe.model.name_or_path),
        "revision": recipe.model.revision,
        "sha256": weights_sha256(recipe.model.name_or_path),
        "quantization": recipe.model.quantization,
        "double_quant": recipe.model.double_quant if quantized else None,
        "block_size": 64 if quantized else None,  # transformers leaves bitsandbytes' default
        "compute_dtype": dtype_name(dtype),
        "task": recipe.task,
        "labels": recipe.data.labels,
        "several": head.several,
        "reads": head.reads,
        "attention": recipe.model.attention,
    }


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file in one rename, so that no reader sees half of it."""
    part = path.with_name(path.name + ".part")
    text = json.dumps(finite(content), ensure_ascii=False, indent=2, allow_nan=False)
    part.write_text(text + "\n", encoding="utf-8")
    part.replace(path)


def full_disk(folder: Path, error: Exception) -> TrainError | None:
    """What to say where the disk is full, read-only or gone; ``None`` for anything else.

    safetensors and torch tell of it in words alone.
    """
    said = str(error)
    reason = next((words for words in _DISK if words in said), None)
    if reason is None:
        return None
    return TrainError(
        f"A file of the run can't be written: {reason}",
        where=str(folder),
        expected="a writable disk with room for it; checkpoints are untouched",
        hint=f"`kft finetune {folder / 'recipe.yaml'} --resume` goes on once there is.",
    )


_DISK = tuple(os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO))


def write_traceback(folder: Path, error: BaseException, rank: int = 0) -> None:
    """Keep the traceback of a run that failed, when it has a folder already.

    Args:
        folder: The run folder.
        error: What happened.
        rank: On which rank; others than the main one have a file of their own.
    """
    if folder.is_dir() and any(folder.iterdir()):
        text = "".join(traceback.format_exception(error))
        name = f"error-rank-{rank}.txt" if rank else "error.txt"
        with contextlib.suppress(OSError):  # a full disk is no reason for another error
            (folder / name).write_text(without_secrets(text), encoding="utf-8")
