"""Sequence classification: which class, or which classes, a text or a pair of texts has."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

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


class SequenceClassification:
    """The task ``sequence_classification``: one class of several, or any number of them.

    What is counted are rows. Where a row may have several classes, each of them is a question
    of its own, and the row's loss is the mean over them, as transformers has it.
    """

    name = "sequence_classification"
    auto_class = "AutoModelForSequenceClassification"
    head: Head = "classes"
    label_as: LabelUse = "class"
    answers_in_text = False

    def for_tokenizer(self, tokenizer: Tokenizer) -> SequenceClassification:
        """Itself."""
        return self

    def encode(
        self,
        record: Record,
        tokenizer: Tokenizer,
        renderer: Renderer,
        options: EncodeOptions,
    ) -> list[Example]:
        """One example, with the whole text and its label; empty when it is dropped.

        Raises:
            DataError: If the row has no label, or is too long and may not be cut.
        """
        encoded = encode_texts(record, tokenizer, options)
        if encoded is None:
            return []
        several = None
        if record.label_ids is not None:
            several = [int(label in record.label_ids) for label in range(len(options.labels))]
        elif record.label is None:
            raise DataError("Row has no label", where=record.place, expected="a label")
        return [
            Example(
                input_ids=encoded.input_ids,
                labels=[IGNORE_INDEX] * len(encoded.input_ids),
                place=record.place,
                target_text=encoded.text,
                was_truncated=encoded.was_truncated,
                label=record.label,
                token_type_ids=encoded.token_type_ids,
                label_ids=several,
            )
        ]

    encode_many = encode_each

    def collate(
        self, examples: Sequence[Example], pad_token_id: int, packed: bool = False
    ) -> Batch:
        """Labels int64 (R,), or float32 (R, C) of zeros and ones where rows may have several."""
        if examples[0].label_ids is not None:
            labels = torch.tensor([example.label_ids for example in examples], dtype=torch.float32)
        else:
            labels = torch.tensor([example.label for example in examples])
        return arrange(examples, pad_token_id, labels, len(examples), packed=packed)

    def window(self, window: Window, *, seed: int, step: int) -> Window:
        """As it is."""
        return window

    def with_loss(self, model: nn.Module, *, logits_from: str = "hidden") -> ClassLoss:
        """The module that accelerate prepares: body, head and loss in one forward."""
        return ClassLoss(model)

    def logit_rows(self, logits: Tensor, labels: Tensor) -> LogitRows:
        """(1, C) and the class; of several classes (C, 2), each against its absence."""
        if not labels.is_floating_point():
            return LogitRows(logits, labels)
        one = logits.reshape(-1)
        return LogitRows(torch.stack([torch.zeros_like(one), one], 1), labels.reshape(-1).long())


class ClassLoss(RowHead):
    """A classifier with its loss: ``forward(batch)`` is the sum over its rows."""

    def forward(self, batch: Batch) -> LossSum:
        """Nats and number of rows of the micro-batch."""
        rows = self.row_losses(batch)
        return LossSum(rows.total.sum(), rows.count.sum())

    def row_losses(self, batch: Batch) -> LossSum:
        """The same per row: ``total`` float32 (R,) in nats, ``count`` all 1."""
        total, _ = self.row_outputs(batch)
        return LossSum(total, ones(total))

    def row_outputs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Each row's nats, and the class (R,) or classes (R, C) that it was given."""
        logits = self.logits(batch)  # (R, C)
        if batch.labels.is_floating_point():
            each = functional.binary_cross_entropy_with_logits(
                logits, batch.labels, reduction="none"
            )
            return each.mean(1), (logits > 0).long()
        return functional.cross_entropy(logits, batch.labels, reduction="none"), logits.argmax(1)
