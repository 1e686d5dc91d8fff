"""The run's one Accelerator, connected to those of the other processes, or the reason why not."""

from __future__ import annotations

import contextlib
import sys
from datetime import timedelta

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import (
    AutocastKwargs,
    DistributedDataParallelKwargs,
    DistributedType,
    GradientAccumulationPlugin,
    InitProcessGroupKwargs,
    KwargsHandler,
)
from transformers.integrations import unset_hf_deepspeed_config

from kft.api.launched import (
    lacks_address,
    launched_rank,
    launcher_gave_up,
    num_joined,
    num_launched,
    num_local,
    refused_strategy,
)
from kft.api.ranks import Ranks
from kft.api.sharding import fsdp_plugin, require_in_force
from kft.api.zero import zero_plugin
from kft.errors import UsageError
from kft.models.precision import compute_dtype
from kft.recipe.schema import Recipe
from kft.train.sharing import UNSHARED, Sharing

LONGEST_WAIT = timedelta(hours=24)
"""Others wait while the main rank evaluates; a process that died is noticed at once anyway."""

_CONNECTED = {
    DistributedType[name] for name in ("NO", "MULTI_CPU", "MULTI_GPU", "FSDP", "DEEPSPEED")
}


def connect(recipe: Recipe) -> Ranks:
    """The run's one Accelerator, connected to those of the other processes.

    Raises:
        UsageError: If processes were launched that are not connected, or if a strategy was asked
            for that kft does not run.
    """
    asked = refused_strategy()
    if asked is not None:
        raise UsageError(
            f"{asked[0]} was asked for, and kft trains with DDP, FSDP2 or ZeRO: {asked[1]}",
            where="`accelerate launch`",
            expected="DDP where the model fits on each device, else `--use_fsdp --fsdp_version 2`",
            hint="`torchrun --nproc-per-node 2 -m kft finetune ...` starts 2 processes with DDP.",
        )
    if lacks_address():
        raise _unconnected(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cuda":
        _require_devices()
    dtype = compute_dtype(recipe.train.precision, device)
    mixed = {torch.float32: "no", torch.bfloat16: "bf16", torch.float16: "fp16"}[dtype]
    plugin, zero = fsdp_plugin(recipe, dtype), zero_plugin(recipe, dtype)
    # accelerate keeps the first precision of a process; a notebook may run with another next.
    AcceleratorState._reset_state()
    # On CPUs DeepSpeed prints that it has built something; stdout is for what a run gives.
    quiet = contextlib.nullcontext() if zero is None else contextlib.redirect_stdout(sys.stderr)
    with quiet:
        accelerator = Accelerator(
            mixed_precision=mixed if zero is None else "no",
            # accelerate has no DeepSpeed where it is told of a CPU, though DeepSpeed runs there.
            cpu=device.type == "cpu" and zero is None,
            fsdp_plugin=plugin,
            deepspeed_plugin=zero,
            # Not from the environment: it would divide the loss once more.
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
            kwargs_handlers=_handlers(
                backend="gloo" if zero is not None and device.type == "cpu" else None,
                keeps_casts=plugin is None,
            ),
        )
    _require_connected(accelerator)
    if plugin is not None:
        require_in_force(accelerator)
    if zero is not None:
        unset_hf_deepspeed_config()  # transformers would load no whole weights, which kft compares
    return Ranks(accelerator, _sharing(accelerator))


def alone(recipe: Recipe) -> Ranks:
    """The same for what one process does.

    Raises:
        UsageError: If several were launched.
    """
    ranks = connect(recipe)
    if ranks.number > 1:
        raise UsageError(
            f"kft was launched as {ranks.number} processes",
            expected="one process",
            hint="Only `kft finetune` runs in several.",
        )
    return ranks


def _handlers(*, backend: str | None, keeps_casts: bool) -> list[KwargsHandler]:
    """How processes meet, cast and sum; no `backend` is the device's."""
    return [
        InitProcessGroupKwargs(backend=backend, timeout=LONGEST_WAIT),
        # Casts of shared weights that are kept would be all of them, on every rank.
        AutocastKwargs(cache_enabled=keeps_casts),
        # Buffers are constants, and a rank that failed in a forward pass would owe the others
        # theirs.
        DistributedDataParallelKwargs(gradient_as_bucket_view=True, broadcast_buffers=False),
    ]


def _sharing(accelerator: Accelerator) -> Sharing:
    if accelerator.distributed_type == DistributedType.FSDP:
        return Sharing("FSDP2", weights=True, gradients=True, optimizer=True)
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        plugin = accelerator.state.deepspeed_plugin
        stage, zero = plugin.zero_stage, plugin.deepspeed_config["zero_optimization"]
        return Sharing(
            f"ZeRO, stage {stage}",
            weights=stage == 3,
            gradients=stage >= 2,
            optimizer=True,
            is_zero=True,
            bucket=zero["reduce_bucket_size"],
        )
    return UNSHARED


def _require_connected(accelerator: Accelerator) -> None:
    if num_launched() > accelerator.num_processes or launcher_gave_up():
        raise _unconnected(accelerator.num_processes - 1)
    if accelerator.distributed_type not in _CONNECTED:
        raise UsageError(
            f"accelerate chose `{accelerator.distributed_type}`, which kft doesn't run",
            expected="DDP or ZeRO on CPUs or on CUDA devices, or FSDP2 on these",
        )


def _unconnected(others: int) -> UsageError:
    """The refusal of processes that would each take the whole run, and write the same folder."""
    launched = num_launched()
    several = f"{launched} processes" if launched > 1 else "Several processes"
    hint = "`torchrun --nproc-per-node 2 -m kft finetune ...` connects 2 processes."
    if launched > num_joined():
        hint = (
            "`srun --ntasks-per-node 1 torchrun ...`, one task a machine; runs that have nothing "
            "to do with each other start with `env -u SLURM_STEP_NUM_TASKS kft finetune ...`."
        )
    return UsageError(
        f"{several} were asked for, and this one is connected to {others} others",
        where=f"rank {launched_rank()}",
        expected="processes that take one run's steps together, not one run each",
        hint=hint,
    )


def _require_devices() -> None:
    """See that each process of this machine has a device of its own."""
    devices, processes = torch.cuda.device_count(), num_local()
    if processes > devices:
        raise UsageError(
            f"{processes} processes were started on this machine, which has {devices} CUDA devices",
            expected="at most one process for each device",
            hint=f"`torchrun --nproc-per-node {devices} -m kft finetune ...`",
        )
