"""What passes between the rooms: records, examples, batches, windows, loss sums.

Shapes use the letters B (rows of a micro-batch), T (tokens in a row), N (targets).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from kft.ops.attention import Documents as Documents
from kft.ops.losses import IGNORE_INDEX as IGNORE_INDEX
from kft.ops.losses import LossSum as LossSum
from kft.tasks.record import LabelUse as LabelUse
from kft.tasks.record import Message as Message
from kft.tasks.record import Record as Record


@dataclass(frozen=True)
class Example:
    """One row as it enters the model.

    Args:
        input_ids: Token ids, at most ``max_length`` of them.
        labels: Aligned with ``input_ids``, not shifted; ``IGNORE_INDEX`` where not a target.
        place: ``file:line`` of the row it came from.
        target_text: The text whose tokens are targets; bits per character divide by its length.
        was_truncated: Tokens were cut from it.
        end_is_target: The end token is among its targets, or the text goes on in another example.
        label: As in :class:`Record`.
        token_type_ids: Aligned with ``input_ids``: 1 on the second text of a pair.
        prompt_length: Tokens at the beginning that see each other in both directions.
        value: As in :class:`Record`.
        label_ids: One entry per label name: 1 where the row has it, else 0.
        word_ids: Aligned with ``input_ids``: the number of the word that a token is part of,
            -1 for special tokens.
    """

    input_ids: list[int]
    labels: list[int]
    place: str
    target_text: str
    was_truncated: bool = False
    end_is_target: bool = True
    label: int | None = None
    token_type_ids: list[int] | None = None
    prompt_length: int | None = None
    value: float | None = None
    label_ids: list[int] | None = None
    word_ids: list[int] | None = None

    @property
    def num_targets(self) -> int:
        """Number of labels that are predicted; the first position never is."""
        targets = len(self.labels) - self.labels.count(IGNORE_INDEX)
        return targets - (self.labels[:1] not in ([], [IGNORE_INDEX]))


@dataclass(frozen=True)
class Batch:
    """One micro-batch: what one forward pass reads.

    Either its rows are padded (``documents`` is ``None``), or it is one row (B = 1) of several
    documents without padding.

    Args:
        input_ids: int64 (B, T), padded on the right.
        labels: What is to be predicted. Where targets are tokens: int64 (B, T), aligned with
            ``input_ids``, ``IGNORE_INDEX`` where not a target. Where they are rows: one entry
            per row or document.
        attention_mask: int64 (B, T), 1 on tokens, 0 on padding; ``None``: no padding. With prefix
            attention 2 on the tokens of the prompt.
        position_ids: int64 (B, T), restarting with each document; ``None`` for 0, 1, 2, ...
        num_tokens: Number of tokens that are not padding.
        num_counted: What the sum of its losses is divided by: targets, rows or labels.
        documents: Where the documents of the row begin and end.
        token_type_ids: int64 (B, T), for models that tell two texts apart by them.
        word_ids: int64 (B, T), as in :class:`Example`; for tasks that mask whole words.
        is_spare: Nothing of it counts: a rank without rows of a window has one, since the sum of
            all ranks' gradients waits for every rank.
    """

    input_ids: Tensor
    labels: Tensor
    attention_mask: Tensor | None
    position_ids: Tensor | None
    num_tokens: int
    num_counted: int
    documents: Documents | None = None
    token_type_ids: Tensor | None = None
    word_ids: Tensor | None = None
    is_spare: bool = False

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with its tensors on ``device``."""

        def move(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.to(device, non_blocking=True)

        return replace(
            self,
            input_ids=self.input_ids.to(device, non_blocking=True),
            labels=self.labels.to(device, non_blocking=True),
            attention_mask=move(self.attention_mask),
            position_ids=move(self.position_ids),
            token_type_ids=move(self.token_type_ids),
            word_ids=None,  # read when the batch is made, not by the model
        )


Window = Sequence[Batch]
"""The micro-batches whose targets one optimizer step averages over, on this rank."""


class Rendered(NamedTuple):
    """A conversation as text, cut where a target begins or ends.

    Args:
        pieces: ``(text, is_target)``; joined, the texts are the whole rendering.
    """

    pieces: tuple[tuple[str, bool], ...]


class Renderer(Protocol):
    """Turns messages into text; one implementation serves training, generation and export."""

    chat_template: str

    def render(self, messages: Sequence[Message], place: str) -> Rendered:
        """The conversation with its targets marked."""

    def render_many(
        self, conversations: Sequence[Sequence[Message]], places: Sequence[str]
    ) -> list[Rendered]:
        """The same for several conversations at once."""

    def prompt(self, messages: Sequence[Message]) -> str:
        """The conversation up to where the model begins its answer."""


class Tokenizer(Protocol):
    """The part of a transformers tokenizer that tasks use."""

    bos_token_id: int | None
    eos_token_id: int | None
    pad_token_id: int | None

    def __call__(self, text: Any, *args: Any, **options: Any) -> Any:
        """Token ids of ``text`` under ``.input_ids``."""

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        """The text of token ids."""


OnTooLong = Literal["truncate", "drop", "error"]


@dataclass(frozen=True)
class EncodeOptions:
    """How records become examples; the part of ``data`` that tasks need.

    Args:
        max_length: Tokens per row at most.
        on_too_long: What happens to a longer row.
        labels: Names of the labels, in the order of their numbers.
    """

    max_length: int
    on_too_long: OnTooLong = "truncate"
    labels: tuple[str, ...] = ()


class LossModule(Protocol):
    """A model with its loss inside; also a ``torch.nn.Module``."""

    def __call__(self, batch: Batch) -> LossSum:
        """The batch's loss, summed over its targets."""

    def row_losses(self, batch: Batch) -> LossSum:
        """The same for each row: ``total`` and ``count`` of shape (B,)."""


class LogitRows(NamedTuple):
    """What a model said, as rows that two models can be compared by.

    Args:
        logits: float (N, K), over K choices each.
        targets: int64 (N,), the choice that was right; ``IGNORE_INDEX`` where none is known.
    """

    logits: Tensor
    targets: Tensor


Head = Literal["language", "classes", "number"]
"""What the last layer says: tokens of the vocabulary, classes with names, or one number."""


class Task(Protocol):
    """What one value of the recipe's ``task`` does; a value passed in, not a base class.

    Args:
        name: The recipe's name for it.
        auto_class: Name of the transformers class that fits it.
        head: What the model's last layer says.
        label_as: What becomes of a row with a label: a conversation that answers with its name,
            a class, or a number.
        answers_in_text: It renders conversations, and samples can be generated.
    """

    name: str
    auto_class: str
    head: Head
    label_as: LabelUse
    answers_in_text: bool

    def for_tokenizer(self, tokenizer: Tokenizer) -> Task:
        """The task with what it has to know of the tokenizer beside rows."""

    def encode(
        self, record: Record, tokenizer: Tokenizer, renderer: Renderer, options: EncodeOptions
    ) -> list[Example]:
        """A record's examples; empty when the row is dropped.

        Raises:
            DataError: If the row has no target within ``max_length``, or is too long and
                ``on_too_long`` is ``error``.
        """

    def encode_many(
        self,
        records: Sequence[Record],
        tokenizer: Tokenizer,
        renderer: Renderer,
        options: EncodeOptions,
    ) -> list[list[Example]]:
        """The examples of each record; at once where that is faster."""

    def collate(
        self, examples: Sequence[Example], pad_token_id: int, packed: bool = False
    ) -> Batch:
        """One micro-batch: padded rows, or when ``packed`` documents in one row."""

    def window(self, window: Window, *, seed: int, step: int) -> Window:
        """The window as this step sees it; a pure function of its arguments."""

    def with_loss(self, model: torch.nn.Module, *, logits_from: Any) -> LossModule:
        """The model with its loss, as one module for accelerate to prepare.

        Args:
            model: A transformers model, or a PEFT model around one.
            logits_from: As :data:`kft.tasks.language_loss.LogitsFrom`; of interest to tasks
                that have the whole vocabulary to choose from.
        """

    def logit_rows(self, logits: Tensor, labels: Tensor) -> LogitRows:
        """A row's logits, as transformers' own class gives them, with what was right.

        Args:
            logits: Of one row: (1, T, V), (1, T, C) or (1, C).
            labels: The row's part of :class:`Batch`'s.
        """
