"""Checkpoints: what a run needs to go on from a step, complete or not there at all.

``checkpoints/step-00000100/`` holds ``weights.safetensors`` (every trained weight),
``optimizer.pt`` (its state, the scaler's, and the random states; loaded with ``weights_only``)
and ``manifest.json`` with the step, the sha256 of each file and of itself, and what evaluations
so far have shown. A checkpoint is written beside its place and renamed; the rows of each step are a
function of the step, so none are stored. ``checkpoints/best-00000060/`` has the weights alone.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from kft.errors import Finding, TrainError
from kft.train.weights import (
    set_whole_optimizer_state,
    set_whole_weights,
    trained_weights,
    whole_optimizer_state,
    whole_weights,
)

MANIFEST = "manifest.json"
_OWN = "manifest_sha256"
_FULL = 2**20
"""Free bytes below which a disk is taken to be full, where torch could not write."""
_NAMES = {"weights.safetensors", "optimizer.pt"}


@dataclass(frozen=True)
class State:
    """What a run goes on from, whole.

    Args:
        weights: Every trained weight by name.
        rest: The optimizer's state, the scaler's and the random states.
    """

    weights: Mapping[str, torch.Tensor]
    rest: Mapping[str, Any]


def state_of(module: torch.nn.Module, optimizer: Any, scaler: Any) -> State:
    """The state after a step; where ranks hold parts, each calls this and the main one has it.

    Args:
        module: With its trained weights.
        optimizer: Of these.
        scaler: The float16 gradient scaler, or ``None``.
    """
    rest = {
        "optimizer": whole_optimizer_state(module, optimizer),
        "scaler": None if scaler is None else scaler.state_dict(),
        "cpu_random_state": torch.get_rng_state(),
        "cuda_random_states": [torch.cuda.get_rng_state()] if torch.cuda.is_available() else [],
    }
    return State(whole_weights(module), rest)


def save_checkpoint(
    root: Path, step: int, state: State, *, keep: int, progress: Mapping[str, Any]
) -> Path:
    """Write the checkpoint of a step, then remove all but the newest ``keep``.

    Args:
        root: The run's ``checkpoints`` folder.
        step: The optimizer step that was just taken.
        state: What is saved.
        keep: Checkpoints that stay, this one among them.
        progress: What the evaluations so far have shown, as :class:`kft.train.best.Best` says it,
            and whatever else is to be known again.

    Raises:
        TrainError: If it can't be written; earlier checkpoints are untouched.
    """
    final = root / f"step-{step:08d}"

    def fill(part: Path) -> None:
        save_file(dict(state.weights), part / "weights.safetensors")
        torch.save(dict(state.rest), part / "optimizer.pt")

    _write(final, fill, {"step": step, "progress": dict(progress)})
    others = sorted(path for path in root.glob("step-????????") if path != final)
    older = [path for path in others if path.name < final.name]
    # Later ones are of steps that were just taken again: damaged, or of a run that was cut back.
    for old in [*others[len(older) :], *older[: max(0, len(older) - (keep - 1))]]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def save_best(root: Path, step: int, weights: Mapping[str, torch.Tensor]) -> None:
    """Keep the weights of the best evaluation so far, apart from checkpoints.

    Those of earlier bests go, but for what a checkpoint still refers to: a run that goes on from
    there has to find them.

    Args:
        root: The run's ``checkpoints`` folder.
        step: The step of the evaluation.
        weights: Every trained weight by name, whole.

    Raises:
        TrainError: If they can't be written.
    """
    final = best_folder(root, step)
    _write(
        final,
        lambda part: save_file(dict(weights), part / "weights.safetensors"),
        {"step": step},
    )
    drop_other_bests(root, step)


def drop_other_bests(root: Path, step: int | None) -> None:
    """Remove the weights of all bests but the one of ``step`` and those checkpoints refer to."""
    wanted = {checkpoint_progress(folder).get("step") for folder in root.glob("step-????????")}
    kept = {best_folder(root, best).name for best in {*wanted, step} if best is not None}
    for folder in root.glob("best-????????"):
        if folder.name not in kept:
            shutil.rmtree(folder, ignore_errors=True)


def best_folder(root: Path, step: int) -> Path:
    """Where the weights of the evaluation at a step are kept, if it was the best."""
    return root / f"best-{step:08d}"


def checkpoint_progress(folder: Path) -> dict[str, Any]:
    """What the evaluations up to a checkpoint had shown; empty where it can't be read."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return dict(manifest["progress"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _write(final: Path, fill: Callable[[Path], None], manifest: Mapping[str, Any]) -> None:
    """Fill a folder beside its place, with a manifest of its files, and rename it."""
    root, part = final.parent, final.with_name(f"{final.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        fill(part)
        files = {path.name: _sha256(path) for path in sorted(part.iterdir())}
        said = {**manifest, "files": files}
        content = json.dumps({**said, _OWN: _json_sha256(said)}, indent=2)
        (part / MANIFEST).write_text(content + "\n", encoding="utf-8")
        for path in part.iterdir():
            _flush(path)
        shutil.rmtree(final, ignore_errors=True)
        part.rename(final)
        _flush(root)
    except (OSError, RuntimeError, SafetensorError) as cause:
        # torch says of a full disk only that a position is not the one it expected.
        is_full = isinstance(cause, RuntimeError) and shutil.disk_usage(root).free < _FULL
        reason = os.strerror(errno.ENOSPC) if is_full else cause
        shutil.rmtree(part, ignore_errors=True)
        raise TrainError(
            f"`{final.name}` can't be written: {reason}",
            where=str(root),
            expected="a writable disk with room for it; earlier checkpoints are untouched",
        ) from cause


def complete_checkpoints(root: Path) -> Iterator[tuple[Path, int] | Finding]:
    """The checkpoints of a run, newest first; a damaged one is a finding that says what is wrong.

    Yields:
        The folder and its step, or a warning.
    """
    for folder in sorted(root.glob("step-????????"), reverse=True):
        try:
            manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            is_whole = manifest.pop(_OWN) == _json_sha256(manifest)
            step, files = int(manifest["step"]), dict(manifest["files"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            yield _damaged(folder, "its manifest can't be read")
            continue
        if not is_whole or folder.name != f"step-{step:08d}" or not files.keys() >= _NAMES:
            yield _damaged(folder, "its manifest is not what was written")
            continue
        broken = [name for name, sha in files.items() if not _is_whole(folder / name, sha)]
        if broken:
            yield _damaged(folder, f"`{broken[0]}` is not what was written")
        else:
            yield folder, step


def read_checkpoint(folder: Path, module: torch.nn.Module) -> State:
    """What a checkpoint holds.

    Raises:
        TrainError: If it can't be read, or does not fit the model.
    """
    weights = read_weights(folder, module)
    try:
        rest = torch.load(folder / "optimizer.pt", map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError) as cause:
        raise TrainError(f"The checkpoint can't be read: {cause}", where=str(folder)) from cause
    return State(weights, rest)


def put_back(state: State | None, module: torch.nn.Module, optimizer: Any, scaler: Any) -> None:
    """Go on from a state: its weights, optimizer state and random states.

    Where ranks hold parts of the weights each calls this, the main one with the whole and the
    others with ``None``.
    """
    set_whole_weights(module, state.weights if state else {})
    set_whole_optimizer_state(module, optimizer, state.rest["optimizer"] if state else {})
    if state is None:  # what is drawn there is a function of the step and the rank
        return
    if scaler is not None and state.rest["scaler"] is not None:
        scaler.load_state_dict(state.rest["scaler"])
    torch.set_rng_state(state.rest["cpu_random_state"])
    if torch.cuda.is_available() and state.rest["cuda_random_states"]:
        torch.cuda.set_rng_state(state.rest["cuda_random_states"][0])


def read_weights(folder: Path, module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The trained weights of a checkpoint, or of a best evaluation, by name.

    Raises:
        TrainError: If they can't be read or do not fit the model.
    """
    try:
        saved: dict[str, torch.Tensor] = load_file(folder / "weights.safetensors")
    except (OSError, SafetensorError) as cause:
        raise TrainError(f"The checkpoint can't be read: {cause}", where=str(folder)) from cause
    weights = trained_weights(module)
    odd = sorted(
        name
        for name in weights.keys() | saved.keys()
        if name not in saved or name not in weights or saved[name].shape != weights[name].shape
    )
    if odd:
        raise TrainError(
            f"The checkpoint holds other weights than the model, first `{odd[0]}`",
            where=str(folder),
            expected="the recipe that the run was started with",
        )
    return saved


def _json_sha256(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_whole(path: Path, sha: str) -> bool:
    try:
        return _sha256(path) == sha
    except OSError:
        return False


def _flush(path: Path) -> None:
    """Make a file's content, or a folder's names, survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _damaged(folder: Path, why: str) -> Finding:
    return Finding("warning", f"A checkpoint is damaged and left out: {why}", where=str(folder))
