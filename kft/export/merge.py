"""Base + adapter -> one plain checkpoint, written beside its place and published when proven.

The order is: :func:`plain_base`, ``fit_vocabulary``, :func:`load_adapter`, ``rounding_limits``,
:func:`fold_adapter`, :func:`save_merged`, verification of the folder it returned,
:func:`publish` (or :func:`discard`). Nothing half-written or unproven ever stands under the
final name.
"""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from kft.errors import ExportError, ModelError
from kft.export.dequantize import dequantized_weight, is_quantized
from kft.export.places import discard
from kft.models.adapters import attach_adapter
from kft.models.decoders import published_class
from kft.models.heads import HeadOptions
from kft.models.loader import load_model, vocabulary_rows
from kft.models.vocabulary import resize_vocabulary
from kft.recipe.schema import ModelSection

_SAMPLING_OPTIONS = (
    *("temperature", "top_k", "top_p", "min_p", "top_h", "typical_p"),
    *("epsilon_cutoff", "eta_cutoff"),
)

# What PEFT says about things that are seen to here, and proven afterwards.
_EXPECTED_WARNINGS = (
    "fan_in_fan_out is set to",  # an adapter from a quantized Conv1D, on the plain one
    "Model has `tie_word_embeddings=True`",  # `_settle_tying` does what is asked for there
    "You have requested `ensure_weight_tying`",
    "Input and output embeddings are no longer tied",
)


def plain_base(
    section: ModelSection,
    auto_class: str,
    trained_base: Any | None = None,
    head: HeadOptions | None = None,
) -> Any:
    """The base that an adapter is merged into: unquantized, float32, on the CPU.

    An adapter makes up for the errors of the very weights it was trained against. With 4 or 8
    bits these are the dequantized weights, and for a base held in bfloat16 or float16 they are
    the rounded ones, not the checkpoint's own. Both are taken from ``trained_base``, value by
    value. Without it the checkpoint's own weights are used: right when the base was held in
    float32, and otherwise the usual way of merging (``export.base: original``).

    A 4-bit weight is dequantized in float32. The kernels dequantize in the precision of the
    activations, so this is the value that every one of them rounds from.

    Args:
        section: The recipe's ``model``.
        auto_class: Name of the transformers class that fits the task.
        trained_base: The base as it was loaded for training, without an adapter; its
            vocabulary may have been enlarged. It is not changed.
        head: What the last layer is to say; ``None`` is the checkpoint's own.

    Returns:
        A transformers model without a trace of quantization.

    Raises:
        ModelError: If the checkpoint can't be read.
        ExportError: If the checkpoint itself is stored quantized, or its layers are not those
            of ``trained_base``.
    """
    plain_section = section.model_copy(update={"quantization": "none"})
    plain = load_model(
        plain_section,
        auto_class=auto_class,
        dtype=torch.float32,
        device=torch.device("cpu"),
        head=head,
    )
    if getattr(plain.config, "quantization_config", None) is not None:
        raise ExportError(
            f"The checkpoint `{section.name_or_path}` is itself stored quantized",
            where="`model.name_or_path`",
            expected="a checkpoint with float weights; `model.quantization` quantizes it",
        )
    if trained_base is not None:
        num_rows = vocabulary_rows(trained_base)
        if num_rows > vocabulary_rows(plain):
            resize_vocabulary(plain, num_rows)
        _take_weights(plain, trained_base)
    return plain


def _take_weights(plain: nn.Module, trained: nn.Module) -> None:
    """Overwrite every parameter of ``plain`` by that of ``trained``, dequantized."""
    sources = dict(trained.named_modules())
    for name, layer in plain.named_modules():
        source: Any = sources.get(name)
        if source is None:
            raise ExportError(
                "The trained base has other layers than the checkpoint",
                where=f"layer `{name}`",
                expected="a base without an adapter, of the recipe's checkpoint",
            )
        for key, parameter in layer.named_parameters(recurse=False):
            value = getattr(source, key).data
            if key == "weight" and is_quantized(source):
                value = dequantized_weight(source)
                if isinstance(layer, Conv1D):  # holds (inputs, outputs), even where square
                    value = value.T
            parameter.data.copy_(value)


def load_adapter(base: Any, adapter_folder: Path) -> Any:
    """A plain base with a saved adapter on it, not merged: what the limits are measured on.

    Args:
        base: What :func:`plain_base` gave, with as many rows as the tokenizer has tokens;
            changed in place.
        adapter_folder: What ``PeftModel.from_pretrained`` loads.

    Raises:
        ExportError: If the adapter does not fit the base or lacks weights.
    """
    with warnings.catch_warnings():
        for message in _EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", message=message, category=UserWarning)
        # PEFT only warns. Base + adapter would have the same holes, so nothing would differ.
        warnings.filterwarnings("error", message="Found missing adapter keys")
        try:
            return attach_adapter(base, adapter_folder, exact=True).eval()
        except (ModelError, UserWarning) as cause:
            raise _not_mergeable(str(adapter_folder), cause) from cause


def fold_adapter(adapted: Any) -> Any:
    """What :func:`load_adapter` gave, as one plain transformers model in float32.

    An embedding and a head that were tied and still are equal stay tied: PEFT unties them when
    it gave each its own copy. Where the adapter made them differ, the model's configuration
    says that they are not tied, or the saved head would be lost on loading.

    Raises:
        ExportError: If a merged weight isn't finite.
    """
    with warnings.catch_warnings():
        for message in _EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", message=message, category=UserWarning)
        was_tied = bool(adapted.config.get_text_config().tie_word_embeddings)
        try:
            merged = adapted.merge_and_unload(safe_merge=True)
        except ValueError as cause:
            raise _not_mergeable("the adapter", cause) from cause
    merged.float()
    _settle_tying(merged, was_tied=was_tied)
    return merged.eval()


def merge_adapter(base: Any, adapter_folder: Path) -> Any:
    """:func:`load_adapter` and :func:`fold_adapter` in one: base and folder in, model out."""
    return fold_adapter(load_adapter(base, adapter_folder))


def _not_mergeable(where: str, cause: Exception) -> ExportError:
    return ExportError(
        f"The adapter can't be merged: {_first_line(cause)}",
        where=where,
        expected="a whole adapter with finite weights, trained on this base",
    )


def _settle_tying(model: Any, *, was_tied: bool) -> None:
    """Make weights and ``tie_word_embeddings`` say the same, so that loading agrees with both."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if head is None:
        return
    is_tied = was_tied and torch.equal(head.weight, embedding.weight)
    if is_tied:
        head.weight = embedding.weight
    for config in (model.config, model.config.get_text_config()):
        config.tie_word_embeddings = is_tied


def save_merged(
    model: Any, tokenizer: Any, folder: Path, dtype: torch.dtype, max_shard_size: str
) -> Path:
    """Write model and tokenizer as a plain transformers checkpoint beside ``folder``.

    Args:
        model: The merged (or fully trained) model; its weights are not changed.
        tokenizer: Saved with it, chat template included.
        folder: Where the checkpoint is to stand once :func:`publish` has moved it there.
        dtype: Precision of the saved weights.
        max_shard_size: Size of one safetensors file at most, such as ``5GB``.

    Returns:
        The folder written: ``folder`` with ``.part`` at its end.

    Raises:
        ExportError: If a weight is too large for ``dtype``, or the disk refuses.
    """
    part = folder.with_name(f"{folder.name}.part")
    weights = _cast(model, dtype)
    _drop_unused_sampling_options(getattr(model, "generation_config", None))
    config = copy.deepcopy(model.config)
    config.dtype = dtype
    config.architectures = [published_class(model)]
    try:
        discard(part)
        part.mkdir(parents=True)
        model.save_pretrained(part, state_dict=weights, max_shard_size=max_shard_size)
        config.save_pretrained(part)  # once more: transformers wrote the precision in memory
        tokenizer.save_pretrained(part)
    except (OSError, SafetensorError) as cause:
        discard(part)
        raise ExportError(
            f"The merged model can't be written: {_first_line(cause)}",
            where=str(part),
            expected="a writable disk with room for it",
        ) from cause
    return part


def _cast(model: nn.Module, dtype: torch.dtype) -> dict[str, Tensor]:
    """The model's weights by name in ``dtype``; those that share memory still do."""
    state: dict[str, Tensor] = {}
    cast: dict[int, Tensor] = {}  # address of a weight -> what it became
    for name, value in model.state_dict().items():
        if not value.is_floating_point():
            state[name] = value
            continue
        address = value.data_ptr()
        if address not in cast:
            cast[address] = value.to(dtype)
            if not bool(cast[address].isfinite().all()) and bool(value.isfinite().all()):
                raise ExportError(
                    f"A merged weight is too large for {str(dtype).removeprefix('torch.')}",
                    where=f"`{name}`",
                    expected=f"at most {torch.finfo(dtype).max:g}",
                    hint="Set `export.dtype: bfloat16`.",
                )
        state[name] = cast[address]
    return state


def _drop_unused_sampling_options(config: Any) -> None:
    # Some checkpoints set a temperature and yet decode greedily; transformers refuses to save that.
    if config is not None and not config.do_sample:
        for option in _SAMPLING_OPTIONS:
            if getattr(config, option, None) is not None:
                setattr(config, option, None)


def _first_line(cause: BaseException) -> str:
    text = cause.what if isinstance(cause, ModelError) else str(cause).strip()
    return text.splitlines()[0] if text else type(cause).__name__
