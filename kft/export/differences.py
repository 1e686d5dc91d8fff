"""How two models differ on the same rows: position by position, and layer by layer.

Shapes use T (tokens of a row), V (vocabulary) and N (targets).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import bitsandbytes
import torch
from torch import Tensor, nn

from kft.errors import ExportError
from kft.ops.losses import IGNORE_INDEX
from kft.tasks.causal_lm import CausalLM
from kft.tasks.inputs import model_inputs, plain_model
from kft.tasks.task import Batch, LogitRows

next_tokens = CausalLM().logit_rows
_POSITIONS_AT_ONCE = 64


def as_reference(model: nn.Module) -> nn.Module:
    """Let a trained model compute in float32 on exactly the weights it has; in place.

    Float weights are widened, which changes no value. 4-bit layers compute in float32. 8-bit
    layers round their inputs to 8 bits in evaluation, but on a CPU not in training mode: there
    they multiply with the dequantized weights, so these layers alone are put into it.

    Raises:
        ExportError: If an 8-bit layer is not on the CPU.
    """
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.float()
    module: Any
    for module in model.modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            module.compute_dtype = torch.float32
            module.compute_type_is_set = True
            if module.weight.quant_state is not None:
                module.weight.quant_state.dtype = torch.float32
        elif _is_8bit(module) and module.weight.device.type != "cpu":
            raise ExportError(
                "An 8-bit model is compared on the CPU, where its inputs aren't rounded too",
                expected="`torch.device('cpu')` when it is loaded",
            )
    to_evaluation(model)
    return model


def to_evaluation(model: nn.Module) -> None:
    """Evaluation mode, but for 8-bit layers on the CPU, as :func:`as_reference` tells."""
    model.eval()
    module: Any
    for module in model.modules():
        if _is_8bit(module) and module.weight.device.type == "cpu":
            module.train()


def _is_8bit(module: nn.Module) -> bool:
    return isinstance(module, bitsandbytes.nn.Linear8bitLt)


@dataclass
class Differences:
    """Running sums over positions; ``largest`` is a tensor, so that a NaN is not lost."""

    largest: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))
    absolute: float = 0.0
    num_logits: int = 0
    kl: float = 0.0
    agreeing: int = 0
    num_positions: int = 0
    reference_loss: float = 0.0
    merged_loss: float = 0.0
    num_targets: int = 0
    num_rows: int = 0

    def add(self, reference: LogitRows, merged: LogitRows) -> None:
        """Count rows of logits: float (N, K) twice, and int64 (N,) what each is to predict."""
        targets = reference.targets
        for start in range(0, len(targets), _POSITIONS_AT_ONCE):
            part = slice(start, start + _POSITIONS_AT_ONCE)
            # In float32 a KL of 1e-6 would drown in the rounding of the logarithms.
            here, there = reference.logits[part].double(), merged.logits[part].double()
            difference = (here - there).abs()
            self.largest = torch.maximum(self.largest, difference.max().cpu())
            self.absolute += float(difference.sum())
            self.num_logits += difference.numel()
            self.agreeing += int((here.argmax(-1) == there.argmax(-1)).sum())
            here, there = here.log_softmax(-1), there.log_softmax(-1)
            self.kl += float((here.exp() * (here - there)).sum())
            rows = torch.nonzero(targets[part] != IGNORE_INDEX).squeeze(1)  # (N,)
            wanted = targets[part][rows]
            self.reference_loss -= float(here[rows, wanted].sum())
            self.merged_loss -= float(there[rows, wanted].sum())
            self.num_targets += len(rows)
        self.num_positions += len(targets)

    @property
    def kl_nats(self) -> float:
        """Mean over positions of KL(reference || merged)."""
        return self.kl / self.num_positions


LogitRowsOf = Callable[[Tensor, Tensor], LogitRows]
"""A row's logits and labels -> rows of logits with what each is to predict; a task's own."""


@torch.no_grad()
def measure(
    reference: nn.Module,
    merged: nn.Module,
    batches: Sequence[Batch],
    logit_rows: LogitRowsOf = next_tokens,
) -> Differences:
    """Run both models, a row at a time, and sum how they differ.

    Logits are taken in float32 and compared in float64 a few positions at a time, so that no
    more than one row's logits are ever held.

    Args:
        reference: The model that was trained.
        merged: The model that is to say the same.
        batches: Padded rows.
        logit_rows: How the task reads a row's logits.

    Raises:
        ExportError: If ``batches`` holds no position.
    """
    to_evaluation(reference)
    to_evaluation(merged)
    seen = Differences()
    for batch in batches:
        for row in _rows(batch):
            here = logit_rows(_logits(reference, row), row.labels)
            there = logit_rows(_logits(merged, row).to(here.logits.device), row.labels)
            seen.add(here._replace(targets=here.targets.to(here.logits.device)), there)
            seen.num_rows += 1
    if seen.num_positions == 0:
        raise ExportError(
            "There is no text to compare the merged model on", expected="at least one held-out row"
        )
    return seen


def _rows(batch: Batch) -> Iterator[Batch]:
    """Each row of a batch by itself, without its padding: (1, T)."""
    is_of_tokens = batch.labels.dim() == 2 and not batch.labels.is_floating_point()
    for row in range(len(batch.input_ids)):
        real: Any = slice(None)
        mask = None
        if batch.attention_mask is not None:
            real = batch.attention_mask[row] > 0
            mask = batch.attention_mask[row : row + 1, real]  # it may mark the prompt

        def cut(values: Tensor | None, row: int = row, real: Any = real) -> Tensor | None:
            return None if values is None else values[row : row + 1, real]

        labels = batch.labels[row : row + 1]
        ids = cut(batch.input_ids)
        if ids is None:
            continue
        yield Batch(
            input_ids=ids,
            labels=labels[:, real] if is_of_tokens else labels,
            attention_mask=mask,
            position_ids=cut(batch.position_ids),
            num_tokens=ids.shape[1],
            num_counted=1,
            token_type_ids=cut(batch.token_type_ids),
        )


def _logits(model: nn.Module, row: Batch) -> Tensor:
    """float32, as transformers' own forward gives them, on the model's device."""
    row = row.to(next(model.parameters()).device)
    output = model(**model_inputs(plain_model(model), row))
    logits: Tensor = output.logits
    return logits.float()


@torch.no_grad()
def worst_layer(
    reference: nn.Module, merged: nn.Module, batch: Batch
) -> tuple[str, float] | tuple[None, None]:
    """The layer whose output differs most when both models' layers get the same input.

    The input is the one the layer has in the reference, so a fault is seen where it is and not
    in everything behind it. Every module that holds weights itself is looked at.

    Args:
        reference: The model that was trained; a ``PeftModel``'s prefix is not part of names.
        merged: The model that is to say the same.
        batch: Rows to look at.

    Returns:
        The layer's name in ``merged`` and ||difference|| / ||reference output||; infinite when
        an output isn't finite. ``None`` twice when no layer could be looked at.
    """
    layers = {  # peft keeps what was trained whole beside what it replaces
        name.replace(".modules_to_save.default", ""): layer
        for name, layer in reference.named_modules()
    }
    prefix = "base_model.model." if "base_model.model" in layers else ""
    differences: dict[str, float] = {}
    handles = []
    for name, layer in merged.named_modules():
        trained = layers.get(prefix + name)
        if trained is not None and next(layer.parameters(recurse=False), None) is not None:
            hook = _comparison(name, layer, differences)
            handles.append(trained.register_forward_hook(hook, with_kwargs=True))
    try:
        for row in _rows(batch):
            _logits(reference, row)
    finally:
        for handle in handles:
            handle.remove()
    if not differences:
        return None, None
    name = max(differences, key=differences.__getitem__)
    return name, differences[name]


def _comparison(name: str, layer: nn.Module, differences: dict[str, float]) -> Any:
    """A forward hook that runs ``layer`` on the hooked module's input and notes the difference."""
    device = next(layer.parameters()).device

    def hook(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        if not isinstance(output, Tensor):
            return
        here = output.double().cpu()
        inputs = tuple(_as_float32(value, device) for value in inputs)
        named = {key: _as_float32(value, device) for key, value in named.items()}
        there = layer(*inputs, **named).double().cpu()
        difference = float((here - there).norm()) / (float(here.norm()) or 1.0)
        difference = difference if math.isfinite(difference) else math.inf
        differences[name] = max(differences.get(name, 0.0), difference)

    return hook


def _as_float32(value: Any, device: torch.device) -> Any:
    if not isinstance(value, Tensor):
        return value
    return value.to(device, torch.float32) if value.is_floating_point() else value.to(device)
