"""The model that learns: loaded, fitted to the tokenizer, with its adapter and its fast paths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from kft.api.observer import Observer
from kft.api.plan import wants_packing
from kft.api.ranks import Ranks
from kft.errors import Finding
from kft.models.activations import fuse_activations
from kft.models.adapters import add_adapter, count_parameters
from kft.models.attention import keeps_documents_apart, use_document_attention
from kft.models.compiled import compile_blocks
from kft.models.heads import HeadOptions, head_finding, new_modules, trained_in_full
from kft.models.loader import clean_generation_config, load_model_with_head
from kft.models.offloading import offload_activations
from kft.models.quiet import without_deprecations
from kft.models.vocabulary import fit_vocabulary
from kft.recipe.schema import Recipe
from kft.tasks.task import Task


@dataclass(frozen=True)
class Learner:
    """A model ready to be trained.

    Args:
        model: The transformers or PEFT model.
        unpadded: It attends document by document, so its batches need no padding.
        packed: Several examples share a row of ``data.max_length`` tokens.
        recomputes: Activations are computed again in the backward pass.
    """

    model: Any
    unpadded: bool
    packed: bool
    recomputes: bool


def load_learner(
    recipe: Recipe,
    task: Task,
    tokenizer: Any,
    head: HeadOptions,
    weights: torch.dtype,
    ranks: Ranks,
    observer: Observer,
) -> Learner:
    """Load the checkpoint's weights and add what is trained.

    Args:
        recipe: The resolved recipe.
        task: Its task.
        tokenizer: The model's.
        head: What the last layer is to say.
        weights: Precision in which the weights are held.
        ranks: Whose device they go to; where ranks share them, from the CPU's memory, a block at
            a time, as they are prepared.
        observer: Told of a new head, of weights without a place, and of rows that can't be packed.

    Raises:
        ModelError: As :func:`kft.models.loader.load_model_with_head` and
            :func:`kft.models.adapters.add_adapter`.
    """
    if recipe.model.trust_remote_code:
        observer.finding(
            Finding(
                "warning",
                f"Python code of `{recipe.model.name_or_path}` is run, at revision "
                f"`{recipe.model.revision}`",
                where="`model.trust_remote_code`",
            )
        )
    device = ranks.accelerator.device
    model, new, left = load_model_with_head(
        recipe.model,
        auto_class=task.auto_class,
        dtype=weights,
        device=torch.device("cpu") if ranks.sharing.weights else device,
        head=head,
        shared=ranks.sharing.weights,
    )
    told = head_finding(model, new, head)
    for finding in [*left, *([told] if told else [])]:
        observer.finding(finding)
    whole = trained_in_full(model, head, new_modules(model, new))
    new_token_ids = fit_vocabulary(model, tokenizer)
    clean_generation_config(model, tokenizer)
    fast = recipe.train.fast_paths
    unpadded = fast and use_document_attention(model)
    packed = _can_pack(recipe, task, model, observer)
    if fast:
        fuse_activations(model)
    model = add_adapter(model, recipe.adapter, recipe.task, new_token_ids, whole, fast=fast)
    recomputes = _wants_checkpointing(recipe, model, device)
    if recomputes:
        with without_deprecations():
            model.gradient_checkpointing_enable({"use_reentrant": False})
    if recipe.train.torch_compile:
        compile_blocks(model)
    if recipe.train.activation_offloading:
        _offload(model, device, observer)
    return Learner(model, unpadded, packed, recomputes)


def _can_pack(recipe: Recipe, task: Task, model: Any, observer: Observer) -> bool:
    """Whether examples will share rows: when asked for, and the model keeps them apart."""
    if not wants_packing(recipe, task):
        return False
    if keeps_documents_apart(model):
        return True
    observer.finding(
        Finding(
            "note",
            f"`{model.config.model_type}` doesn't keep packed rows apart: they are padded, and "
            "`train.per_device_train_batch_size` counts single rows",
            where="`data.packing`",
        )
    )
    return False


def _offload(model: Any, device: torch.device, observer: Observer) -> None:
    if device.type == "cuda":
        offload_activations(model)
        return
    observer.finding(
        Finding(
            "note",
            "Activations are in the CPU's memory as it is: nothing is moved",
            where="`train.activation_offloading`",
        )
    )


def _wants_checkpointing(recipe: Recipe, model: torch.nn.Module, device: torch.device) -> bool:
    if recipe.train.gradient_checkpointing == "auto":
        return device.type == "cuda" and count_parameters(model)[1] > 1_000_000_000
    return recipe.train.gradient_checkpointing
