"""What training keeps of a model's blocks for the backward pass, from their modules' shapes.

The rules say what kft's own paths keep for the backward pass (``tests/models/test_kept.py``
compares them with what autograd really saves):

- a layer with an adapter, or one that is trained: its input, and the (N, r) of its adapter;
  query, key and value (and a gate and what it gates) have one input between them;
- attention: query, key, value, output, and one float32 per head;
- an activation: its input; behind a gate also its output and what is gated;
- layer norm: its input and two float32; RMSNorm: its input in float32 and one more;
- a frozen layer without an adapter, a sum, dropout of 0: nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from kft.models.activations import is_composed
from kft.models.target_modules import layer_features, linear_layers
from kft.recipe.schema import AdapterSection

_ONE_INPUT = (
    ("query", "key", "value"),
    ("q_proj", "k_proj", "v_proj"),
    ("q_lin", "k_lin", "v_lin"),
    ("gate_proj", "up_proj"),
    ("c_fc_0", "c_fc_1"),
)
_FUSED = ("query_key_value", "c_attn", "qkv_proj", "W_pack", "Wqkv")


@dataclass(frozen=True)
class Kept:
    """Numbers per token that are kept for the backward pass.

    Args:
        computed: In the precision of computation.
        stream: In that of the hidden states between the blocks.
        float32: In float32 whatever happens.
    """

    computed: int = 0
    stream: int = 0
    float32: int = 0

    def __add__(self, other: Kept) -> Kept:
        return Kept(
            self.computed + other.computed,
            self.stream + other.stream,
            self.float32 + other.float32,
        )


@dataclass(frozen=True)
class Ways:
    """How a run computes, where that changes what is kept.

    Args:
        fast: kft's fast paths.
        unpadded: Attention document by document.
        shares_inputs: Layers that read one array keep it once; not where each makes a copy of
            it in its own precision.
        dropout: The model's own.
    """

    fast: bool = True
    unpadded: bool = True
    shares_inputs: bool = True
    dropout: float = 0.0


class BlockReader:
    """Reads off a block what it keeps.

    Args:
        model: The model that the blocks are of.
        section: The recipe's adapter.
        ways: How the run computes.
        adapted: Layers with an adapter.
    """

    def __init__(
        self, model: Any, section: AdapterSection, ways: Ways, adapted: dict[str, tuple[int, int]]
    ) -> None:
        self._config = model.config.get_text_config()
        self._section = section
        self._ways = ways
        self._adapted = adapted
        self._is_full = section.method == "full"
        self._rotates = any("Rotary" in type(module).__name__ for module in model.modules())

    def block(self, prefix: str, block: nn.Module) -> Kept:
        """Numbers per token that one block keeps."""
        kept = Kept(computed=self._inputs(prefix, block) + self._activations(block))
        kept += self._attention(prefix, block) + self._norms(block)
        if self._ways.dropout > 0.0:
            count = sum(isinstance(module, nn.Dropout) for module in block.modules())
            kept += Kept(computed=count * int(self._config.hidden_size))
        return kept

    def _keeps_input(self, name: str) -> bool:
        return self._is_full or name in self._adapted

    def _inputs(self, prefix: str, block: nn.Module) -> int:
        """Inputs of the layers with an adapter, or trained; those of one array once."""
        numbers = 0
        seen: set[tuple[str, int]] = set()
        for inner, layer in linear_layers(block).items():
            name = f"{prefix}.{inner}"
            if not self._keeps_input(name):
                continue
            width = layer_features(layer)[0]
            if not self._is_full:
                numbers += self._section.r
                if self._section.lora_dropout > 0.0:
                    numbers += 2 * width
            parent, _, end = name.rpartition(".")
            group = next((number for number, ends in enumerate(_ONE_INPUT) if end in ends), None)
            if group is not None and self._ways.shares_inputs:
                if (parent, group) in seen:
                    continue
                seen.add((parent, group))
            numbers += width
        return numbers

    def _activations(self, block: nn.Module) -> int:
        numbers = 0
        for parent in block.modules():
            children = list(parent.children())
            outs = [layer_features(one)[1] for one in children if _is_linear(one)]
            acts = [one for one in children if _is_activation(one)]
            if not outs or not acts:
                continue
            width = max(outs)
            is_gated = outs.count(width) > 1
            passes = 4 if is_composed(acts[0]) and not self._ways.fast else 1
            numbers += width * (passes + 2 * is_gated)
        return numbers

    def _attention(self, prefix: str, block: nn.Module) -> Kept:
        config, ways = self._config, self._ways
        heads = int(config.num_attention_heads)
        each = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
        groups = int(getattr(config, "num_key_value_heads", None) or heads)
        asked, answered = heads * each, (heads + groups * 2) * each  # query; query, key and value
        names = list(linear_layers(block))
        is_fused = any(name.rpartition(".")[2] in _FUSED for name in names)
        numbers = answered
        turned = is_fused and self._rotates
        if turned:  # rotated ones beside the array they came from, which the values keep alive
            numbers += (heads + groups) * each
        # Put together from its documents, the output is another array than the next layer's input.
        closing = [name for name in names if layer_features(block.get_submodule(name))[0] == asked]
        read = any(self._keeps_input(f"{prefix}.{name}") for name in closing)
        if ways.unpadded or turned or not read:
            numbers += asked
        return Kept(computed=numbers, float32=heads)

    def _norms(self, block: nn.Module) -> Kept:
        kept = Kept()
        inputs: set[int] = set()
        is_parallel = bool(getattr(self._config, "use_parallel_residual", False))
        for module in block.modules():
            weight = getattr(module, "weight", None)
            if "Norm" not in type(module).__name__ or weight is None:
                continue
            width = int(weight.shape[0])
            again = 0 if is_parallel and width in inputs else width
            inputs.add(width)
            if isinstance(module, nn.LayerNorm):
                kept += Kept(stream=again, float32=2)
            else:
                kept += Kept(stream=width * self._is_full, float32=again + 1)
        return kept


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear | Conv1D)


def _is_activation(module: nn.Module) -> bool:
    place = type(module).__module__
    return place.startswith(("transformers.activations", "torch.nn.modules.activation")) or (
        "GELU" in type(module).__name__
    )
