"""How much memory LoRA and QLoRA need on a checkpoint, from its sizes alone.

An estimate to choose a checkpoint by, not a plan of a run. It is the sum of

- frozen weights: 2 bytes each (bfloat16); under QLoRA the linear layers of the blocks take
  half a byte each and their constants, doubly quantized, 8 bits per 64 weights and 32 bits
  per 16,384 (Dettmers et al. 2023), while embeddings and head keep 2 bytes;
- the adapter of rank 8 on every linear layer of the blocks: 16 bytes for each of its numbers
  (float32 weight, gradient and AdamW's two means);
- activations of one micro-batch, with an attention kernel that keeps no scores: 34 D bytes per
  token and layer (Korthikanti et al. 2022, section 4.1, without the quadratic term); above a
  billion weights gradients are checkpointed, which leaves 2 D bytes per token and layer and
  one layer's 34 D;
- for a decoder, the logits: 10 bytes per token and vocabulary entry (bfloat16, a float32 copy
  and its gradient).

The CUDA context and fragments (about a gibibyte) come on top.
"""

from __future__ import annotations

from dataclasses import dataclass

from kft.models.presets import Preset

ROWS = 8
"""Rows of the micro-batch: the recipe's default."""
TOKENS = 512
"""Tokens per row at most: the recipe's default."""
RANK = 8
"""Rank of the adapter: the recipe's default."""
CHECKPOINTED_ABOVE = 1_000_000_000
"""Weights above which ``train.gradient_checkpointing: auto`` recomputes activations."""

_WEIGHT_BYTES = 2.0
_NF4_BYTES = 0.5 + (8 / 64 + 32 / (64 * 256)) / 8
_TRAINED_BYTES = 16.0
_ACTIVATION_BYTES = 34.0
_LOGIT_BYTES = 10.0
_GATED = {"llama", "qwen2", "exaone", "exaone4", "modernbert"}  # three matrices, not two


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes that training needs on the device.

    Args:
        weights: Frozen weights.
        adapter: The adapter with gradients and optimizer.
        activations: Of one micro-batch, with its logits.
        is_whole: Whether the sizes of the checkpoint are known; if not, only the weights are
            counted, from the publisher's number of parameters.
    """

    weights: int
    adapter: int = 0
    activations: int = 0
    is_whole: bool = True

    @property
    def total(self) -> int:
        """All of it."""
        return self.with_rows(ROWS)

    def with_rows(self, rows: int) -> int:
        """All of it with another number of rows in the micro-batch."""
        return self.weights + self.adapter + self.activations * rows // ROWS


def linear_shapes(preset: Preset) -> list[tuple[int, int]]:
    """Inputs and outputs of each linear layer of one block; empty when sizes are unknown."""
    if preset.hidden is None or preset.heads is None or preset.intermediate is None:
        return []
    width, inner = preset.hidden, preset.intermediate
    # EXAONE 4's and Llama's heads may be narrower than D / heads; D / heads is the usual.
    narrow = width * (preset.kv_heads or preset.heads) // preset.heads
    attention = [(width, width), (width, narrow), (width, narrow), (width, width)]
    gates = 2 if preset.family in _GATED else 1
    return [*attention, *[(width, inner)] * gates, (inner, width)]


def count_parameters(preset: Preset) -> int | None:
    """Weights of the checkpoint: the publisher's count, else what its sizes add up to.

    Example:
        >>> from kft.models.presets import find_preset
        >>> round(count_parameters(find_preset("kcbert-base")) / 1e6)
        108
    """
    if preset.parameters is not None:
        return preset.parameters
    shapes = linear_shapes(preset)
    if not shapes or preset.layers is None or preset.vocabulary is None:
        return None
    blocks = preset.layers * sum(rows * columns for rows, columns in shapes)
    return blocks + _embedding_weights(preset)


def memory_need(preset: Preset, *, quantized: bool) -> MemoryNeed | None:
    """Memory for LoRA, or for QLoRA when ``quantized``; ``None`` when nothing is known.

    Args:
        preset: The checkpoint.
        quantized: Whether the frozen weights are held in NF4.

    Example:
        >>> from kft.models.presets import find_preset
        >>> need = memory_need(find_preset("polyglot-ko-5.8b"), quantized=True)
        >>> f"{need.weights / 2**30:.1f} GiB of {need.total / 2**30:.1f}"
        '3.2 GiB of 6.0'
    """
    weights = count_parameters(preset)
    if weights is None:
        return None
    shapes = linear_shapes(preset)
    if not shapes or preset.layers is None or preset.hidden is None or preset.vocabulary is None:
        each = _NF4_BYTES if quantized else _WEIGHT_BYTES
        return MemoryNeed(round(weights * each), is_whole=False)
    blocks = preset.layers * sum(rows * columns for rows, columns in shapes)
    held = max(weights - blocks, 0) * _WEIGHT_BYTES
    held += min(blocks, weights) * (_NF4_BYTES if quantized else _WEIGHT_BYTES)
    adapter = preset.layers * sum(RANK * (rows + columns) for rows, columns in shapes)
    tokens = ROWS * min(TOKENS, preset.context or TOKENS)
    if weights > CHECKPOINTED_ABOVE:
        per_token = (2.0 * preset.layers + _ACTIVATION_BYTES) * preset.hidden
    else:
        per_token = _ACTIVATION_BYTES * preset.layers * preset.hidden
    if preset.kind == "decoder":
        per_token += _LOGIT_BYTES * preset.vocabulary
    return MemoryNeed(
        round(held), round(adapter * _TRAINED_BYTES), round(tokens * per_token), is_whole=True
    )


def _embedding_weights(preset: Preset) -> int:
    width, rows = preset.hidden or 0, preset.vocabulary or 0
    has_positions = preset.family in {
        "bert",
        "roberta",
        "electra",
        "big_bird",
        "distilbert",
        "gpt2",
    }
    positions = (preset.context or 0) * width if has_positions else 0
    heads = 2 if preset.kind == "decoder" and not preset.tied else 1
    return heads * rows * width + positions
