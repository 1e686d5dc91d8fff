"""``encode_many`` for the tasks that gain nothing from seeing several records at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from kft.tasks.task import EncodeOptions, Example, Record, Renderer, Tokenizer


class EncodesOne(Protocol):
    """A task that makes the examples of one record."""

    def encode(
        self, record: Record, tokenizer: Tokenizer, renderer: Renderer, options: EncodeOptions
    ) -> list[Example]:
        """The record's examples."""


def encode_each(
    self: EncodesOne,
    records: Sequence[Record],
    tokenizer: Tokenizer,
    renderer: Renderer,
    options: EncodeOptions,
) -> list[list[Example]]:
    """The examples of each record, one after another; a class takes it as its method."""
    return [self.encode(record, tokenizer, renderer, options) for record in records]
