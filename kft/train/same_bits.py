"""Whether two runs took the same steps, to the bit: their checkpoints and logs side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from kft.train.runlog import read_log

LOGGED = ("loss", "grad_norm", "learning_rate")
"""What of a step's line in ``metrics.jsonl`` is arithmetic; the rest is time and memory."""


@dataclass(frozen=True)
class Compared:
    """One kind of value of two runs.

    Args:
        name: What was compared.
        values: How many there are.
        first_difference: Where they differ first, with both values; ``None``: nowhere.
    """

    name: str
    values: int
    first_difference: str | None = None


def compare_steps(one: Path, other: Path, step: int) -> list[Compared]:
    """Compare everything up to a step of two run folders.

    Args:
        one: A run folder with a checkpoint of that step.
        other: Likewise.
        step: The last step of both.

    Returns:
        The trained weights, the optimizer's state (the scaler's with it), the random states,
        and loss, gradient norm and learning rate of each step.
    """
    name = f"checkpoints/step-{step:08d}"
    states = [_state(folder / name / "optimizer.pt") for folder in (one, other)]
    weights = [load_file(folder / name / "weights.safetensors") for folder in (one, other)]
    lines = [[line for line in read_log(folder) if "loss" in line] for folder in (one, other)]
    return [
        _compared("trained weights", *weights),
        _compared("optimizer", *(_part(state, random=False) for state in states)),
        _compared("random states", *(_part(state, random=True) for state in states)),
        *(_compared(key, *(_by_step(run, key) for run in lines)) for key in LOGGED),
    ]


def _state(path: Path) -> dict[str, Any]:
    return dict(_flat("", torch.load(path, map_location="cpu", weights_only=True)))


def _flat(name: str, value: Any) -> list[tuple[str, Any]]:
    """Every tensor and number in nested dictionaries and lists, by its path."""
    if isinstance(value, Mapping):
        pairs = [(str(key), below) for key, below in value.items()]
    elif isinstance(value, list | tuple):
        pairs = [(str(place), below) for place, below in enumerate(value)]
    else:
        return [(name, value)]
    return [leaf for key, below in pairs for leaf in _flat(f"{name}.{key}" if name else key, below)]


def _part(state: Mapping[str, Any], *, random: bool) -> dict[str, Any]:
    return {name: value for name, value in state.items() if ("random_state" in name) == random}


def _by_step(lines: list[dict[str, Any]], key: str) -> dict[str, Any]:
    return {f"step {line['step']}": line[key] for line in lines}


def _compared(name: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> Compared:
    for place in dict.fromkeys([*one, *other]):
        if place not in one or place not in other:
            return Compared(name, len(one), f"{place}: only one of the runs has it")
        if not _is_same(one[place], other[place]):
            return Compared(name, len(one), f"{place}: {_difference(one[place], other[place])}")
    return Compared(name, len(one))


def _is_same(one: Any, other: Any) -> bool:
    if not (isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor)):
        return json.dumps(one, default=str) == json.dumps(other, default=str)
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    # As bytes: -0.0 is not 0.0, and one NaN is the other.
    bytes_of = [tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (one, other)]
    return torch.equal(*bytes_of)


def _difference(one: Any, other: Any) -> str:
    if not (isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor)):
        return f"{one!r} and {other!r}"
    if one.shape != other.shape or one.dtype != other.dtype:
        return f"{one.dtype} {tuple(one.shape)} and {other.dtype} {tuple(other.shape)}"
    here = (one != other).reshape(-1).nonzero()
    if not len(here):
        return "other bits of the same values"
    first = int(here[0])
    values = [tensor.reshape(-1)[first].item() for tensor in (one, other)]
    return f"{len(here)} of {one.numel()} values, the first {values[0]!r} and {values[1]!r}"
