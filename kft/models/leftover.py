"""Weights of a checkpoint that the model has no place for: known ones are told, others refused."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from kft.errors import Finding, ModelError, counted, name_list

_BUFFERS = re.compile(
    r"(^|\.)(position_ids|token_type_ids|inv_freq|(attn|attention|crossattention)\.(masked_)?bias)$"
)
"""Constants that older versions of transformers saved; models make them anew."""

_HEADS = re.compile(
    r"^(cls|lm_head|embed_out|generator_predictions|generator_lm_head|discriminator_predictions|"
    r"classifier|score|qa_outputs|sop_classifier|predictions|pre_classifier|vocab_\w+)\."
    r"|(^|\.)pooler\."
)
"""Last layers for other tasks than the run's, and the pooler that only some of them use."""


def leftover_findings(place: str, model: Any, names: Iterable[str]) -> list[Finding]:
    """What to tell of weights that a checkpoint has and the model doesn't.

    Args:
        place: The checkpoint, for the message.
        model: As transformers loaded it.
        names: The unexpected weights, as transformers says them; those that a model class declares
            to be of no use are not among them.

    Returns:
        A note for constants and for heads of other tasks, a warning for other parts beside the
        pretrained body (a vision tower, say).

    Raises:
        ModelError: If one belongs inside the body: ``config.json`` describes another model than
            the one that was trained, one with fewer layers perhaps.
    """
    left = sorted({str(name) for name in names})
    known = [name for name in left if _BUFFERS.search(name) or _HEADS.search(name)]
    others = [name for name in left if name not in known]
    inside = [name for name in others if _is_inside(model, name)]
    kind = type(model).__name__
    if inside:
        raise ModelError(
            f"The checkpoint has {counted(len(inside), 'weight')} that `{kind}` with this "
            f"`config.json` has no place for: {name_list(inside)}",
            where=place,
            expected="weights and configuration of the same model",
        )
    findings = []
    if others:
        what = (
            f"{counted(len(others), 'weight')} of the checkpoint left unused: `{kind}` has no "
            f"place for {name_list(others)}"
        )
        findings.append(Finding("warning", what, where=place))
    if known:
        what = (
            f"{counted(len(known), 'weight')} of the checkpoint left unused, of heads of other "
            f"tasks or constant: {name_list(known)}"
        )
        findings.append(Finding("note", what, where=place))
    return findings


def _is_inside(model: Any, name: str) -> bool:
    """Whether a weight belongs below the pretrained body, written with its prefix or without.

    So does one that was saved from inside a wrapper: adapters, quantized weights.
    """
    prefix = f"{model.base_model_prefix}."
    parts = {child for child, _ in model.base_model.named_children()}
    first = name.removeprefix(prefix).split(".")[0]
    return name.startswith((prefix, "base_model.")) or first in parts or "lora_" in name
