"""How a language model's logits are had: found by asking the model, not by its name."""

from __future__ import annotations

import inspect
from typing import Any

import torch
import transformers
from torch.nn import functional

from kft.models.decoders import published_class
from kft.tasks.inputs import is_causal, plain_model
from kft.tasks.language_loss import LogitsFrom, head_parts


def logits_from(model: Any, *, fast: bool = True) -> LogitsFrom:
    """The least costly way that gives the model's own logits.

    Args:
        model: A transformers language model, or a PEFT model around one.
        fast: Cut the model before its head where that changes nothing.
    """
    if fast and splits_cleanly(model):
        return "hidden"
    return "positions" if keeps_positions(model) else "everywhere"


def splits_cleanly(model: Any) -> bool:
    """Whether hidden states and head by themselves give the model's logits, to rounding.

    A model that caps or scales its logits does not.
    """
    plain = plain_model(model)
    parts = head_parts(plain) if plain.get_output_embeddings() is not None else None
    if parts is None:
        return False
    device = next(plain.parameters()).device
    ids = torch.arange(3, device=device).unsqueeze(0) % parts.output.weight.shape[0]
    # With a cache compiled blocks would be compiled anew, one after another.
    asked = {"input_ids": ids, **({"use_cache": False} if is_causal(plain) else {})}
    was_training = plain.training
    plain.eval()
    try:
        with torch.no_grad():
            whole = plain(**asked).logits.float()
            hidden = parts.transform(parts.body(**asked).last_hidden_state)
            cut = functional.linear(hidden, parts.output.weight, parts.output.bias).float()
    except (TypeError, ValueError, RuntimeError, AttributeError):  # another kind of forward
        return False
    finally:
        plain.train(was_training)
    return whole.shape == cut.shape and torch.allclose(whole, cut, rtol=1e-4, atol=1e-4)


def keeps_positions(model: Any) -> bool:
    """Whether the model's ``logits_to_keep`` takes a bool mask (B, T) of positions.

    transformers has it since ``slice_logits_to_keep``; an older one, or a checkpoint's own
    code, makes the logits of every position.
    """
    base = plain_model(model)
    return (
        hasattr(transformers.modeling_utils, "slice_logits_to_keep")
        and hasattr(transformers, published_class(base))
        and "logits_to_keep" in inspect.signature(base.forward).parameters
    )
