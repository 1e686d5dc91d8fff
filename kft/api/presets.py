"""``kft presets``: what is known about Korean checkpoints, as plain values."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from kft.models.preset_memory import MemoryNeed, count_parameters, memory_need
from kft.models.presets import Preset, find_preset, read_presets

__all__ = ["Preset", "describe", "find_preset", "list_presets", "read_presets"]


def list_presets() -> list[dict[str, Any]]:
    """Every preset as plain values, encoders first."""
    return [describe(preset) for preset in read_presets()]


def describe(preset: Preset) -> dict[str, Any]:
    """A preset as plain values, with what follows from its sizes.

    Returns:
        Its fields; ``parameters`` counted from the sizes where the publisher gives none;
        ``tasks``; and ``lora_bytes`` and ``qlora_bytes``, each a mapping of ``weights``,
        ``adapter``, ``activations``, ``total`` and ``is_whole`` (else only the weights are
        counted), or ``None`` where not even those are known.
    """
    return {
        **asdict(preset),
        "parameters": count_parameters(preset),
        "tasks": list(preset.tasks),
        "lora_bytes": _bytes(memory_need(preset, quantized=False)),
        "qlora_bytes": _bytes(memory_need(preset, quantized=True)),
    }


def _bytes(need: MemoryNeed | None) -> dict[str, Any] | None:
    return None if need is None else {**asdict(need), "total": need.total}
