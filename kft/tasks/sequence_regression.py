"""Sequence regression: the number that belongs to a text or a pair of texts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kft.errors import DataError
from kft.ops.losses import IGNORE_INDEX, LossSum
from kft.tasks.one_by_one import encode_each
from kft.tasks.padding import arrange
from kft.tasks.pooling import RowHead, ones
from kft.tasks.task import (
    Batch,
    EncodeOptions,
    Example,
    Head,
    LabelUse,
    LogitRows,
    Record,
    Renderer,
    Tokenizer,
    Window,
)
from kft.tasks.texts import encode_texts


class SequenceRegression:
    """The task ``sequence_regression``: least squares; what is counted are rows."""

    name = "sequence_regression"
    auto_class = "AutoModelForSequenceClassification"
    head: Head = "number"
    label_as: LabelUse = "value"
    answers_in_text = False

    def for_tokenizer(self, tokenizer: Tokenizer) -> SequenceRegression:
        """Itself."""
        return self

    def encode(
        self,
        record: Record,
        tokenizer: Tokenizer,
        renderer: Renderer,
        options: EncodeOptions,
    ) -> list[Example]:
        """One example, with the whole text and its number; empty when it is dropped.

        Raises:
            DataError: If the row has no number, or is too long and may not be cut.
        """
        if record.value is None or not math.isfinite(record.value):
            raise DataError(
                f"Row has no number to learn, got `{record.value}`",
                where=record.place,
                expected="a number, such as `3.8`, in the column of `label`",
            )
        encoded = encode_texts(record, tokenizer, options)
        if encoded is None:
            return []
        return [
            Example(
                input_ids=encoded.input_ids,
                labels=[IGNORE_INDEX] * len(encoded.input_ids),
                place=record.place,
                target_text=encoded.text,
                was_truncated=encoded.was_truncated,
                token_type_ids=encoded.token_type_ids,
                value=record.value,
            )
        ]

    encode_many = encode_each

    def collate(
        self, examples: Sequence[Example], pad_token_id: int, packed: bool = False
    ) -> Batch:
        """Labels float32 (R,)."""
        labels = torch.tensor([example.value for example in examples], dtype=torch.float32)
        return arrange(examples, pad_token_id, labels, len(examples), packed=packed)

    def window(self, window: Window, *, seed: int, step: int) -> Window:
        """As it is."""
        return window

    def with_loss(self, model: nn.Module, *, logits_from: str = "hidden") -> SquaredLoss:
        """The module that accelerate prepares: body, head and loss in one forward."""
        return SquaredLoss(model)

    def logit_rows(self, logits: Tensor, labels: Tensor) -> LogitRows:
        """(1, 1): a number has no classes to compare, so only its difference counts."""
        return LogitRows(logits, torch.full_like(labels, IGNORE_INDEX, dtype=torch.int64))


class SquaredLoss(RowHead):
    """A regression with its loss: ``forward(batch)`` is the sum of squared errors of its rows."""

    def forward(self, batch: Batch) -> LossSum:
        """Squared error, in the square of the number's unit, and number of rows."""
        rows = self.row_losses(batch)
        return LossSum(rows.total.sum(), rows.count.sum())

    def row_losses(self, batch: Batch) -> LossSum:
        """The same per row: ``total`` float32 (R,), ``count`` all 1."""
        total, _ = self.row_outputs(batch)
        return LossSum(total, ones(total))

    def row_outputs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Each row's squared error, and the number (R,) that it was given."""
        numbers = self.logits(batch).squeeze(1)  # (R,)
        return (numbers - batch.labels).square(), numbers
