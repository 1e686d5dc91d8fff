"""DeepSpeed's ZeRO, as ``accelerate launch --use_deepspeed`` asks for it: what kft takes of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DeepSpeedPlugin, is_deepspeed_available, patch_environment
from accelerate.utils.deepspeed import HfDeepSpeedConfig

from kft.api.launched import num_joined, zero_asked
from kft.api.sharding import refused_keys
from kft.errors import UsageError
from kft.models.blocks import blocks
from kft.models.quiet import silence_zero
from kft.recipe.schema import Recipe
from kft.train.sharing import ZERO_BUCKET

_LAUNCH = "`accelerate launch --use_deepspeed`"
_OWN = {
    "train_batch_size": "train.per_device_train_batch_size",
    "train_micro_batch_size_per_gpu": "train.per_device_train_batch_size",
    "gradient_accumulation_steps": "train.gradient_accumulation_steps",
    "gradient_clipping": "train.max_grad_norm",
    "optimizer": "train.optim",
    "scheduler": "train.lr_scheduler_type",
    "fp16": "train.precision",
    "bf16": "train.precision",
}
"""Keys of DeepSpeed's configuration that the recipe's keys stand for."""
_QUIET = {"steps_per_print", "zero_allow_untested_optimizer", "wall_clock_breakdown"}
_ELSEWHERE = ("offload_optimizer", "offload_param")
_SMALL = {
    "reduce_bucket_size": ZERO_BUCKET,
    "allgather_bucket_size": ZERO_BUCKET,
    "stage3_prefetch_bucket_size": ZERO_BUCKET,
    "stage3_max_reuse_distance": 0,
    "memory_efficient_linear": False,
}
"""What DeepSpeed would else do: hold gigabytes of buffers, and a billion weights gathered for their
next use; and put a `torch.nn.functional.linear` of its own into the process, which rounds twice."""
_KEYS = {
    "stage",
    "allgather_bucket_size",
    "allgather_partitions",
    "contiguous_gradients",
    "overlap_comm",
    "reduce_bucket_size",
    "reduce_scatter",
    "stage3_max_live_parameters",
    "stage3_max_reuse_distance",
    "stage3_model_persistence_threshold",
    "stage3_param_persistence_threshold",
    "stage3_prefetch_bucket_size",
    "sub_group_size",
}
"""Keys of `zero_optimization` that change how fast it is and what it holds, and no number."""
_FOR_SAVING = "stage3_gather_16bit_weights_on_model_save"


def zero_plugin(recipe: Recipe, dtype: torch.dtype) -> DeepSpeedPlugin | None:
    """How accelerate has DeepSpeed share the run's state; ``None`` where nobody asked.

    The user's configuration may say what ``zero_optimization`` does; batches, clipping, optimizer
    and precision are the recipe's. DeepSpeed is told of no half precision: weights stay as they are
    kept and are computed with under autocast, so a run takes the steps that it takes elsewhere.

    Args:
        recipe: The recipe.
        dtype: Precision of computation.

    Raises:
        UsageError: If DeepSpeed isn't installed, or the launcher, its configuration or the recipe
            asks for what kft doesn't do with it.
    """
    if not zero_asked():
        return None
    if not is_deepspeed_available():
        raise UsageError(
            "DeepSpeed was asked for and isn't installed",
            where=_LAUNCH,
            expected="the package `deepspeed`",
            hint="`pip install deepspeed`",
        )
    silence_zero()
    asked = _configuration()
    zero = {key: value for key, value in asked["zero_optimization"].items() if value != "auto"}
    for what, expected, hint in _refused(recipe, dtype, asked, zero):
        raise UsageError(what, where=_LAUNCH, expected=expected, hint=hint)
    config = {
        "zero_optimization": {**_SMALL, **{key: zero[key] for key in zero if key in _KEYS}},
        "train_micro_batch_size_per_gpu": 1,  # it counts what kft counts itself
        "gradient_accumulation_steps": 1,  # else it would divide the loss once more
        "gradient_clipping": recipe.train.max_grad_norm,
        "timers": {"throughput": {"enabled": False}},  # it waits for the device at each pass
    }
    with patch_environment(ACCELERATE_CONFIG_DS_FIELDS=""):  # what `accelerate config` left there
        return DeepSpeedPlugin(hf_ds_config=config, zero3_init_flag=False)


def prepare_zero(
    accelerator: Accelerator, module: Any, optimizer: Any, dtype: torch.dtype
) -> tuple[Any, Any]:
    """What ``accelerator.prepare`` gives: the engine around ``module``, and its optimizer."""
    from kft.train.zero import Passes, Zero, attach, keep_blocks_whole  # seconds, elsewhere unused

    plugin = accelerator.state.deepspeed_plugin
    zero = Zero.before(module, optimizer)
    passes = Passes(module, accelerator.device.type, dtype)
    if plugin.zero_stage == 3:
        # DeepSpeed takes a block's gradients when that of its input is there. Above frozen
        # embeddings there is none, and the first block's would be taken before they are computed.
        module.model.enable_input_require_grads()
        kinds = sorted({type(block) for _, block in blocks(module)}, key=lambda kind: kind.__name__)
        keep_blocks_whole(passes, kinds, accelerator.device, plugin.deepspeed_config)
    engine, optimizer = accelerator.prepare(passes, optimizer)
    attach(zero, engine, module)
    return engine, optimizer


def _configuration() -> dict[str, Any]:
    """What the launcher's words, or the file that it names, say to DeepSpeed."""
    place = os.environ.get("ACCELERATE_DEEPSPEED_CONFIG_FILE", "none")
    if place == "none":
        return dict(DeepSpeedPlugin().deepspeed_config)
    try:
        found = dict(HfDeepSpeedConfig(place).config)
    except (OSError, ValueError) as cause:
        raise UsageError(
            f"DeepSpeed's configuration can't be read: {cause}",
            where=place[:200],
            expected="a JSON file",
        ) from cause
    if not isinstance(found.get("zero_optimization"), dict):
        raise UsageError(
            "DeepSpeed's configuration says nothing of ZeRO",
            where=place[:200],
            expected='`"zero_optimization": {"stage": 2}`',
        )
    return found


def _refused(
    recipe: Recipe, dtype: torch.dtype, asked: dict[str, Any], zero: dict[str, Any]
) -> Iterator[tuple[str, str, str | None]]:
    """What was asked for that isn't done: what, what is expected, a hint."""
    if num_joined() == 1 or "LOCAL_RANK" not in os.environ:
        yield (
            "DeepSpeed was asked for and isn't in force: this process shares with no other",
            "two processes at least, started by `accelerate launch` or `torchrun`",
            "`accelerate launch --use_deepspeed --num_processes 2 -m kft finetune ...`",
        )
    stage = zero.get("stage", 0)
    if stage not in {1, 2, 3}:
        yield f"ZeRO's stage {stage} was asked for", "stage 1, 2 or 3", "`--zero_stage 2`"
    for key, value in asked.items():
        yield from _refused_key(key, value, recipe)
    for key, value in zero.items():
        is_off = value in (False, None) or (key in _ELSEWHERE and _is_here(value))
        if key in _ELSEWHERE and not is_off:
            yield (
                f"DeepSpeed was asked for `{key}`",
                "the run's state on the devices",
                f"`--{key}_device none`",
            )
        elif key not in _KEYS and key != _FOR_SAVING and not is_off:
            yield (
                f"DeepSpeed's `zero_optimization` says `{key}: {value}`",
                f"one of {', '.join(sorted(_KEYS))}",
                f"Take `{key}` out of it.",
            )
    if dtype == torch.float16:
        yield (
            "DeepSpeed with float16 was asked for",
            "bfloat16 or float32",
            "`train.precision=float32`",
        )
    quantization = recipe.model.quantization
    if quantization == "int8" or (quantization != "none" and stage == 3):
        yield (
            f"`model.quantization: {quantization}` isn't done with ZeRO's stage {stage}",
            "4-bit weights with stage 1 or 2, or with FSDP2; or whole ones",
            "`accelerate launch --use_fsdp --fsdp_version 2 ...`",
        )
    yield from refused_keys(recipe, "DeepSpeed")


def _is_here(value: Any) -> bool:
    """Whether what an `offload_` key says leaves the state on the devices."""
    return isinstance(value, dict) and value.get("device", "none") == "none"


def _refused_key(key: str, value: Any, recipe: Recipe) -> Iterator[tuple[str, str, str | None]]:
    """A key of DeepSpeed's configuration that says what the recipe says, or what kft doesn't do."""
    is_off = isinstance(value, dict) and value.get("enabled") in {False, "auto"}
    clips = key == "gradient_clipping" and value == recipe.train.max_grad_norm
    is_one = key == "gradient_accumulation_steps" and value == 1
    known = key == "zero_optimization" or key in _QUIET
    if known or value == "auto" or value is None or is_off or clips or is_one:
        return
    if key in _OWN:
        yield (
            f"DeepSpeed's configuration says `{key}: {value}`",
            f"`auto`, or nothing: the recipe's `{_OWN[key]}` says it",
            f"`{_OWN[key]}=...`",
        )
    else:
        yield (
            f"DeepSpeed's configuration asks for `{key}`",
            "`zero_optimization`, and `auto` for what the recipe says",
            f"Take `{key}` out of it.",
        )
