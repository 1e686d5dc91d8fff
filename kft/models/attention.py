"""Registers attention over documents with transformers, and sees whether a model keeps to it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from kft.ops.attention import NAME, Attention, Documents, attend_documents
from kft.tasks.inputs import model_inputs, plain_model
from kft.tasks.task import Batch

_OWN = ("eager", "sdpa", NAME)
"""Attention functions that take kft's masks; others have a form of their own."""


def document_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **options: Any,
) -> tuple[Tensor, None]:
    """An attention function as transformers calls it; padded rows go through its ``sdpa``.

    Args:
        module: The layer that asks; says whether it is causal.
        query: float (B, H, T, E).
        key: float (B, K, T, E).
        value: float (B, K, T, E).
        attention_mask: Used where there are no documents.
        options: What transformers passes on (``scaling``, ``dropout``, ``sliding_window``,
            ``is_causal``), and kft's ``documents`` of one row (B = 1) without padding.

    Returns:
        float (B, T, H, E), and no attention weights.
    """
    documents: Documents | None = options.pop("documents", None)
    if documents is None:
        output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return output, None
    said = options.get("is_causal")
    causal = bool(getattr(module, "is_causal", True) if said is None else said)
    kind = Attention(
        causal,
        scale=options.get("scaling"),
        dropout=options.get("dropout", 0.0),
        window=options.get("sliding_window") if causal else None,
    )
    return attend_documents(query, key, value, documents, kind).contiguous(), None


AttentionInterface.register(NAME, document_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)  # without it padding would count as tokens


def use_document_attention(model: Any) -> bool:
    """Let a model attend document by document, if what it says of each stays the same.

    Args:
        model: A transformers model without an adapter; its attention function is changed, or
            left as it is when the model does not keep documents apart with the new one.

    Returns:
        Whether it was changed.
    """
    before = model.config._attn_implementation
    if before != "sdpa" or not getattr(model, "_supports_sdpa", False):
        return False
    ids = _documents_of_ids(model)
    alone = [_hidden(model, _batch([one])) for one in ids]
    model.set_attn_implementation(NAME)
    if model.config._attn_implementation == NAME and keeps_documents_apart(model, alone):
        return True
    model.set_attn_implementation(before)
    return False


def keeps_documents_apart(model: Any, alone: list[Tensor] | None = None) -> bool:
    """Whether documents in one row are to a model what each is alone, found by asking it.

    The second document's hidden states must not change in a single bit when the first one does,
    and those of both must be what each has alone, to rounding.

    Args:
        model: A transformers model, or a PEFT model around one.
        alone: What the documents were alone, if another attention function said so.
    """
    plain = plain_model(model)
    if plain.config._attn_implementation not in _OWN:
        return False
    ids = _documents_of_ids(plain)
    alone = alone or [_hidden(plain, _batch([one])) for one in ids]
    together = _hidden(plain, _batch(ids))
    other = _hidden(plain, _batch([ids[0].roll(1), ids[1]]))
    if together is None or other is None or any(one is None for one in alone):
        return False
    if not torch.equal(together[:, len(ids[0]) :], other[:, len(ids[0]) :]):
        return False
    difference = torch.linalg.vector_norm(together - torch.cat(alone, dim=1))
    limit = 1e-4 if together.dtype == torch.float32 else 3e-2
    return bool(difference <= limit * torch.linalg.vector_norm(together))


def _documents_of_ids(plain: Any) -> list[Tensor]:
    """Two short texts of ordinary ids; int64 (5,) and (4,)."""
    vocabulary = int(plain.get_input_embeddings().weight.shape[0])
    ids = torch.arange(9) * 7 % max(vocabulary - 5, 1) + min(5, vocabulary - 1)
    return [ids[:5], ids[5:]]


def _batch(documents: list[Tensor]) -> Batch:
    lengths = tuple(len(one) for one in documents)
    return Batch(
        input_ids=torch.cat(documents).unsqueeze(0),
        labels=torch.zeros(0),
        attention_mask=None,
        position_ids=torch.cat([torch.arange(length) for length in lengths]).unsqueeze(0),
        num_tokens=sum(lengths),
        num_counted=0,
        documents=Documents(lengths) if len(documents) > 1 else None,
    )


def _hidden(plain: Any, batch: Batch) -> Any:
    """The body's hidden states, float32 (1, T, D); ``None`` when it can't make them."""
    body = getattr(plain, plain.base_model_prefix, plain)
    was_training = plain.training
    plain.eval()
    try:
        with torch.no_grad():
            inputs = model_inputs(plain, batch.to(next(plain.parameters()).device))
            hidden = getattr(body(**inputs), "last_hidden_state", None)
            return None if hidden is None else hidden[:, : batch.num_tokens]
    except (TypeError, ValueError, RuntimeError, IndexError):  # a model with inputs of its own
        return None
    finally:
        plain.train(was_training)
