"""Which modules an adapter attaches to, and the checks before peft does it."""

from __future__ import annotations

import re
from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from kft.errors import ModelError, name_list, nearest_name
from kft.models.heads import head_names
from kft.recipe.schema import AdapterSection


def check_adapter(model: Any, section: AdapterSection) -> str | list[str]:
    """Check everything that ``adapter`` says of the model's modules.

    Args:
        model: The model; its weights aren't looked at.
        section: A new LoRA; ``start_from`` and ``full`` have nothing to check here.

    Returns:
        As :func:`target_modules`.

    Raises:
        ModelError: If something that is named isn't there, or ``r`` is too large.
    """
    targets = target_modules(model, section)
    _check_modules_to_save(model, section)
    _check_layers(model, section, targets)
    return targets


def target_modules(model: Any, section: AdapterSection) -> str | list[str]:
    """What ``adapter.target_modules`` names, checked against the model.

    Returns:
        Module names for peft: the ends of names where these say enough, else whole names; or
        a regular expression, or ``all-linear``.

    Raises:
        ModelError: If nothing matches, or ``r`` is larger than a matched layer.
    """
    layers = linear_layers(model)
    matched = _matched(model, section, layers)
    for name in matched:
        limit = min(layer_features(layers[name]))
        if section.r > limit:
            raise ModelError(
                f"`adapter.r` is {section.r}, larger than the layer it is to approximate",
                where=f"layer `{name}`",
                expected=f"at most {limit}, the layer's smaller side",
                hint=f"`adapter.r={min(8, limit)}`",
            )
    if section.target_modules == "auto":
        return _shortest(matched, list(layers))
    return section.target_modules


def adapted_layers(model: Any, section: AdapterSection) -> dict[str, tuple[int, int]]:
    """The layers that get an adapter: name -> numbers of inputs and outputs.

    Raises:
        ModelError: If nothing matches.
    """
    layers = linear_layers(model)
    chosen = section.layers_to_transform
    return {
        name: layer_features(layers[name])
        for name in _matched(model, section, layers)
        if chosen is None or any(part in map(str, chosen) for part in name.split("."))
    }


def _matched(model: Any, section: AdapterSection, layers: dict[str, nn.Module]) -> list[str]:
    """Names of the layers that ``adapter.target_modules`` means."""
    wanted = section.target_modules
    if wanted == "auto":
        matched = [name for name in layers if _block_path(name)]
    elif wanted == "all-linear":
        output = model.get_output_embeddings()
        head = tuple(head_names(model)) if output is None else ()  # trained whole, if it is one
        matched = [
            name
            for name, layer in layers.items()
            if layer is not output and not name.startswith(head)
        ]
    elif isinstance(wanted, str):
        pattern = _regular_expression(wanted)
        matched = [name for name in layers if pattern.fullmatch(name)]
    else:
        for target in wanted:
            if not any(ends_with(name, target) for name in layers):
                raise _no_such_module(model, target, layers)
        matched = [name for name in layers if any(ends_with(name, end) for end in wanted)]
    if not matched:
        raise _no_such_module(model, str(wanted), layers)
    return matched


def linear_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Every layer that LoRA can attach to, by name: Linear, Conv1D and their 4- and 8-bit kin."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D)
    }


def layer_features(layer: Any) -> tuple[int, int]:
    """Numbers of inputs and outputs; a quantized weight's own shape does not tell them."""
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    rows, columns = layer.weight.shape
    return int(rows), int(columns)


def _block_path(name: str) -> bool:
    # Blocks live in a ModuleList, so that their names hold a number.
    return any(part.isdigit() for part in name.split("."))


def _shortest(matched: list[str], every: list[str]) -> list[str]:
    ends = sorted({name.rsplit(".", 1)[-1] for name in matched})
    also = [name for name in every if any(ends_with(name, end) for end in ends)]
    return ends if len(also) == len(matched) else matched


def ends_with(name: str, end: str) -> bool:
    """Whether a module's dotted name is ``end``, or ends with it."""
    return name == end or name.endswith(f".{end}")


def _regular_expression(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as cause:
        raise ModelError(
            f"`adapter.target_modules` is not a regular expression: {cause}",
            where="`adapter.target_modules`",
            expected="`auto`, `all-linear`, a list of module names, or a regular expression",
        ) from cause


_SAME_PART = (
    {"q_proj", "query"},
    {"k_proj", "key"},
    {"v_proj", "value"},
    {"q_proj", "k_proj", "v_proj", "qkv_proj", "query", "key", "value"}
    | {"query_key_value", "c_attn", "in_proj", "Wqkv"},
    {"gate_proj", "up_proj", "gate_up_proj", "c_fc", "fc1", "fc_in", "dense_h_to_4h"},
    {"down_proj", "fc2", "fc_out", "dense_4h_to_h"},
)
"""Names that families give to one part, the closest first: attention's inputs, the FFNN's way out,
and back."""


def _no_such_module(model: Any, target: str, layers: dict[str, nn.Module]) -> ModelError:
    ends = sorted({name.rsplit(".", 1)[-1] for name in layers})
    same = (end for part in _SAME_PART if target in part for end in ends if end in part)
    nearest = next(same, None) or nearest_name(target, ends)
    return ModelError(
        f"No layer of `{model.config.model_type}` matches `{target}`",
        where="`adapter.target_modules`",
        expected=f"names among {name_list(ends, 12)}",
        hint=f"Did you mean `{nearest}`?"
        if nearest
        else "Leave `adapter.target_modules` out to train every linear layer of the blocks.",
    )


def _check_modules_to_save(model: Any, section: AdapterSection) -> None:
    names = [name for name, _ in model.named_modules() if name]
    for wanted in section.modules_to_save:
        if not any(ends_with(name, wanted) for name in names):
            nearest = nearest_name(wanted, {name.rsplit(".", 1)[-1] for name in names})
            raise ModelError(
                f"No module of `{model.config.model_type}` matches `{wanted}`",
                where="`adapter.modules_to_save`",
                expected="the end of a module's name",
                hint=f"Did you mean `{nearest}`?" if nearest else None,
            )


def _check_layers(model: Any, section: AdapterSection, targets: str | list[str]) -> None:
    if section.layers_to_transform is None:
        return
    if isinstance(targets, str):
        raise ModelError(
            f"`adapter.layers_to_transform` does not go with `target_modules: {targets}`",
            where="`adapter.layers_to_transform`",
            expected="`adapter.target_modules: auto`, or a list of module names",
        )
    blocks = model.config.get_text_config().num_hidden_layers
    for number in section.layers_to_transform:
        if number >= blocks:
            raise ModelError(
                f"`{model.config.model_type}` has no block {number}",
                where="`adapter.layers_to_transform`",
                expected=f"numbers from 0 to {blocks - 1}",
            )
