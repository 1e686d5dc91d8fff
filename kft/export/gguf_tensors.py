"""A model's weights as a GGUF file has them, and back.

Three things are laid out otherwise there: GPT-2's ``Conv1D`` holds (inputs, outputs), a GGUF
matrix (outputs, inputs); GPT-NeoX's query, key and value are mixed head by head, a GGUF has all
queries first; and Llama's rotary positions turn numbers half a head apart in transformers, but
neighbours in llama.cpp, as they did where Llama was trained, so the rows of queries and keys change
places.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gguf
import torch
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from kft.errors import ExportError
from kft.export.gguf_architecture import Architecture

ROPE_FREQUENCIES = "rope_freqs.weight"
"""Name of what Llama 3.1's scaling divides each frequency by."""

_POSITIONS = "position_embd.weight"  # llama.cpp adds it, and adds float32 alone


@dataclass(frozen=True)
class Placed:
    """A weight and its place in the file.

    Args:
        name: In the file.
        key: In the model's ``state_dict``; ``None`` for what the model computes itself.
        value: As the file has it: float32, outputs before inputs.
    """

    name: str
    key: str | None
    value: Tensor

    @property
    def is_matrix(self) -> bool:
        """Whether llama.cpp multiplies by it, and takes it in fewer bits."""
        return self.value.dim() == 2 and self.name != _POSITIONS


def placed_tensors(model: Any, architecture: Architecture) -> Iterator[Placed]:
    """Every weight of a model, one after the other, in the model's own order.

    Args:
        model: A transformers model, float32.
        architecture: From :func:`kft.export.gguf_architecture.describe`.

    Raises:
        ExportError: If a weight has no name in GGUF.
    """
    kind = next(one for one, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture.name)
    names = gguf.get_tensor_name_map(kind, architecture.num_blocks)
    layers = dict(model.named_modules())
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    is_tied = head.weight is embedding.weight and not architecture.keeps_head
    for key, value in model.state_dict().items():
        layer, _, part = key.rpartition(".")
        if is_tied and layers[layer] is head:
            continue
        name = names.get_name(key, try_suffixes=(".weight", ".bias"))
        if name is None:
            raise ExportError(f"GGUF has no name for the weight `{key}` of `{architecture.name}`")
        laid_out = _to_file(value.detach(), layer, architecture)
        if isinstance(layers[layer], Conv1D) and part == "weight":
            laid_out = laid_out.T
        yield Placed(name, key, laid_out.contiguous())
    factors = rope_factors(model)
    if factors is not None:
        yield Placed(ROPE_FREQUENCIES, None, factors)


def rope_factors(model: Any) -> Tensor | None:
    """What Llama 3.1's scaling divides each rotary frequency by; ``None`` without it."""
    parameters = getattr(model.config, "rope_parameters", None) or {}
    if parameters.get("rope_type") != "llama3":
        return None
    rotary = next(layer for layer in model.modules() if hasattr(layer, "original_inv_freq"))
    scaled = rotary.original_inv_freq.double()
    size = 2 * len(scaled)
    plain = parameters["rope_theta"] ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)
    factors: Tensor = (plain / scaled).float()
    return factors


def _to_file(value: Tensor, layer: str, architecture: Architecture) -> Tensor:
    if layer.endswith(".query_key_value"):  # heads x (q, k, v) x width -> (q, k, v) x heads x width
        return _swapped(value, architecture.num_heads, 3)
    if architecture.pairs_neighbours and layer.endswith((".q_proj", ".k_proj")):
        is_query = layer.endswith(".q_proj")
        heads = architecture.num_heads if is_query else architecture.num_kv_heads
        # A head's two halves -> pairs of neighbours.
        return torch.cat([_swapped(head, 2, len(head) // 2) for head in value.chunk(heads)])
    return value


def _swapped(value: Tensor, outer: int, inner: int) -> Tensor:
    """Rows counted as (outer, inner, rest) -> (inner, outer, rest)."""
    rest = value.shape[1:]
    return value.reshape(outer, inner, -1, *rest).transpose(0, 1).reshape(-1, *rest)


def to_model(tensor: Tensor, key: str, architecture: Architecture, shape: torch.Size) -> Tensor:
    """A tensor of the file as the model holds it.

    Written on its own, and not as the inverse of the code that writes: a fault there would undo
    itself here.

    Args:
        tensor: As the file has it, float32.
        key: In the model's ``state_dict``.
        architecture: The file's.
        shape: The weight's in the model.

    Raises:
        ExportError: If it has another shape than the weight.
    """
    layer = key.rpartition(".")[0].rpartition(".")[2]
    if architecture.name == "gpt2" and layer in {"c_attn", "c_proj", "c_fc"} and len(shape) == 2:
        tensor = tensor.T
    if tensor.shape != shape:
        raise ExportError(
            f"The GGUF file has another shape for `{key}`: {tuple(tensor.shape)}",
            expected=f"{tuple(shape)}",
        )
    rows = torch.arange(shape[0])
    if layer == "query_key_value":
        width = shape[0] // (3 * architecture.num_heads)
        head, part, number = rows // (3 * width), rows // width % 3, rows % width
        return tensor[(part * architecture.num_heads + head) * width + number]
    if architecture.pairs_neighbours and layer in {"q_proj", "k_proj"}:
        size = int(architecture.fields["rope.dimension_count"])
        head, number = rows // size, rows % size
        half = size // 2
        return tensor[head * size + 2 * (number % half) + number // half]
    return tensor
