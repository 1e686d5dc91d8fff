"""What a run's plans ask of its model's modules, kept from one start to the next.

Answers take a model on the meta device, and with it transformers' modelling code: two seconds
of imports for some forty numbers, which depend on little and seldom change.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter

from kft.bench import ProductWeights, product_weights
from kft.data.cache import cached, code_sha256, found
from kft.errors import DataError
from kft.models.architecture import skeleton
from kft.models.kept import Ways
from kft.models.sizes import ModelSizes, model_sizes
from kft.models.target_modules import check_adapter
from kft.recipe.schema import AdapterSection, Recipe
from kft.tasks.language_loss import head_parts
from kft.tasks.task import Task
from kft.train.free_memory import held_bytes

_SHAPES = "shapes.json"
_CODE = ("models", "bench.py", "api/shapes.py")  # beside what every entry of the cache depends on
_LIBRARIES = ("torch", "transformers", "peft")
_MODELLING = "transformers.modeling_utils"
_RESHAPED = ("final_logit_softcapping", "logit_scale", "logits_scaling", "logit_softcapping")
"""Keys of configurations whose logits are more than their head's."""


@dataclass(frozen=True)
class Shapes:
    """A model that fits its recipe, in numbers.

    Args:
        shared: Its sizes where layers that read one array keep it once.
        copied: Its sizes where each of them keeps a copy, in a precision of its own.
        unpadded: Whether its rows stand side by side without padding.
        products: Weights of its matrix products.
        code_bytes: What a process grew by as it loaded transformers' modelling code, and one that
            finds this in the cache will as it trains; 0 where it was loaded before.
    """

    shared: ModelSizes
    copied: ModelSizes
    unpadded: bool
    products: ProductWeights
    code_bytes: int


_AS_JSON = TypeAdapter(Shapes)


def shapes_of(recipe: Recipe, config: Any, task: Task) -> Shapes:
    """See that the recipe's adapter fits the model, and count what plans are made of.

    Found in the cache where the same was asked before; what is refused is never kept.

    Args:
        recipe: The recipe, of a checkpoint without code of its own: that may compute as it is
            built.
        config: The checkpoint's configuration, with the task's head in it.
        task: The recipe's task.

    Raises:
        ModelError: If the configuration doesn't make a model, or as
            :func:`kft.models.target_modules.check_adapter`.
    """
    section, is_loaded = adapter_section(recipe.adapter), _MODELLING in sys.modules
    depends_on = {
        "config": config.to_json_string(use_diff=False),
        "model": recipe.model.model_dump(mode="json"),
        "task": (task.name, task.auto_class, task.head),
        "adapter": section.model_dump(mode="json"),
        "fast": recipe.train.fast_paths,
        "versions": _versions(),
        "shapes_code": code_sha256(_CODE),
        "is_loaded": is_loaded,  # then it weighs nothing more
    }
    entry = found("shapes", depends_on)
    if entry is not None:
        return _AS_JSON.validate_json((entry.path / _SHAPES).read_bytes())
    before = held_bytes(torch.device("cpu"))
    shapes = _count(recipe, config, task, section)
    if not is_loaded:
        grown = max(0, held_bytes(torch.device("cpu")) - before)
        shapes = replace(shapes, code_bytes=grown)

    def write(folder: Path) -> None:
        (folder / _SHAPES).write_bytes(_AS_JSON.dump_json(shapes))

    with suppress(OSError, DataError):  # nowhere to keep it: no reason to stop
        cached("shapes", depends_on, write)
    return shapes


@cache
def _versions() -> tuple[str, ...]:
    return tuple(version(name) for name in _LIBRARIES)


def _count(recipe: Recipe, config: Any, task: Task, section: AdapterSection) -> Shapes:
    model = skeleton(config, recipe.model, task.auto_class)
    if section.method != "full" and section.start_from is None:
        check_adapter(model, section)
    model.requires_grad_(section.method == "full")
    fast = recipe.train.fast_paths
    unpadded = fast and getattr(model, "_supports_sdpa", False)
    unpadded = unpadded and recipe.model.attn_implementation in ("auto", "sdpa")
    is_cut = fast and task.head == "language" and head_parts(model) is not None
    is_cut = is_cut and not any(getattr(config, key, None) for key in _RESHAPED)
    sizes = partial(
        model_sizes,
        model,
        section,
        quantized=recipe.model.quantization != "none",
        head_is_cut=is_cut,
    )
    ways = Ways(fast, unpadded, dropout=recipe.model.dropout)
    return Shapes(
        shared=sizes(ways),
        copied=sizes(replace(ways, shares_inputs=False)),
        unpadded=unpadded,
        products=product_weights(model),
        code_bytes=0,
    )


def adapter_section(section: AdapterSection) -> AdapterSection:
    """The adapter's shape; that of ``start_from`` is read from its own folder."""
    if section.method == "full" or section.start_from is None:
        return section
    said = json.loads((Path(section.start_from) / "adapter_config.json").read_text("utf-8"))
    shape = {"r": said["r"], "target_modules": said["target_modules"]}
    return section.model_copy(
        update={**shape, "modules_to_save": said.get("modules_to_save") or []}
    )
