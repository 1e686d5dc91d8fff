"""Write a GGUF file, read it again, and compare it with the model it was made from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy
import torch
from torch import Tensor

from kft.errors import ExportError, counted
from kft.export.differences import Differences, measure
from kft.export.gguf_architecture import Architecture, Value
from kft.export.gguf_model import GgufModel
from kft.export.gguf_tensors import ROPE_FREQUENCIES, Placed, placed_tensors, rope_factors, to_model
from kft.export.gguf_tokenizer import Vocabulary
from kft.export.rounding import FLOAT32_KL_NATS, FLOAT32_LOGITS, Limits
from kft.export.verify import Verification, compare
from kft.tasks.task import Batch

Kind = gguf.GGMLQuantizationType
KINDS = {"float32": Kind.F32, "float16": Kind.F16, "q8_0": Kind.Q8_0}
"""Precisions of the matrices; norms, biases and GPT-2's positions stay float32."""

_FILE_TYPES = {Kind.F32: "ALL_F32", Kind.F16: "MOSTLY_F16", Kind.Q8_0: "MOSTLY_Q8_0"}
_LIMITS = Limits(FLOAT32_LOGITS, FLOAT32_KL_NATS, "float32", "fixed for float32")


@dataclass(frozen=True)
class Content:
    """What a file is made of.

    Args:
        model: The transformers model, float32, on the CPU.
        architecture: Its sizes.
        vocabulary: Its tokenizer.
        name: What the file calls it.
        dtype: A name of :data:`KINDS`.
    """

    model: Any
    architecture: Architecture
    vocabulary: Vocabulary
    name: str
    dtype: str


def write_gguf(content: Content, path: Path) -> None:
    """Write a model and its tokenizer; each matrix is converted when its turn comes.

    Raises:
        ExportError: If a weight is too large for the precision, or has no name in GGUF.
    """
    writer = gguf.GGUFWriter(path, content.architecture.name)
    kind = KINDS[content.dtype]
    writer.add_name(_harmless(content.name))
    writer.add_file_type(gguf.LlamaFileType[_FILE_TYPES[kind]])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for key, value in content.architecture.fields.items():
        _add(writer, f"{content.architecture.name}.{key}", value)
    _add_vocabulary(writer, content.vocabulary)
    for placed in placed_tensors(content.model, content.architecture):
        own = _kind_of(placed, kind)
        shape = tuple(placed.value.shape)
        stored = gguf.quant_shape_to_byte_shape(shape, own)
        # Told as bytes, the shape is worked out from them; floats are told as they are.
        is_bytes = own == Kind.Q8_0
        writer.add_tensor_info(
            placed.name,
            stored if is_bytes else shape,
            numpy.dtype(numpy.uint8 if is_bytes else numpy.float32),
            int(numpy.prod(stored)),
            raw_dtype=own,
        )
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for placed in placed_tensors(content.model, content.architecture):
            writer.write_tensor_data(_converted(placed, kind))
    finally:
        writer.close()


def _harmless(name: str) -> str:
    """A name in which llama.cpp, which has tokens of some models by their names, finds none."""
    return "model" if re.search("phi-?3|modern-bert", name.lower()) else name


def _kind_of(placed: Placed, kind: Kind) -> Kind:
    if not placed.is_matrix:
        return Kind.F32
    block, _ = gguf.GGML_QUANT_SIZES[kind]
    return kind if placed.value.shape[1] % block == 0 else Kind.F16


def _converted(placed: Placed, kind: Kind) -> numpy.ndarray[Any, Any]:
    own = _kind_of(placed, kind)
    largest = float(placed.value.abs().max())
    if own != Kind.F32 and not largest <= torch.finfo(torch.float16).max:
        raise ExportError(
            f"A weight is too large for {own.name}: {largest:g}",
            where=f"`{placed.key}`",
            hint="`--dtype float32` holds it.",
        )
    return gguf.quantize(placed.value.numpy(), own)


def _add(writer: gguf.GGUFWriter, key: str, value: Value) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    else:
        writer.add_string(key, value)


def _add_vocabulary(writer: gguf.GGUFWriter, vocabulary: Vocabulary) -> None:
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(list(vocabulary.tokens))
    writer.add_token_types([int(one) for one in vocabulary.types])
    if vocabulary.model == "gpt2":
        writer.add_token_merges(list(vocabulary.merges))
    else:
        writer.add_token_scores(list(vocabulary.scores))
        writer.add_add_space_prefix(vocabulary.adds_space)
    for role, number in (vocabulary.special or {}).items():
        getattr(writer, f"add_{role}_token_id")(number)
    writer.add_add_bos_token(vocabulary.adds_bos)
    writer.add_add_eos_token(False)
    if vocabulary.chat_template is not None:
        writer.add_chat_template(vocabulary.chat_template)


def verify_gguf(
    content: Content, path: Path, batches: list[Batch]
) -> tuple[Verification, dict[str, Any]]:
    """Read a file again and compare it: each tensor, the tokens, and what it computes.

    Every tensor is brought back into the model's layout and compared with the weight it was made
    from. The model then takes these values over, and its logits on held-out rows are compared with
    those that the file's own sizes and tensors give the way llama.cpp computes them
    (:class:`GgufModel`), so that what rounding does is kept apart from what is wrong.

    Args:
        content: What was written; **its model's weights are overwritten by the file's.**
        path: The file.
        batches: Held-out rows.

    Returns:
        The comparison, and what rounding the weights did: largest difference of logits, KL and
        loss against the model as it was.

    Raises:
        ExportError: If anything differs by more than the file's precision.
    """
    found = GgufModel(path, content.model.config)
    _compare_vocabulary(found.fields, content.vocabulary)
    values = _compare_tensors(found, content)
    rounding = measure(content.model, found, batches)
    with torch.no_grad():
        state = content.model.state_dict()
        for key, value in values():
            state[key].copy_(value)
    verification = compare(content.model, found, batches, _LIMITS)
    if not verification.passed:
        raise ExportError(
            "The GGUF file doesn't say what the model says that it was made from",
            where=f"largest difference of logits {verification.max_logit_difference:.2g}, "
            f"KL {verification.kl_nats:.2g} nats",
            expected=f"at most {_LIMITS.logits:g} and {_LIMITS.kl_nats:g} nats",
        )
    return verification, _told(rounding, content, len(found.tensors))


def _told(rounding: Differences, content: Content, num_tensors: int) -> dict[str, Any]:
    num_targets = max(rounding.num_targets, 1)
    return {
        "weights": content.dtype,
        "num_tensors": num_tensors,
        "rounding_max_logit_difference": float(rounding.largest),
        "rounding_kl_nats": rounding.kl_nats,
        "rounding_top1_agreement": rounding.agreeing / rounding.num_positions,
        "rounding_loss_difference": (rounding.merged_loss - rounding.reference_loss) / num_targets,
    }


def _compare_vocabulary(fields: dict[str, Any], vocabulary: Vocabulary) -> None:
    named = {"bos": "bos", "eos": "eos", "pad": "padding", "unk": "unknown"}
    wanted: dict[str, Any] = {
        "ggml.model": vocabulary.model,
        "ggml.pre": vocabulary.pre,
        "ggml.tokens": list(vocabulary.tokens),
        "ggml.token_type": [int(one) for one in vocabulary.types],
        "ggml.merges": list(vocabulary.merges) or None,
        "ggml.scores": [float(numpy.float32(one)) for one in vocabulary.scores] or None,
        "ggml.add_bos_token": vocabulary.adds_bos,
        "chat_template": vocabulary.chat_template,
    }
    for role, number in (vocabulary.special or {}).items():
        wanted[f"ggml.{named[role]}_token_id"] = number
    for key, value in wanted.items():
        if fields.get(f"tokenizer.{key}") != value:
            raise ExportError(
                "The GGUF file has other tokens than it was to have", where=f"`tokenizer.{key}`"
            )


def _compare_tensors(found: GgufModel, content: Content) -> Any:
    """Every weight against the file's; gives a way to go through the file's once more."""
    state = content.model.state_dict()
    wanted = {
        one.name: one.key for one in placed_tensors(content.model, content.architecture) if one.key
    }
    odd = sorted(set(wanted) ^ (set(found.tensors) - {ROPE_FREQUENCIES}))
    if odd:
        raise ExportError(
            f"The GGUF file lacks or adds {counted(len(odd), 'tensor')}", where=f"first `{odd[0]}`"
        )
    factors = rope_factors(content.model)
    if factors is not None and not torch.equal(found.tensor(ROPE_FREQUENCIES), factors):
        raise ExportError("The GGUF file has other tensors", where=f"`{ROPE_FREQUENCIES}`")

    def values() -> Any:
        for name, key in wanted.items():
            shape = state[key].shape
            yield key, to_model(found.tensor(name), key, content.architecture, shape)

    for (name, key), (_, value) in zip(wanted.items(), values(), strict=True):
        difference = float((value - state[key]).abs().max())
        limit = _step(state[key], found.tensors[name].tensor_type)
        if not difference <= limit:
            raise ExportError(
                "A tensor of the GGUF file isn't the model's weight",
                where=f"`{name}` and `{key}`: largest difference {difference:.2g}",
                expected=f"at most {limit:.2g}",
            )
    return values


def _step(value: Tensor, kind: Kind) -> float:
    """How far rounding to a precision may move the numbers of a weight."""
    largest = float(value.abs().max())
    if kind == Kind.F32:
        return 0.0
    if kind == Kind.F16:  # half a unit in the last place, or of the smallest numbers
        return max(largest * 2.0**-11, 2.0**-25)
    # Half of one of 127 steps, whose size is itself rounded to float16.
    return largest / 127 * 0.5 + max(largest * 2.0**-11, 127 * 2.0**-25)
