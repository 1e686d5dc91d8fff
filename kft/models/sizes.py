"""What a model holds and what its training keeps, in numbers, from its modules' shapes alone.

A number is one element of an array; how many bytes it takes is for whoever plans the memory.
The rules say what kft's own paths keep for the backward pass (``tests/models/test_sizes.py``
compares them with what autograd really saves):

- a layer with an adapter, or one that is trained: its input, and the (N, r) of its adapter;
  query, key and value (and a gate and what it gates) have one input between them;
- attention: query, key, value, output, and one float32 per head;
- an activation: its input; behind a gate also its output and what is gated;
- layer norm: its input and two float32; RMSNorm: its input in float32 and one more;
- a frozen layer without an adapter, a sum, dropout of 0: nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from kft.models.activations import is_composed
from kft.models.target_modules import adapted_layers, ends_with, layer_features, linear_layers
from kft.recipe.schema import AdapterSection

SMALL = 4096
"""Numbers below which bitsandbytes keeps a tensor's optimizer state in 32 bits."""

_ONE_INPUT = (
    ("query", "key", "value"),
    ("q_proj", "k_proj", "v_proj"),
    ("q_lin", "k_lin", "v_lin"),
    ("gate_proj", "up_proj"),
    ("c_fc_0", "c_fc_1"),
)
_FUSED = ("query_key_value", "c_attn", "qkv_proj", "W_pack", "Wqkv")
_NOT_QUANTIZED = {"classifier", "score", "pooler", "cls", "lm_head", "generator_predictions"}


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
class ModelSizes:
    """A model and its adapter in numbers.

    Args:
        frozen: Weights that are held as they are loaded.
        quantized: Frozen weights that are held in 4 or 8 bits.
        trained: Weights with a gradient: an adapter's, whole modules', or all.
        small_trained: Those of them that stand in tensors below :data:`SMALL`.
        adapted: Frozen weights of layers with an adapter.
        file: Weights in the checkpoint's file.
        largest_layer: Weights of the largest linear layer of the blocks.
        blocks: What each block keeps, in order.
        outside: What is kept beside the blocks.
        width: D, of the hidden states.
        inner: Width of the widest array of a block.
        heads: H, of attention.
        vocabulary: V; 0 for a model without a language head.
        head_is_cut: The language head's logits are its layer's and nothing else, so that it
            can run in chunks.
        head_is_trained: The head's weight has a gradient.
    """

    frozen: int
    quantized: int
    trained: int
    small_trained: int
    adapted: int
    file: int
    largest_layer: int
    blocks: tuple[Kept, ...]
    outside: Kept
    width: int
    inner: int
    heads: int
    vocabulary: int
    head_is_cut: bool
    head_is_trained: bool


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


def model_sizes(
    model: Any, section: AdapterSection, ways: Ways, *, quantized: bool, head_is_cut: bool
) -> ModelSizes:
    """Count a model's weights and what it keeps.

    Args:
        model: On any device, ``meta`` too; its weights aren't looked at.
        section: The recipe's adapter.
        ways: How the run computes.
        quantized: Whether the linear layers of the blocks are held in 4 or 8 bits.
        head_is_cut: As :class:`ModelSizes` has it.

    Raises:
        ModelError: As :func:`kft.models.target_modules.adapted_layers`.
    """
    is_full = section.method == "full"
    config = model.config.get_text_config()
    layers = linear_layers(model)
    adapted = {} if is_full else adapted_layers(model, section)
    whole = [] if is_full else _whole_modules(model, section)
    trained = [parameter.numel() for parameter in model.parameters()] if is_full else []
    trained += [parameter.numel() for module in whole for parameter in module.parameters()]
    for rows, columns in adapted.values():
        trained += [section.r * rows, section.r * columns]
    everything = sum(parameter.numel() for parameter in model.parameters())
    output = model.get_output_embeddings()
    bits = sum(
        math.prod(layer_features(layer))
        for name, layer in layers.items()
        if quantized and layer is not output and not set(name.split(".")) & _NOT_QUANTIZED
    )
    reader = _Reader(model, section, ways, adapted)
    blocks = tuple(reader.block(prefix, block) for prefix, block in _blocks(model))
    inside = [name for name in layers if any(name.startswith(f"{p}.") for p, _ in _blocks(model))]
    sizes = {name: layer_features(layers[name]) for name in inside}
    width = int(config.hidden_size)
    return ModelSizes(
        frozen=0 if is_full else everything - bits,
        quantized=bits,
        trained=sum(trained),
        small_trained=sum(number for number in trained if number < SMALL),
        adapted=sum(rows * columns for rows, columns in adapted.values()),
        file=everything,
        largest_layer=max((rows * columns for rows, columns in sizes.values()), default=0),
        blocks=blocks,
        outside=Kept(stream=width, float32=2),  # the last norm
        width=width,
        inner=max((max(pair) for pair in sizes.values()), default=width),
        heads=int(config.num_attention_heads),
        vocabulary=0 if output is None else int(output.weight.shape[0]),
        head_is_cut=head_is_cut,
        head_is_trained=is_full,
    )


def _whole_modules(model: Any, section: AdapterSection) -> list[nn.Module]:
    """Modules that are trained whole beside an adapter: those named, and a task's own head."""
    named = dict(model.named_modules())
    wanted = [
        name for name in named if any(ends_with(name, end) for end in section.modules_to_save)
    ]
    if model.get_output_embeddings() is None:
        wanted += [
            name
            for name, module in model.named_children()
            if name != model.base_model_prefix and next(module.parameters(), None) is not None
        ]
    return [named[name] for name in dict.fromkeys(wanted)]


def _blocks(model: Any) -> Iterator[tuple[str, nn.Module]]:
    """The blocks with their names: the entries of the longest list of modules that are no list."""
    lists = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList)
    ]
    if lists:
        name, found = max(lists, key=lambda pair: len(pair[1]))
        yield from ((f"{name}.{number}", block) for number, block in enumerate(found))


class _Reader:
    """Reads off a block what it keeps."""

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
