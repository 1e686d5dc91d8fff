"""How much memory a run will take, from numbers alone: nothing is loaded, nothing is tried.

On a CPU what is planned is the process's resident memory at its highest until training ends; on
CUDA the bytes that torch has allocated there. What merging takes afterwards is not in it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from kft.ops.few_shapes import CHUNK_BYTES, chunk_rows, filled, filled_chunk
from kft.train.sharing import UNSHARED, Sharing
from kft.train.weight_bytes import gathered_bytes, loading_bytes, mapped_bytes, quantized_bytes

if TYPE_CHECKING:
    from kft.models.kept import Kept
    from kft.models.sizes import ModelSizes

PROCESS_GROWTH = 20 * 10**6
"""Bytes that a CPU process grows by between planning and training, weights apart: the optimizer's
and accelerate's modules, threads, buffers of matrix products (docs/evidence/memory.md)."""
PROGRAMS = 150 * 10**6
"""Bytes more in half precision on a CPU: oneDNN's programs, one for each shape of a product
(:mod:`kft.ops.few_shapes`; docs/evidence/memory.md)."""
SCATTER = 0.25
"""Share of the arrays of a step that the C library holds beyond those in use on a CPU: what was
freed between others and is too small for the next. Fitted to runs (docs/evidence/memory.md)."""
HEAP_BYTES = 2**25
"""Size from which glibc gives an array pages of its own, which it returns at once."""

_FLOAT32 = 4


@dataclass(frozen=True)
class MicroBatch:
    """The largest micro-batch of a run.

    Args:
        tokens: All of it, padding too.
        targets: Tokens of it that have a target.
    """

    tokens: int
    targets: int


@dataclass(frozen=True)
class Setting:
    """How a run holds its numbers.

    Args:
        device: Where it computes.
        weight_bytes: Of a frozen weight that is not quantized.
        computed_bytes: Of a number in the precision of computation.
        stream_bytes: Of a number of the hidden states between the blocks.
        file_bytes: Of the checkpoint's weight files; 0 where weights are drawn.
        quantization: As ``model.quantization``.
        double_quant: As ``model.double_quant``.
        optim: As ``train.optim``.
        recomputes: Gradient checkpointing.
        offloads: Activations wait in the CPU's memory, all but one block's.
        eval_tokens: Tokens of the largest evaluation batch.
        process_bytes: What the process holds already; 0 on CUDA.
        sharing: What ranks hold parts of.
        ranks: How many of them there are.
    """

    device: Literal["cpu", "cuda"] = "cpu"
    weight_bytes: int = 4
    computed_bytes: int = 4
    stream_bytes: int = 4
    file_bytes: int = 0
    quantization: str = "none"
    double_quant: bool = True
    optim: str = "adamw"
    recomputes: bool = False
    offloads: bool = False
    eval_tokens: int = 0
    process_bytes: int = 0
    sharing: Sharing = UNSHARED
    ranks: int = 1


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes that a run needs, by what needs them.

    Args:
        process: What the process holds whatever is trained: Python, libraries, rows. 0 on CUDA.
        weights: Frozen weights, quantized or not, with their constants; where ranks share them,
            a rank's part, and what it gathers of all weights at once.
        adapter: What is trained, float32; with ``method: full`` all weights. A rank's part of it,
            as are gradients and the optimizer's state.
        gradients: Of what is trained, float32.
        optimizer: Its state.
        activations: Kept for the backward pass by the largest micro-batch.
        logits: What the language head and its loss need beside those.
        backward: What the backward pass needs beside them, where it needs most.
        allocator: Held by the allocator beyond what was asked for.
        loading: The whole while weights are loaded.
        evaluation: The whole while held-out rows are measured.
    """

    process: int
    weights: int
    adapter: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    backward: int
    allocator: int
    loading: int
    evaluation: int

    @property
    def training(self) -> int:
        """The whole while training; logits and the backward pass never stand there together."""
        held = self.process + self.weights + self.adapter + self.gradients + self.optimizer
        return held + self.activations + max(self.logits, self.backward) + self.allocator

    @property
    def total(self) -> int:
        """The most that is needed at once."""
        return max(self.training, self.loading, self.evaluation)

    @property
    def phase(self) -> str:
        """When that is: ``training``, ``loading`` or ``evaluation``."""
        phases = {
            "training": self.training, "loading": self.loading, "evaluation": self.evaluation
        }  # fmt: skip
        return max(phases, key=lambda name: phases[name])


def plan_memory(sizes: ModelSizes, batch: MicroBatch, setting: Setting) -> MemoryPlan:
    """What a run needs.

    Args:
        sizes: The model and its adapter.
        batch: The largest micro-batch.
        setting: How numbers are held.
    """
    each = quantized_bytes(setting.quantization, double_quant=setting.double_quant)
    weights = round(sizes.frozen * setting.weight_bytes + sizes.quantized * each)
    weights += mapped_bytes(sizes, setting)
    trained = gradients = sizes.trained * _FLOAT32
    optimizer = optimizer_bytes(sizes, setting.optim)
    sharing, ranks = setting.sharing, setting.ranks
    if sharing.is_zero:
        optimizer += trained
    if sharing.weights:
        weights = -(-weights // ranks) + gathered_bytes(sizes, setting)
        trained = -(-trained // ranks)
    if sharing.gradients:
        gradients = -(-gradients // ranks)
    gradients += _bucket_bytes(sizes, setting)
    if sharing.optimizer:
        optimizer = -(-optimizer // ranks)
    is_half_on_cpu = setting.device == "cpu" and setting.computed_bytes < _FLOAT32
    if is_half_on_cpu:
        batch = replace(batch, tokens=filled(batch.tokens))
        setting = replace(setting, eval_tokens=filled(setting.eval_tokens))
    activations = activation_bytes(sizes, batch.tokens, setting)
    logits = logit_bytes(sizes, batch, setting)
    largest = sizes.largest_layer * setting.computed_bytes if sizes.quantized else 0
    # The gradient of the widest array, and of the hidden states of which it is made.
    working = (sizes.inner + 3 * sizes.width) * batch.tokens * setting.computed_bytes + largest
    if is_half_on_cpu:  # five arrays of attention and three slopes in float32, and these rounded
        working = max(working, 38 * sizes.width * batch.tokens)
    growth = PROCESS_GROWTH if setting.device == "cpu" else 0
    programs = PROGRAMS if is_half_on_cpu else 0
    held = setting.process_bytes + weights + trained + growth
    return MemoryPlan(
        process=setting.process_bytes,
        weights=weights,
        adapter=trained,
        gradients=gradients,
        optimizer=optimizer,
        activations=activations,
        logits=logits,
        backward=working,
        allocator=_scattered_bytes(sizes, batch.tokens, setting) + growth + programs,
        loading=held + loading_bytes(sizes, setting),
        evaluation=held + optimizer + programs + _evaluation_bytes(sizes, setting),
    )


def _bucket_bytes(sizes: ModelSizes, setting: Setting) -> int:
    """DeepSpeed's buffers of gradients, one or (stages 2 and 3) two; on a CPU what fills them."""
    bucket = setting.sharing.bucket
    if setting.device == "cpu":
        bucket = min(sizes.trained, bucket)
    return (2 if setting.sharing.gradients else 1) * bucket * _FLOAT32


def _scattered_bytes(sizes: ModelSizes, tokens: int, setting: Setting) -> int:
    """Freed memory that the allocator keeps: a share of what a step makes in small arrays.

    A step makes what every block keeps, also where it is made twice instead of kept, and each
    quantized weight as it is computed with.
    """
    if setting.device == "cuda":
        return 0
    made = activation_bytes(sizes, tokens, replace(setting, recomputes=False, offloads=False))
    made += sizes.quantized * setting.computed_bytes
    widths = (sizes.width, sizes.inner)
    small = sum(tokens * width * setting.computed_bytes < HEAP_BYTES for width in widths)
    return round(SCATTER * made * small / len(widths))


def optimizer_bytes(sizes: ModelSizes, optim: str) -> int:
    """Two means of each trained weight.

    float32; or a byte each, and two float32 for each 256 of them, where the tensor is large
    enough for bitsandbytes to do so.
    """
    if optim == "adamw":
        return sizes.trained * 2 * _FLOAT32
    large = sizes.trained - sizes.small_trained
    return sizes.small_trained * 2 * _FLOAT32 + round(large * (2 + 2 * _FLOAT32 / 256))


def activation_bytes(sizes: ModelSizes, tokens: int, setting: Setting) -> int:
    """What is kept for the backward pass.

    With gradient checkpointing the input of each block, and all that the largest one keeps; else
    all that each keeps. Weights in another precision than that of computation are kept once
    more, as they were computed with.
    """

    def numbers(kept: Kept) -> int:
        return (
            kept.computed * setting.computed_bytes
            + kept.stream * setting.stream_bytes
            + kept.float32 * _FLOAT32
        )

    per_block = [numbers(kept) for kept in sizes.blocks]
    per_token = numbers(sizes.outside) + sum(per_block)
    copies = 0
    if setting.weight_bytes != setting.computed_bytes:
        copies = (sizes.adapted or sizes.trained) * setting.computed_bytes
    if setting.recomputes:
        inputs = len(per_block) * sizes.width * setting.stream_bytes
        per_token = numbers(sizes.outside) + inputs + max(per_block, default=0)
        copies //= max(len(per_block), 1)
    if setting.offloads:
        per_token = numbers(sizes.outside) + max(per_block, default=0)
    return per_token * tokens + copies


def logit_bytes(sizes: ModelSizes, batch: MicroBatch, setting: Setting) -> int:
    """What the language head and its loss hold at once.

    In chunks: a chunk's logits, which their gradient replaces, the hidden states of the targets
    and their gradient, and the gradient of a head that is trained. Otherwise three arrays of
    logits of the targets, or those of every position and two of the targets.
    """
    words, width = sizes.vocabulary, sizes.width
    if not words:
        return 0
    if not sizes.head_is_cut:
        return _FLOAT32 * words * max(3 * batch.targets, batch.tokens + 2 * batch.targets)
    head = words * width * _FLOAT32 if sizes.head_is_trained else 0
    hidden = 2 * batch.targets * width * setting.computed_bytes
    return _chunk_bytes(batch.targets, words, setting) + hidden + head


def _chunk_bytes(targets: int, words: int, setting: Setting) -> int:
    """A chunk's logits, and on CUDA their float32; on a CPU that is a block of a few rows."""
    each, most = setting.computed_bytes, chunk_rows(words)
    rows = min(targets, most)
    if each != _FLOAT32 and setting.device == "cuda":
        each += _FLOAT32
    elif each != _FLOAT32:
        rows = filled_chunk(rows, most)
    return rows * words * each


def _evaluation_bytes(sizes: ModelSizes, setting: Setting) -> int:
    """Without a backward pass: the widest arrays of one block, and a chunk of logits."""
    arrays = (2 * sizes.inner + 4 * sizes.width) * setting.eval_tokens * setting.computed_bytes
    if not sizes.vocabulary:
        return arrays
    tokens, words = setting.eval_tokens, sizes.vocabulary
    if not sizes.head_is_cut:
        return arrays + 2 * tokens * words * _FLOAT32
    log_probs = setting.device == "cuda" and min(tokens * words * _FLOAT32, CHUNK_BYTES)
    return arrays + _chunk_bytes(tokens, words, setting) + log_probs
