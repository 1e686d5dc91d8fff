"""A language model with its loss: only positions that have a target reach the language head."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from kft.ops.head_loss import linear_cross_entropy_sum, linear_log_probs
from kft.ops.losses import LossSum, token_log_probs
from kft.tasks.inputs import document_numbers, ends, model_inputs, plain_model
from kft.tasks.task import Batch

Pick = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Labels (B, T) -> which flat positions (N,) are asked, and what each is to say (N,)."""

LogitsFrom = Literal["hidden", "positions", "everywhere"]
"""How logits are had. ``hidden``: the body's hidden states and the head apart, so that the head
and the loss run in chunks; ``positions``: the model's ``logits_to_keep`` takes a bool mask
(B, T); ``everywhere``: all logits are made and the targets' are picked."""


class HeadParts(NamedTuple):
    """A language model cut before its largest layer.

    Args:
        body: Makes hidden states (B, T, D).
        transform: What stands between those and the last layer.
        output: The last layer, from hidden states to the vocabulary.
    """

    body: Any
    transform: Callable[[Tensor], Tensor]
    output: nn.Linear


def head_parts(plain: Any) -> HeadParts | None:
    """The parts of a transformers language model; ``None`` where its head is another.

    Whether the model computes nothing else besides (a cap or a scale on its logits) is for
    the caller to try.
    """
    output = plain.get_output_embeddings()
    body = getattr(plain, plain.base_model_prefix, None)
    if type(output) is not nn.Linear or body is None or body is plain:
        return None
    if hasattr(plain, "cls"):  # BERT
        return HeadParts(body, plain.cls.predictions.transform, output)
    if hasattr(plain, "generator_predictions"):  # ELECTRA
        return HeadParts(body, plain.generator_predictions, output)
    head = getattr(plain, "lm_head", None)
    if head is not None and hasattr(head, "decoder"):  # RoBERTa
        return HeadParts(
            body, lambda hidden: head.layer_norm(functional.gelu(head.dense(hidden))), output
        )
    return HeadParts(body, _unchanged, output)


def _unchanged(hidden: Tensor) -> Tensor:
    return hidden


class LanguageLoss(nn.Module):
    """A language model with its loss: ``forward(batch)`` is the sum over its targets.

    Args:
        model: A transformers language model, or a PEFT model around one.
        pick: Which positions are asked, and for what.
        logits_from: How the logits are had.
    """

    def __init__(self, model: nn.Module, pick: Pick, *, logits_from: LogitsFrom) -> None:
        super().__init__()
        self.model = model
        self.pick = pick
        self.logits_from = logits_from

    def forward(self, batch: Batch) -> LossSum:
        """Negative log-likelihood in nats and number of targets of the micro-batch."""
        positions, targets = self.pick(batch.labels)  # (N,), (N,)
        count = torch.tensor(targets.numel(), device=targets.device)
        parts = self._parts()
        if parts is None:
            return LossSum(-token_log_probs(self._logits(batch, positions), targets).sum(), count)
        hidden = _picked_hidden(parts, self._plain(), batch, positions)  # (N, D)
        total = linear_cross_entropy_sum(hidden, parts.output.weight, parts.output.bias, targets)
        return LossSum(total, count)

    def row_losses(self, batch: Batch) -> LossSum:
        """The same per row or document, without gradients.

        Returns:
            ``total`` float32 (R,) in nats, ``count`` int64 (R,).
        """
        positions, targets = self.pick(batch.labels)
        parts = self._parts()
        if parts is None:
            log_probs = token_log_probs(self._logits(batch, positions), targets)
        else:
            hidden = _picked_hidden(parts, self._plain(), batch, positions)
            log_probs = linear_log_probs(hidden, parts.output.weight, parts.output.bias, targets)
        rows = document_numbers(batch).reshape(-1)[positions]
        totals = torch.zeros(len(ends(batch)[0]), device=log_probs.device)
        counts = totals.long()
        return LossSum(
            totals.index_add(0, rows, -log_probs),
            counts.index_add(0, rows, torch.ones_like(rows)),
        )

    def _plain(self) -> Any:
        return plain_model(self.model)

    def _parts(self) -> HeadParts | None:
        return head_parts(self._plain()) if self.logits_from == "hidden" else None

    def _logits(self, batch: Batch, positions: Tensor) -> Tensor:
        """Logits (N, V) of the positions."""
        plain = self._plain()
        inputs = model_inputs(plain, batch)
        if self.logits_from == "positions":
            keep = torch.zeros_like(inputs["input_ids"], dtype=torch.bool)  # (B, T)
            keep.view(-1)[positions] = True
            kept: Tensor = plain(**inputs, logits_to_keep=keep).logits
            return kept
        every: Tensor = plain(**inputs).logits  # (B, T, V)
        return every.reshape(-1, every.shape[-1])[positions]


def _picked_hidden(parts: HeadParts, plain: Any, batch: Batch, positions: Tensor) -> Tensor:
    hidden = parts.body(**model_inputs(plain, batch)).last_hidden_state  # (B, T, D)
    return parts.transform(hidden.reshape(-1, hidden.shape[-1])[positions])
