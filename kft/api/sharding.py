"""FSDP2, as ``accelerate launch --use_fsdp`` asks for it: what kft takes of it, and what not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import FullyShardedDataParallelPlugin

from kft.api.launched import fsdp_asked, says_yes
from kft.errors import UsageError
from kft.models.blocks import blocks
from kft.models.quantization import move_constants
from kft.recipe.schema import Recipe

_LAUNCH = "`accelerate launch --use_fsdp`"


def fsdp_plugin(recipe: Recipe, dtype: torch.dtype) -> FullyShardedDataParallelPlugin | None:
    """How accelerate shares the weights among the processes; ``None`` where nobody asked.

    Weights travel in the precision in which they are kept, and are computed with under autocast:
    a run takes the steps that it takes on one device. ``FSDP_RESHARD_AFTER_FORWARD`` is the
    user's; what is split is the model's blocks, whatever policy was named.

    Args:
        recipe: The recipe.
        dtype: Precision of computation.

    Raises:
        UsageError: If the launcher or the recipe asks for what kft doesn't do with it.
    """
    if not fsdp_asked():
        return None
    for what, expected, hint in _refused(recipe, dtype):
        raise UsageError(what, where=_LAUNCH, expected=expected, hint=hint)
    from torch.distributed.fsdp import MixedPrecisionPolicy  # a second, where nobody shards

    return FullyShardedDataParallelPlugin(
        fsdp_version=2,
        auto_wrap_policy="transformer_based_wrap",
        # accelerate's own would round the summed loss and each block's output to bfloat16.
        mixed_precision_policy=MixedPrecisionPolicy(),
        cpu_ram_efficient_loading=False,  # it unties heads from embeddings
    )


def require_in_force(accelerator: Accelerator) -> None:
    """See that the processes do share the weights: on CPUs, or alone, accelerate silently doesn't.

    Raises:
        UsageError: If they don't.
    """
    if accelerator.is_fsdp2:
        return
    number, device = accelerator.num_processes, accelerator.device.type
    raise UsageError(
        f"FSDP was asked for and isn't in force: {number} process{'es' * (number > 1)} on {device}",
        where=_LAUNCH,
        expected="two CUDA devices at least, one process each",
        hint="Without `--use_fsdp`, `torchrun --nproc-per-node 2 -m kft finetune ...` uses DDP.",
    )


def prepare_sharded(accelerator: Accelerator, module: Any, optimizer: Any) -> tuple[Any, Any]:
    """What ``accelerator.prepare`` gives, each of the model's blocks to be gathered alone."""
    from kft.train.sharded import allow_calls  # a second, where nobody shards

    move_constants(module, accelerator.device)
    names = sorted({type(block).__name__ for _, block in blocks(module)})
    accelerator.state.fsdp_plugin.transformer_cls_names_to_wrap = names
    module, optimizer = accelerator.prepare(module, optimizer)
    allow_calls(module)
    return module, optimizer


def byte_sums(model: Any) -> list[int]:
    """A sum over each weight's bytes, which other weights hardly have."""
    return [
        int(weight.detach().contiguous().view(torch.uint8).sum(dtype=torch.int64))
        for weight in model.parameters()
    ]


def _refused(recipe: Recipe, dtype: torch.dtype) -> Iterator[tuple[str, str, str | None]]:
    """What was asked for that isn't done: what, what is expected, a hint."""
    if os.environ.get("FSDP_VERSION", "1") != "2":
        yield (
            "FSDP in its first version was asked for",
            "FSDP2",
            "`accelerate launch --use_fsdp --fsdp_version 2 -m kft finetune ...`",
        )
    if says_yes("FSDP_OFFLOAD_PARAMS"):
        yield (
            "FSDP was asked to keep weights in the CPU's memory",
            "weights on the devices",
            "Leave `--fsdp_offload_params` away.",
        )
    if says_yes("FSDP_ACTIVATION_CHECKPOINTING"):
        yield (
            "FSDP was asked to compute activations again",
            "that in the recipe, so that the memory plan knows of it",
            "`train.gradient_checkpointing=true`",
        )
    if dtype == torch.float16:
        yield (
            "FSDP with float16 was asked for",
            "bfloat16 or float32",
            "`train.precision=float32`",
        )
    if recipe.model.quantization == "int8":
        yield (
            "`model.quantization: int8` isn't done with FSDP",
            "4-bit weights, or whole ones",
            "`model.quantization=nf4`",
        )
    yield from refused_keys(recipe, "FSDP")


def refused_keys(recipe: Recipe, strategy: str) -> Iterator[tuple[str, str, str | None]]:
    """Keys of a recipe that aren't done where ranks hold parts of the run's state."""
    for key, value, wanted in (
        ("train.optim", recipe.train.optim, "adamw"),
        ("train.torch_compile", recipe.train.torch_compile, False),
        ("train.activation_offloading", recipe.train.activation_offloading, False),
    ):
        if value != wanted:
            said, better = (str(one).lower() for one in (value, wanted))
            yield (
                f"`{key}: {said}` isn't done with {strategy}",
                f"`{key}: {better}`, or DDP",
                f"`{key}={better}`",
            )
