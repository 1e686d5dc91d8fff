"""Causal language modelling where a prompt sees itself both ways and an answer only its left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from kft.ops.losses import IGNORE_INDEX
from kft.tasks.causal_lm import CausalLM
from kft.tasks.one_by_one import encode_each
from kft.tasks.task import (
    Batch,
    EncodeOptions,
    Example,
    Record,
    Rendered,
    Renderer,
    Tokenizer,
)


class PrefixLM(CausalLM):
    """The task ``causal_lm`` with ``model.attention: prefix``.

    A conversation becomes one example for each answer, so that no answer that is learned is
    part of a prompt whose tokens see it.

    Source:
        Dong et al. 2019, "Unified Language Model Pre-training" (UniLM), section 2.3,
        sequence-to-sequence.
    """

    def for_tokenizer(self, tokenizer: Tokenizer) -> PrefixLM:
        """Itself."""
        return self

    def encode(
        self, record: Record, tokenizer: Tokenizer, renderer: Renderer, options: EncodeOptions
    ) -> list[Example]:
        """A record's examples, one per answer; as :meth:`CausalLM.encode` otherwise."""
        if record.messages is None:
            examples = super().encode(record, tokenizer, renderer, options)
            return [replace(one, prompt_length=0) for one in examples]
        rendered = renderer.render(record.messages, record.place)
        answers = [at for at, turn in enumerate(record.messages) if turn["role"] == "assistant"]
        turns = iter(answers[-sum(is_target for _, is_target in rendered.pieces) :])
        examples = []
        asked = ""
        for text, is_target in rendered.pieces:
            if is_target:
                pieces = ((asked, False), (text, True)) if asked else ((text, True),)
                until = replace(record, messages=record.messages[: next(turns) + 1])
                turn = _Fixed(Rendered(pieces), renderer)
                examples += super().encode(until, tokenizer, turn, options)
            asked += text
        return [replace(one, prompt_length=_prompt_length(one)) for one in examples]

    encode_many = encode_each

    def collate(
        self, examples: Sequence[Example], pad_token_id: int, packed: bool = False
    ) -> Batch:
        """As :meth:`CausalLM.collate`, with the prompts' tokens marked."""
        batch = super().collate(examples, pad_token_id, packed)
        lengths = tuple(example.prompt_length or 0 for example in examples)
        if batch.documents is not None:
            return replace(batch, documents=replace(batch.documents, prompt_lengths=lengths))
        mask = batch.attention_mask
        mask = torch.ones_like(batch.input_ids) if mask is None else mask.clone()
        for row, length in enumerate(lengths):
            mask[row, :length] = 2
        return replace(batch, attention_mask=mask)


class _Fixed:
    """A renderer of one rendering that is there already."""

    def __init__(self, rendered: Rendered, renderer: Renderer) -> None:
        self.chat_template = renderer.chat_template
        self.prompt = renderer.prompt
        self._rendered = rendered

    def render(self, messages: Any, place: str) -> Rendered:
        """The rendering."""
        return self._rendered

    def render_many(self, conversations: Sequence[Any], places: Sequence[str]) -> list[Rendered]:
        """The rendering, of the one conversation there is."""
        return [self._rendered for _ in conversations]


def _prompt_length(example: Example) -> int:
    """Tokens before the first target."""
    labels = example.labels
    return next((at for at, label in enumerate(labels) if label != IGNORE_INDEX), len(labels))
