"""A model's blocks: the layers of which it has many, one after another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn


def blocks(model: Any) -> Iterator[tuple[str, nn.Module]]:
    """The blocks with their names: the entries of the longest list of modules that are no list.

    Args:
        model: A transformers model, or a PEFT model around one.

    Example:
        >>> model = nn.ModuleDict({"h": nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])})
        >>> [name for name, _ in blocks(model)]
        ['h.0', 'h.1']
    """
    lists = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList)
    ]
    if lists:
        name, found = max(lists, key=lambda pair: len(pair[1]))
        yield from ((f"{name}.{number}", block) for number, block in enumerate(found))
