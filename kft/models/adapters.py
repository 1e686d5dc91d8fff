"""LoRA on a model: which modules it attaches to, and the checks before peft does it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from peft import (
    LoraConfig,
    PeftConfig,
    PeftModel,
    TaskType,
    get_peft_model,
    load_peft_weights,
    set_peft_model_state_dict,
)
from peft.utils import ModulesToSaveWrapper
from safetensors import SafetensorError
from torch import nn
from transformers.pytorch_utils import Conv1D

from kft.errors import ModelError, counted
from kft.models.checkpoint_files import refused_pickle
from kft.models.loader import first_line
from kft.models.lora_layers import register_fast_layers
from kft.models.quiet import without_deprecations
from kft.models.target_modules import check_adapter, ends_with
from kft.recipe.schema import AdapterSection

_TASK_TYPES: dict[str, TaskType | None] = {
    "causal_lm": TaskType.CAUSAL_LM,
    "sequence_classification": TaskType.SEQ_CLS,
    "sequence_regression": TaskType.SEQ_CLS,
    "token_classification": TaskType.TOKEN_CLS,
    "masked_lm": None,  # peft has no name for it
}
_MISSING = "Found missing adapter keys"  # how peft's warning begins


def add_adapter(
    model: Any,
    section: AdapterSection,
    task: str,
    new_token_ids: Sequence[int] = (),
    head: Sequence[str] = (),
    fast: bool = True,
) -> Any:
    """The model as it will be trained: with LoRA, or with every weight in float32.

    Args:
        model: A transformers model whose weights are loaded.
        section: What to add; ``method: full`` adds nothing.
        task: The recipe's task, for peft's ``task_type``.
        new_token_ids: Tokens without a pretrained embedding; only their rows are trained.
        head: Modules of the task's head, which are trained whole and saved with the adapter.
        fast: LoRA layers that add their update inside the matrix product.

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
        return attach_adapter(model, section.start_from, is_trainable=True, fast=fast)
    targets = check_adapter(model, section)
    try:
        config = LoraConfig(
            task_type=_TASK_TYPES[task],
            r=section.r,
            lora_alpha=section.lora_alpha,
            lora_dropout=section.lora_dropout,
            target_modules=targets,
            modules_to_save=[*section.modules_to_save, *head] or None,
            exclude_modules=_inside(head),
            use_rslora=section.use_rslora,
            use_dora=section.use_dora,
            init_lora_weights=section.init_lora_weights,
            bias=section.bias,
            layers_to_transform=section.layers_to_transform,
            fan_in_fan_out=_is_fan_in_fan_out(model),
            trainable_token_indices=_new_rows(model, new_token_ids),
            ensure_weight_tying=_saves_tied_weight(model, section),
        )
        if fast:
            register_fast_layers(config, model)
        with without_deprecations():
            adapted = get_peft_model(model, config)
    except (ValueError, TypeError, NotImplementedError) as cause:
        raise ModelError(
            f"peft can't add this adapter: {first_line(cause)}", where="`adapter`"
        ) from cause
    for parameter in adapted.parameters():
        if parameter.requires_grad:  # peft leaves a saved module in the base's precision
            parameter.data = parameter.data.float()
    return adapted


def _inside(head: Sequence[str]) -> str | None:
    """A regular expression for modules inside the head: peft attaches nothing to them."""
    names = "|".join(re.escape(name) for name in head)
    return rf"(.*\.)?({names})(\..*)?" if head else None


def _saves_tied_weight(model: Any, section: AdapterSection) -> bool:
    """Whether a module to save holds the weight that embedding and head share."""
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    shared = [name for name, module in model.named_modules() if module in ends]
    return _is_tied(model) and any(
        ends_with(name, wanted) for name in shared for wanted in section.modules_to_save
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
    output = model.get_output_embeddings()
    if output is not None and _is_tied(model) and getattr(output, "bias", None) is not None:
        raise ModelError(
            f"An adapter can't train {counted(len(token_ids), 'row')} of new tokens of "
            f"`{model.config.model_type}`: its head shares them and has a bias, which peft drops",
            where="`adapter.method`",
            expected="`full`, or a tokenizer whose tokens all have a pretrained embedding",
        )
    names = {id(module): name for name, module in model.named_modules()}
    embedding = names[id(model.get_input_embeddings())].rsplit(".", 1)[-1]
    rows = {embedding: list(token_ids)}
    if output is not None and not _is_tied(model):
        rows[names[id(model.get_output_embeddings())].rsplit(".", 1)[-1]] = list(token_ids)
    return rows


def attach_adapter(
    model: Any,
    folder: str | Path,
    *,
    is_trainable: bool = False,
    exact: bool = False,
    fast: bool = False,
) -> Any:
    """A ``PeftModel`` of ``model`` with the saved adapter of ``folder``.

    Args:
        model: The base, without an adapter.
        folder: What ``PeftModel.from_pretrained`` loads.
        is_trainable: To go on training it.
        exact: Modules that were saved whole keep float32 where peft would round them to the
            base's precision; such a model is compared or trained, not used as it is.
        fast: As for :func:`add_adapter`.

    Raises:
        ModelError: If the adapter can't be read or does not fit the model.
    """
    try:
        with without_deprecations(), warnings.catch_warnings():
            # Otherwise the missing ones would be drawn at random.
            warnings.filterwarnings("error", message=_MISSING, category=UserWarning)
            config = PeftConfig.from_pretrained(str(folder))
            config.inference_mode = not is_trainable
            if fast and isinstance(config, LoraConfig):
                register_fast_layers(config, model)
            adapted = PeftModel.from_pretrained(
                model, str(folder), is_trainable=is_trainable, config=config
            )
            if exact or is_trainable:
                _widen_saved_modules(adapted, folder)
            return adapted
    except UnpicklingError as cause:
        raise refused_pickle(str(folder), cause) from cause
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError, UserWarning) as cause:
        reason = _MISSING if str(cause).startswith(_MISSING) else first_line(cause)
        raise ModelError(
            f"The adapter in `{folder}` doesn't load onto the base: {reason}",
            where=str(folder),
            expected="an adapter that was trained on this base",
        ) from cause


def _widen_saved_modules(adapted: Any, folder: str | Path) -> None:
    wrappers = [m for m in adapted.modules() if isinstance(m, ModulesToSaveWrapper)]
    saved = [parameter for one in wrappers for parameter in one.modules_to_save.parameters()]
    if all(parameter.dtype == torch.float32 for parameter in saved):
        return
    for parameter in saved:
        parameter.data = parameter.data.float()
    set_peft_model_state_dict(adapted, load_peft_weights(str(folder), device="cpu"))


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Numbers of trainable and of all parameters; a 4-bit weight counts as its elements."""
    sizes: dict[nn.Parameter, int] = {}  # a tied one once
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            # A layer keeps the shape of its 4-bit weight where ranks share it.
            state = getattr(module, "quant_state", None) if name == "weight" else None
            # ZeRO leaves a parameter nothing but its shape.
            shape = getattr(state, "shape", getattr(parameter, "ds_shape", parameter.shape))
            sizes[parameter] = torch.Size(shape).numel()
    trained = sum(size for parameter, size in sizes.items() if parameter.requires_grad)
    return trained, sum(sizes.values())
