"""A checkpoint from a folder or the hub: configuration, tokenizer and weights, or a clear error."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoConfig, GenerationConfig

from kft.errors import Finding, ModelError, nearest_name
from kft.models.architecture import check_architecture
from kft.models.checkpoint_files import (
    check_config_file,
    check_weight_files,
    refused_pickle,
)
from kft.models.decoders import fit_attention, model_class
from kft.models.heads import HeadOptions, check_complete, configure_head
from kft.models.hub import find_hub
from kft.models.leftover import leftover_findings
from kft.models.quantization import keep_4bit_layers_intact, quantization_config
from kft.models.special_tokens import stop_ids
from kft.recipe.schema import ModelSection

_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


def load_config(section: ModelSection) -> Any:
    """The checkpoint's configuration, with the recipe's dropout written into it.

    Raises:
        ModelError: If there is no readable ``config.json``, or it needs code that the recipe
            does not allow.
    """
    check_name(section.name_or_path, "`model.name_or_path`")
    if Path(section.name_or_path).is_dir():
        check_config_file(Path(section.name_or_path), "`model.name_or_path`")
    else:
        find_hub()
    try:
        config = AutoConfig.from_pretrained(
            section.name_or_path,
            revision=section.revision,
            trust_remote_code=section.trust_remote_code,
        )
    except (OSError, ValueError, KeyError, StrictDataclassError) as cause:
        raise unreadable(section, "config", cause) from cause
    for key in _DROPOUT_KEYS:
        if hasattr(config, key):
            setattr(config, key, section.dropout)
    return config


_DROPOUT_KEYS = (
    "attn_pdrop",
    "attention_probs_dropout_prob",
    "classifier_dropout",
    "hidden_dropout_prob",
    "summary_last_dropout",
    "embd_pdrop",
    "resid_pdrop",
    "attention_dropout",
    "hidden_dropout",
    "embed_dropout",
    "resid_dropout",
)


def load_model(
    section: ModelSection,
    *,
    auto_class: str,
    dtype: torch.dtype,
    device: torch.device,
    head: HeadOptions | None = None,
) -> Any:
    """As :func:`load_model_with_head`, the model alone."""
    return load_model_with_head(
        section, auto_class=auto_class, dtype=dtype, device=device, head=head
    )[0]


def load_model_with_head(
    section: ModelSection,
    *,
    auto_class: str,
    dtype: torch.dtype,
    device: torch.device,
    head: HeadOptions | None = None,
    shared: bool = False,
) -> tuple[Any, list[str], list[Finding]]:
    """The checkpoint's weights in a transformers model on ``device``, in eval mode.

    Args:
        section: What to load; ``init: random`` draws the weights instead.
        auto_class: Name of the transformers class that fits the task.
        dtype: Precision of the weights that are not quantized, and of 4-bit computation.
        device: Where the weights go.
        head: What the last layer is to say; ``None`` is the checkpoint's own.
        shared: Ranks will share the weights.

    Returns:
        The model, and the names of its weights that the checkpoint did not have: only those of
        a head that it was never trained with, drawn with the head's seed; and what to tell of
        weights that the model has no place for.

    Raises:
        ModelError: If the checkpoint can't be read, its weights don't fill the model, or some are
            left over that belong inside: kft never trains on weights that were silently drawn at
            random, nor on a part of a checkpoint.
    """
    head = head or HeadOptions()
    config = load_config(section)
    fit_attention(config, auto_class, section.attention)
    configure_head(config, head, auto_class)
    check_architecture(config, auto_class, section.attention)
    if section.init != "random" and Path(section.name_or_path).is_dir():
        check_weight_files(Path(section.name_or_path))
    factory = model_class(config, auto_class)
    options: dict[str, Any] = {"dtype": dtype, "trust_remote_code": section.trust_remote_code}
    if section.attn_implementation != "auto":
        options["attn_implementation"] = section.attn_implementation
    new: list[str] = []
    told: list[Finding] = []
    try:
        if section.init == "random":
            model = factory.from_config(config, **options).to(device)
        else:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(head.seed)
                model, loading = factory.from_pretrained(
                    section.name_or_path,
                    config=config,
                    revision=section.revision,
                    quantization_config=quantization_config(
                        section, dtype, auto_class, config, shared=shared
                    ),
                    output_loading_info=True,
                    ignore_mismatched_sizes=True,  # told by `check_complete`, with both shapes
                    device_map={"": device},
                    **options,
                )
            new = check_complete(section.name_or_path, model, loading, auto_class)
            told = leftover_findings(section.name_or_path, model, loading["unexpected_keys"])
    except UnpicklingError as cause:
        raise refused_pickle(section.name_or_path, cause) from cause
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as cause:
        raise unreadable(section, "weights", cause) from cause
    keep_4bit_layers_intact(model)
    model.eval()
    return model, new, told


def vocabulary_rows(model: Any) -> int:
    """Rows of the model's token embedding."""
    return int(model.get_input_embeddings().weight.shape[0])


def weights_sha256(name_or_path: str) -> str | None:
    """One sha256 over the checkpoint's weight files in name order; ``None`` for the hub's."""
    folder = Path(name_or_path)
    if not folder.is_dir():
        return None
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.safetensors"), *folder.glob("pytorch_model*.bin")]):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def clean_generation_config(model: Any, tokenizer: Any) -> None:
    """Give the model the tokenizer's end and padding tokens; KoGPT2's config has others.

    Ids of the config that lie outside the vocabulary (KoGPT2 v1) are replaced there as well.
    """
    rows = vocabulary_rows(model)
    model.config.pad_token_id = tokenizer.pad_token_id
    for key in ("bos_token_id", "eos_token_id"):
        said = getattr(model.config, key, None)
        if isinstance(said, int) and said >= rows:
            setattr(model.config, key, getattr(tokenizer, key))
    if not model.can_generate():
        return
    config = model.generation_config or GenerationConfig()
    ends = config.eos_token_id if config.eos_token_id is not None else []
    ends = list(ends) if isinstance(ends, list) else [ends]
    ends = [end for end in ends if end < rows and end != tokenizer.eos_token_id]
    ends += [end for end in stop_ids(tokenizer) if end not in ends]
    config.eos_token_id = [tokenizer.eos_token_id, *ends] if ends else tokenizer.eos_token_id
    config.pad_token_id = tokenizer.pad_token_id
    config.bos_token_id = tokenizer.bos_token_id
    model.generation_config = config


def check_name(place: str, where: str) -> None:
    """See that a name can be a checkpoint's: a folder here, or a name on the hub.

    Args:
        place: Path or hub name.
        where: The recipe's key, for the message.

    Raises:
        ModelError: If it is neither.
    """
    if Path(place).is_dir():
        return
    path = Path(place)
    is_below_a_folder = "/" in place and path.parent.is_dir()  # `runs/opinon`, where `runs` is
    looks_like_path = place.startswith((".", "/", "~")) or place.count("/") > 1
    if looks_like_path or is_below_a_folder or path.exists() or not _HUB_NAME.fullmatch(place):
        meant = None
        if is_below_a_folder:
            meant = nearest_name(path.name, [one.name for one in path.parent.iterdir()])
        raise ModelError(
            f"There is no checkpoint folder `{place}`",
            where=where,
            expected="a folder with `config.json`, or a name on the hub (`skt/kogpt2-base-v2`)",
            hint=f"Did you mean `{path.parent / meant}`?" if meant else None,
        )


def unreadable(section: ModelSection, part: str, cause: Exception) -> ModelError:
    """The error for a checkpoint's ``part`` (config, tokenizer, weights) that a library refuses."""
    place = section.tokenizer or section.name_or_path
    if part != "tokenizer":
        place = section.name_or_path
    reason = first_line(cause)
    if "trust_remote_code" in str(cause) or "custom code" in str(cause):
        return ModelError(
            f"The checkpoint `{place}` needs Python code of its own",
            where="`model.name_or_path`",
            expected="an architecture that transformers knows",
            hint="`model.trust_remote_code: true` with a pinned `model.revision` runs that code.",
        )
    is_local = Path(place).is_dir()
    if not is_local and not find_hub():
        reason = "it isn't in the hub's cache, and the hub is out of reach"
    return ModelError(
        f"The {part} of `{place}` can't be loaded: {reason}",
        where="`model.tokenizer`"
        if part == "tokenizer" and section.tokenizer
        else "`model.name_or_path`",
        expected="a readable checkpoint folder"
        if is_local
        else "a folder here, or a name on the hub",
        hint=None
        if is_local
        else f"`hf download {place}` fetches it where there is a network; `HF_HOME` names the "
        "cache to take along. Or name a local folder.",
    )


def first_line(cause: Exception) -> str:
    """The first line of a library's message that says something."""
    if isinstance(cause, KeyError):  # says only the name
        return f"it has no {cause}"
    lines = [line.strip() for line in str(cause).splitlines()]
    said = (line for line in lines if line and not line.endswith(":"))
    return next(said, type(cause).__name__)
