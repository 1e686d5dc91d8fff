"""What DeepSpeed does with a run whose ranks share its state (ZeRO): passes, steps, whole states.

Apart from the others because importing DeepSpeed takes seconds. Stage 1 and 2 leave all weights on
each rank; stage 3 leaves a part, and gathers a block's as it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from deepspeed import comm, zero
from deepspeed.utils import (
    safe_get_full_optimizer_state,
    safe_set_full_optimizer_state,
    safe_set_local_optimizer_state,
    set_z3_leaf_modules,
)
from torch import Tensor

from kft.tasks.task import Batch

_PER_WEIGHT = ("exp_avg", "exp_avg_sq")
"""AdamW's averages, one number for each weight; beside them it keeps its ``step``."""


class Passes(torch.nn.Module):
    """What DeepSpeed's engine runs: a loss as a tensor, or other work with the module.

    Its hooks find tensors alone, and it switches off any autocast from outside.

    Args:
        inner: The model with its loss inside.
        device: Where it computes, ``cpu`` or ``cuda``.
        dtype: Precision of computation.
    """

    def __init__(self, inner: Any, device: str, dtype: torch.dtype) -> None:
        super().__init__()
        self.inner = inner
        self._autocast = (device, dtype)

    def forward(self, work: Batch | Callable[[], None]) -> Tensor | None:
        """The loss of a batch in nats, a scalar; or the work done, and nothing."""
        device, dtype = self._autocast
        # Casts of shared weights that are kept would be all of them, on every rank.
        halved = dtype != torch.float32
        with torch.autocast(device, dtype, enabled=halved, cache_enabled=False):
            if not isinstance(work, Batch):
                return work()
            total: Tensor = self.inner.forward(work).total  # no hooks on what is no tensor
            return total


@dataclass
class Zero:
    """What of a run DeepSpeed takes over.

    Args:
        weights: The trained weights by name, in the optimizer's order.
        groups: How many of them each of its groups has.
        engine: DeepSpeed's.
    """

    weights: Mapping[str, torch.nn.Parameter]
    groups: Sequence[int]
    engine: Any = field(default=None, repr=False)

    @classmethod
    def before(cls, module: Any, optimizer: Any) -> Zero:
        """What is to be known of the optimizer before DeepSpeed puts its own weights into it."""
        names = {id(parameter): name for name, parameter in module.named_parameters()}
        groups = [group["params"] for group in optimizer.param_groups]
        weights = {names[id(one)]: one for group in groups for one in group}
        return cls(weights, [len(group) for group in groups])

    def total(self, batch: Batch) -> Tensor:
        """The summed loss of a batch, nats."""
        total: Tensor = self.engine(batch)
        return total

    def backward(self, loss: Tensor, *, is_last: bool) -> None:
        """Add a micro-batch's gradients; of the window's last one, those that are stepped with."""
        self.engine.set_gradient_accumulation_boundary(is_last)
        self.engine.backward(loss)

    def step(self) -> tuple[Tensor, bool]:
        """Clip and take the step; the norm before clipping, and whether it was taken.

        ZeRO takes none whose norm isn't finite.
        """
        self.engine.step()
        norm = torch.as_tensor(self.engine.get_global_grad_norm(), device=self.engine.device)
        return norm.detach().float(), bool(self.engine.was_step_applied())


def attach(zero_: Zero, engine: Any, module: Any) -> None:
    """Let a module, and the engine around it, be known as DeepSpeed's."""
    zero_.engine = engine
    for one in (engine, module):  # past `Module.__setattr__`: the engine is no part of its part
        one.__dict__["kft_zero"] = zero_


def keep_blocks_whole(
    passes: Passes, kinds: Sequence[type], device: torch.device, config: Mapping[str, Any]
) -> None:
    """Split each weight as it comes to the device, each block to be gathered as one (stage 3).

    The engine itself would first put the whole model on the device.
    """
    set_z3_leaf_modules(passes, list(kinds))
    zero.Init(module=passes, config_dict_or_path=dict(config), dtype=torch.float32)
    passes.to(device)  # the buffers


def shape_of(parameter: Any) -> torch.Size:
    """A weight's whole shape; here there may be nothing of it."""
    return torch.Size(getattr(parameter, "ds_shape", parameter.shape))


def call(module: Any, work: Callable[[], None]) -> None:
    """Do what computes with parts of the module, as if in its forward."""
    engine = _zero(module).engine
    engine(work)
    if hasattr(engine.optimizer, "empty_partition_cache"):  # stage 3
        engine.optimizer.empty_partition_cache()  # fetched ahead for a backward pass that isn't


def gathered_weights(module: Any) -> dict[str, Tensor]:
    """Whole trained weights on the CPU of the main rank; nothing on the others."""
    found: dict[str, Tensor] = {}
    for name, parameter in _zero(module).weights.items():
        with zero.GatheredParameters([parameter], enabled=_is_split(parameter)):
            if comm.get_rank() == 0:
                found[name] = parameter.detach().cpu().clone()
    return found


def scatter_weights(module: Any, weights: Mapping[str, Tensor]) -> None:
    """Give each rank its part of the main rank's weights."""
    own = _zero(module)
    for name, parameter in own.weights.items():
        is_split = _is_split(parameter)
        with (
            torch.no_grad(),
            zero.GatheredParameters([parameter], modifier_rank=0, enabled=is_split),
        ):
            if comm.get_rank() == 0:
                parameter.copy_(weights[name])
            if not is_split:
                comm.broadcast(parameter.data, 0)
    own.engine.optimizer.refresh_fp32_params()  # what it steps with is a copy


def gathered_optimizer_state(module: Any, _optimizer: Any) -> dict[str, Any]:
    """The whole state, by the weights' names, on the main rank; nothing on the others."""
    own = _zero(module)
    inner = own.engine.optimizer.optimizer
    held = next((state for state in inner.state.values() if "step" in state), None)
    state: dict[str, Any] = {}
    if held is not None:
        _link_averages(own.engine.optimizer)
        for name, parameter in own.weights.items():
            whole = {key: safe_get_full_optimizer_state(parameter, key) for key in _PER_WEIGHT}
            if comm.get_rank() == 0:
                shaped = {key: one.cpu().view(shape_of(parameter)) for key, one in whole.items()}
                state[name] = {"step": held["step"].cpu().clone(), **shaped}
    if comm.get_rank() != 0:
        return {}
    names = iter(own.weights)
    groups = [
        {**_options(group), "params": [next(names) for _ in range(number)]}
        for group, number in zip(inner.param_groups, own.groups, strict=True)
    ]
    return {"state": state, "param_groups": groups}


def scatter_optimizer_state(module: Any, _optimizer: Any, state: Mapping[str, Any]) -> None:
    """Give each rank its part of the main rank's state.

    The options of the groups are the recipe's on every rank.
    """
    own = _zero(module)
    held = state.get("state", {})
    device = own.engine.device
    step = torch.zeros((), device=device)
    for one in held.values():
        step.copy_(one["step"])
    comm.broadcast(step, 0)
    _make_room(own.engine.optimizer, step)
    for name, parameter in own.weights.items():
        for key in _PER_WEIGHT:
            whole = torch.zeros(shape_of(parameter), device=device)
            if name in held:
                whole.copy_(held[name][key])
            comm.broadcast(whole, 0)
            _set_average(parameter, whole, key)


def weight_names(module: Any, _optimizer: Any) -> list[str]:
    """The names of an optimizer's weights in the order of its groups."""
    return list(_zero(module).weights)


def _set_average(parameter: Any, whole: Tensor, key: str) -> None:
    """Keep this rank's part of an average."""
    if not _is_split(parameter):
        safe_set_full_optimizer_state(parameter, whole, key)
        return
    # That function reads past the end where a weight isn't a multiple of the ranks.
    size = parameter.partition_numel()
    missing = size * comm.get_world_size() - whole.numel()
    parts = torch.nn.functional.pad(whole.flatten(), (0, missing))
    own = parts.narrow(0, size * comm.get_rank(), size)
    safe_set_local_optimizer_state(parameter, own, key)


def _make_room(optimizer: Any, step: Tensor) -> None:
    """Averages of zero for a rank's parts, which AdamW itself makes at its first step."""
    stage_3 = getattr(optimizer, "fp32_partitioned_groups_flat", None)
    parts = stage_3 if stage_3 is not None else optimizer.single_partition_of_fp32_groups
    for part in parts:
        optimizer.optimizer.state[part] = {
            "step": step.clone(),
            **{key: torch.zeros_like(part) for key in _PER_WEIGHT},
        }
    _link_averages(optimizer)


def _link_averages(optimizer: Any) -> None:
    """Let DeepSpeed find the averages of its parts again (stage 1 and 2).

    It looks once, as the first of its groups is stepped, when those of the others aren't there.
    """
    if hasattr(optimizer, "_hp_optimizer_states_linked"):
        optimizer._hp_optimizer_states_linked = False
        optimizer._lazy_init_hp_params_optimizer_state()


def _options(group: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key != "params"}


def _zero(module: Any) -> Zero:
    found: Zero = module.__dict__["kft_zero"]
    return found


def _is_split(parameter: Any) -> bool:
    return hasattr(parameter, "ds_id")
