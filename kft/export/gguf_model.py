"""A GGUF file computed as llama.cpp computes it, in torch: from the file alone.

Sizes, rotary positions and names are the file's. So what is wrong in them, or a matrix that was
laid out otherwise than llama.cpp reads it, shows as other logits.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gguf
import numpy
import psutil
import torch
from torch import Tensor, nn
from torch.nn import functional


class GgufModel(nn.Module):
    """A file's model, to be asked like the transformers model that it was made from.

    Weights are dequantized when a layer needs them, and kept where there is memory for all.

    Args:
        path: The file.
        config: Of that transformers model; nothing but its form of GELU is taken from it.

    Source:
        llama.cpp, src/models: gpt2, gptneox, llama, qwen2, qwen3 and exaone4.
    """

    def __init__(self, path: Path, config: Any) -> None:
        super().__init__()
        reader = gguf.GGUFReader(path)
        self.fields = {name: one.contents() for name, one in reader.fields.items()}
        self.tensors = {one.name: one for one in reader.tensors}
        self.config = config
        needed = sum(4 * int(one.n_elements) for one in self.tensors.values())
        self.keeps = needed < psutil.virtual_memory().available // 2
        self.kept: dict[str, Tensor] = {}
        self.place = nn.Parameter(torch.zeros(0))  # tells on which device it is
        self.name: str = self.fields["general.architecture"]
        is_exact = getattr(config, "hidden_act", None) == "gelu"
        self.gelu_form = "none" if is_exact else "tanh"

    def size(self, key: str, default: Any = None) -> Any:
        """What the file says of the architecture."""
        return self.fields.get(f"{self.name}.{key}", default)

    def tensor(self, name: str) -> Tensor:
        """A tensor of the file in float32."""
        if name in self.kept:
            return self.kept[name]
        one = self.tensors[name]
        plain = numpy.array(gguf.dequantize(one.data, one.tensor_type), dtype=numpy.float32)
        found = torch.from_numpy(plain).reshape([int(size) for size in reversed(one.shape)])
        if self.keeps:
            self.kept[name] = found
        return found

    def forward(self, input_ids: Tensor, **_: Any) -> Any:
        """Logits (B, T, V) of rows without padding."""
        hidden = functional.embedding(input_ids, self.tensor("token_embd.weight"))
        if "position_embd.weight" in self.tensors:
            hidden = hidden + self.tensor("position_embd.weight")[: input_ids.shape[1]]
        for number in range(self.size("block_count")):
            hidden = self._block(hidden, f"blk.{number}")
        hidden = self._norm(hidden, "output_norm")
        head = "output.weight" if "output.weight" in self.tensors else "token_embd.weight"
        return SimpleNamespace(logits=hidden @ self.tensor(head).T)

    def _block(self, hidden: Tensor, block: str) -> Tensor:
        given = self._norm_if_there(hidden, f"{block}.attn_norm")
        attended = self._attention(given, block)
        attended = self._norm_if_there(attended, f"{block}.post_attention_norm")
        before = hidden if self.size("use_parallel_residual", False) else hidden + attended
        made = self._mlp(self._norm_if_there(before, f"{block}.ffn_norm"), block)
        return hidden + attended + self._norm_if_there(made, f"{block}.post_ffw_norm")

    def _linear(self, given: Tensor, name: str) -> Tensor:
        bias = self.tensor(f"{name}.bias") if f"{name}.bias" in self.tensors else None
        return functional.linear(given, self.tensor(f"{name}.weight"), bias)

    def _norm(self, given: Tensor, name: str) -> Tensor:
        weight, root_mean_square = self.tensor(f"{name}.weight"), "attention.layer_norm_rms_epsilon"
        if (epsilon := self.size(root_mean_square)) is not None:
            return functional.rms_norm(given, weight.shape, weight, float(epsilon))
        epsilon = float(self.size("attention.layer_norm_epsilon"))
        return functional.layer_norm(
            given, weight.shape, weight, self.tensor(f"{name}.bias"), epsilon
        )

    def _norm_if_there(self, given: Tensor, name: str) -> Tensor:
        return self._norm(given, name) if f"{name}.weight" in self.tensors else given

    def _mlp(self, given: Tensor, block: str) -> Tensor:
        up = self._linear(given, f"{block}.ffn_up")
        if f"{block}.ffn_gate.weight" in self.tensors:
            inner = functional.silu(self._linear(given, f"{block}.ffn_gate")) * up
        else:
            inner = functional.gelu(up, approximate=self.gelu_form)
        return self._linear(inner, f"{block}.ffn_down")

    def _attention(self, given: Tensor, block: str) -> Tensor:
        num_heads = self.size("attention.head_count")
        num_kv_heads = self.size("attention.head_count_kv", num_heads)
        if f"{block}.attn_qkv.weight" in self.tensors:
            parts = self._linear(given, f"{block}.attn_qkv").chunk(3, dim=-1)
        else:
            parts = tuple(self._linear(given, f"{block}.attn_{part}") for part in "qkv")
        rows, tokens, _ = given.shape
        query, key, value = (
            part.view(rows, tokens, heads, -1).transpose(1, 2)  # (B, heads, T, width)
            for part, heads in zip(parts, (num_heads, num_kv_heads, num_kv_heads), strict=True)
        )
        query = self._norm_if_there(query, f"{block}.attn_q_norm")
        key = self._norm_if_there(key, f"{block}.attn_k_norm")
        if self.size("rope.dimension_count") is not None:
            query, key = self._turned(query), self._turned(key)
        mixed = functional.scaled_dot_product_attention(
            query,
            key.repeat_interleave(num_heads // num_kv_heads, dim=1),
            value.repeat_interleave(num_heads // num_kv_heads, dim=1),
            is_causal=True,
        )
        return self._linear(mixed.transpose(1, 2).flatten(2), f"{block}.attn_output")

    def _turned(self, heads: Tensor) -> Tensor:
        """Queries or keys (B, heads, T, width) with their positions.

        The ``llama`` of llama.cpp turns pairs of neighbours, the others numbers that stand half of
        what is turned apart.
        """
        count = self.size("rope.dimension_count")
        numbers = torch.arange(0, count, 2, dtype=torch.float32)
        frequencies = self.size("rope.freq_base") ** (-numbers / count)
        frequencies = frequencies / self.size("rope.scaling.factor", 1.0)
        if "rope_freqs.weight" in self.tensors:
            frequencies = frequencies / self.tensor("rope_freqs.weight")
        angles = torch.arange(heads.shape[2])[:, None] * frequencies  # (T, count / 2)
        turned, rest = heads[..., :count], heads[..., count:]
        if self.name == "llama":
            first, second = turned[..., 0::2], turned[..., 1::2]
        else:
            first, second = turned.chunk(2, dim=-1)
        one = first * angles.cos() - second * angles.sin()
        other = first * angles.sin() + second * angles.cos()
        if self.name == "llama":
            return torch.cat([torch.stack([one, other], dim=-1).flatten(-2), rest], dim=-1)
        return torch.cat([one, other, rest], dim=-1)
