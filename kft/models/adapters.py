"""LoRA on a model: which modules it attaches to, and the checks before peft does it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from safetensors import SafetensorError
from torch import nn
from transformers.pytorch_utils import Conv1D

from kft.errors import ModelError, name_list, nearest_name
from kft.models.checkpoint_files import refused_pickle
from kft.models.loader import first_line
from kft.models.quiet import without_deprecations
from kft.recipe.schema import AdapterSection

_TASK_TYPES = {"causal_lm": TaskType.CAUSAL_LM}
_MISSING = "Found missing adapter keys"  # how peft's warning begins


def add_adapter(
    model: Any, section: AdapterSection, task: str, new_token_ids: Sequence[int] = ()
) -> Any:
    """The model as it will be trained: with LoRA, or with every weight in float32.

    Args:
        model: A transformers model whose weights are loaded.
        section: What to add; ``method: full`` adds nothing.
        task: The recipe's task, for peft's ``task_type``.
        new_token_ids: Tokens without a pretrained embedding; only their rows are trained.

    Returns:
        A ``PeftModel``, or for ``full`` the model itself with float32 weights.

    Raises:
        ModelError: If a named module does not exist, ``r`` is larger than a layer, or the
            adapter of ``start_from`` does not fit.
    """
    if section.method == "full":
        return model.float().requires_grad_(True)
    model.requires_grad_(False)
    if section.start_from is not None:
        return attach_adapter(model, section.start_from, is_trainable=True)
    targets = check_adapter(model, section)
    try:
        config = LoraConfig(
            task_type=_TASK_TYPES[task],
            r=section.r,
            lora_alpha=section.lora_alpha,
            lora_dropout=section.lora_dropout,
            target_modules=targets,
            modules_to_save=list(section.modules_to_save) or None,
            use_rslora=section.use_rslora,
            use_dora=section.use_dora,
            init_lora_weights=section.init_lora_weights,
            bias=section.bias,
            layers_to_transform=section.layers_to_transform,
            fan_in_fan_out=_is_fan_in_fan_out(model),
            trainable_token_indices=_new_rows(model, new_token_ids),
            ensure_weight_tying=_saves_tied_weight(model, section),
        )
        with without_deprecations():
            return get_peft_model(model, config)
    except (ValueError, TypeError, NotImplementedError) as cause:
        raise ModelError(
            f"peft can't add this adapter: {first_line(cause)}", where="`adapter`"
        ) from cause


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
    wanted = section.target_modules
    if wanted == "auto":
        matched = [name for name in layers if _block_path(name)]
        wanted = _shortest(matched, list(layers))
    elif wanted == "all-linear":
        head = model.get_output_embeddings()
        matched = [name for name, layer in layers.items() if layer is not head]
    elif isinstance(wanted, str):
        pattern = _regular_expression(wanted)
        matched = [name for name in layers if pattern.fullmatch(name)]
    else:
        for target in wanted:
            if not any(_ends_with(name, target) for name in layers):
                raise _no_such_module(model, target, layers)
        matched = [name for name in layers if any(_ends_with(name, end) for end in wanted)]
    if not matched:
        raise _no_such_module(model, str(wanted), layers)
    for name in matched:
        limit = min(_features(layers[name]))
        if section.r > limit:
            raise ModelError(
                f"`adapter.r` is {section.r}, larger than the layer it is to approximate",
                where=f"layer `{name}`",
                expected=f"at most {limit}, the layer's smaller side",
                hint=f"`adapter.r={min(8, limit)}`",
            )
    return wanted


def linear_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Every layer that LoRA can attach to, by name: Linear, Conv1D and their 4- and 8-bit kin."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D)
    }


def _features(layer: Any) -> tuple[int, int]:
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
    also = [name for name in every if any(_ends_with(name, end) for end in ends)]
    return ends if len(also) == len(matched) else matched


def _ends_with(name: str, end: str) -> bool:
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


def _no_such_module(model: Any, target: str, layers: dict[str, nn.Module]) -> ModelError:
    ends = sorted({name.rsplit(".", 1)[-1] for name in layers})
    nearest = nearest_name(target, ends)
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
        if not any(_ends_with(name, wanted) for name in names):
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


def _saves_tied_weight(model: Any, section: AdapterSection) -> bool:
    """Whether a module to save holds the weight that embedding and head share."""
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    shared = [name for name, module in model.named_modules() if module in ends]
    return _is_tied(model) and any(
        _ends_with(name, wanted) for name in shared for wanted in section.modules_to_save
    )


def _is_fan_in_fan_out(model: nn.Module) -> bool:
    # A quantized Conv1D is a Linear4bit, already transposed.
    return any(isinstance(module, Conv1D) for module in model.modules())


def _is_tied(model: Any) -> bool:
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    return head is not None and head.weight is embedding.weight


def _new_rows(model: Any, token_ids: Sequence[int]) -> dict[str, list[int]] | None:
    if not token_ids:
        return None
    names = {id(module): name for name, module in model.named_modules()}
    embedding = names[id(model.get_input_embeddings())].rsplit(".", 1)[-1]
    rows = {embedding: list(token_ids)}
    if not _is_tied(model):
        rows[names[id(model.get_output_embeddings())].rsplit(".", 1)[-1]] = list(token_ids)
    return rows


def attach_adapter(model: Any, folder: str | Path, *, is_trainable: bool = False) -> Any:
    """A ``PeftModel`` of ``model`` with the saved adapter of ``folder``.

    Raises:
        ModelError: If the adapter can't be read or does not fit the model.
    """
    try:
        with without_deprecations(), warnings.catch_warnings():
            # Otherwise the missing ones would be drawn at random.
            warnings.filterwarnings("error", message=_MISSING, category=UserWarning)
            return PeftModel.from_pretrained(model, str(folder), is_trainable=is_trainable)
    except UnpicklingError as cause:
        raise refused_pickle(str(folder), cause) from cause
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError, UserWarning) as cause:
        reason = _MISSING if str(cause).startswith(_MISSING) else first_line(cause)
        raise ModelError(
            f"The adapter in `{folder}` doesn't load onto the base: {reason}",
            where=str(folder),
            expected="an adapter that was trained on this base",
        ) from cause


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Numbers of trainable and of all parameters; a 4-bit weight counts as its elements."""
    trainable = total = 0
    for parameter in model.parameters():
        elements = _num_elements(parameter)
        total += elements
        if parameter.requires_grad:
            trainable += elements
    return trainable, total


def _num_elements(parameter: torch.Tensor) -> int:
    state = getattr(parameter, "quant_state", None)
    shape = getattr(state, "shape", None)
    return int(torch.Size(shape).numel()) if shape is not None else parameter.numel()
