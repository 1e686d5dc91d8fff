"""Token classification: a tag for each word or character, learned at its first sub-word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from kft.errors import DataError, counted, name_list
from kft.ops.losses import IGNORE_INDEX, LossSum
from kft.tasks.inputs import document_numbers, ends, model_inputs, plain_model
from kft.tasks.one_by_one import encode_each
from kft.tasks.padding import arrange, token_labels
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
from kft.tasks.texts import row_too_long


class TokenClassification:
    """The task ``token_classification``: BIO or any other tags; what is counted are tags.

    Of a word's sub-words the first one carries its tag. Where tags belong to characters, the
    text is split as any other, and a sub-word carries the tag of its first character; the tags
    of all characters that aren't blank are kept beside it (``label_ids``, with the number of
    each sub-word's first one in ``word_ids``), for a measure over characters.
    """

    name = "token_classification"
    auto_class = "AutoModelForTokenClassification"
    head: Head = "classes"
    label_as: LabelUse = "class"
    answers_in_text = False

    def for_tokenizer(self, tokenizer: Tokenizer) -> TokenClassification:
        """Itself."""
        return self

    def encode(
        self,
        record: Record,
        tokenizer: Tokenizer,
        renderer: Renderer,
        options: EncodeOptions,
    ) -> list[Example]:
        """One example; empty when it is dropped.

        Raises:
            DataError: If words and tags are not as many, a tag is unknown, no tag is left, or
                the row is too long and may not be cut.
        """
        words, tags = record.tokens or (), record.tags or ()
        if not words or len(words) != len(tags):
            raise DataError(
                f"Row has {counted(len(words), 'token')} and {counted(len(tags), 'tag')}",
                where=record.place,
                expected="as many tags as tokens, and at least one",
            )
        are_characters = all(len(word) == 1 for word in words) and len(words) > 1
        if are_characters and getattr(tokenizer, "is_fast", False):
            ids, word_ids = split_characters(words, tokenizer)
            tags = tuple(tag for word, tag in zip(words, tags, strict=True) if not word.isspace())
        else:
            are_characters = False
            ids, word_ids = split_words(words, tokenizer)
        num_tokens, max_length = len(ids), options.max_length
        if num_tokens > max_length:
            if options.on_too_long == "drop":
                return []
            if options.on_too_long == "error":
                raise row_too_long(record.place, num_tokens, max_length)
            end = 1 if word_ids[-1] < 0 else 0  # the token that ends every row stays
            ids = ids[: max_length - end] + ids[num_tokens - end :]
            word_ids = word_ids[: max_length - end] + word_ids[num_tokens - end :]
        numbers = [_number(tag, record, options) for tag in tags]
        labels = _first_sub_words(word_ids, numbers)
        if all(label == IGNORE_INDEX for label in labels):
            raise DataError(
                "Row has no tag that a token could carry",
                where=record.place,
                expected="at least one word that the tokenizer knows",
            )
        return [
            Example(
                input_ids=ids,
                labels=labels,
                place=record.place,
                target_text=("" if are_characters else " ").join(words),
                was_truncated=num_tokens > max_length,
                label_ids=numbers if are_characters else None,
                word_ids=word_ids if are_characters else None,
            )
        ]

    encode_many = encode_each

    def collate(
        self, examples: Sequence[Example], pad_token_id: int, packed: bool = False
    ) -> Batch:
        """Labels int64 (B, T): a tag's number at first sub-words."""
        labels = token_labels([one.labels for one in examples], IGNORE_INDEX, packed=packed)
        counted = int((labels != IGNORE_INDEX).sum())
        return arrange(examples, pad_token_id, labels, counted, packed=packed)

    def window(self, window: Window, *, seed: int, step: int) -> Window:
        """As it is."""
        return window

    def with_loss(self, model: nn.Module, *, logits_from: str = "hidden") -> TagLoss:
        """The module that accelerate prepares: body, head and loss in one forward."""
        return TagLoss(model)

    def logit_rows(self, logits: Tensor, labels: Tensor) -> LogitRows:
        """Every position's classes, and the tag where there is one."""
        return LogitRows(logits[0], labels[0])


class TagLoss(nn.Module):
    """A tagger with its loss: ``forward(batch)`` is the sum over its tags.

    Args:
        model: An ``AutoModelForTokenClassification``, or a PEFT model around one.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> LossSum:
        """Nats and number of tags of the micro-batch."""
        nats, _, _ = self._tags(batch)
        return LossSum(nats.sum(), torch.tensor(len(nats), device=nats.device))

    def row_losses(self, batch: Batch) -> LossSum:
        """The same per row: ``total`` float32 (R,) in nats, ``count`` int64 (R,)."""
        nats, _, rows = self._tags(batch)
        zeros = torch.zeros(len(ends(batch)[0]), device=nats.device)
        totals = zeros.index_add(0, rows, nats)
        return LossSum(totals, zeros.long().index_add(0, rows, torch.ones_like(rows)))

    def row_outputs(self, batch: Batch) -> tuple[Tensor, list[list[int]]]:
        """Each row's nats, and the tags that its words were given, in order."""
        nats, given, rows = self._tags(batch)
        num_rows = len(ends(batch)[0])
        totals = torch.zeros(num_rows, device=nats.device).index_add(0, rows, nats)
        tags: list[list[int]] = [[] for _ in range(num_rows)]
        for row, tag in zip(rows.tolist(), given.tolist(), strict=True):
            tags[row].append(tag)
        return totals, tags

    def logits(self, batch: Batch) -> list[Tensor]:
        """float32 (W, C) for each row, W the number of its words."""
        counted, is_tag = self._counted(batch)
        rows = document_numbers(batch)[is_tag]
        return [counted[rows == row] for row in range(len(ends(batch)[0]))]

    def _counted(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits of all tags (N, C), and where in the batch they stand (B, T)."""
        plain = plain_model(self.model)
        logits = plain(**model_inputs(plain, batch)).logits  # (B, T, C), or longer
        is_tag = batch.labels != IGNORE_INDEX  # (B, T)
        return logits[:, : is_tag.shape[1]][is_tag].float(), is_tag

    def _tags(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Of each tag its nats, the likeliest tag and its row: (N,) each."""
        counted, is_tag = self._counted(batch)  # (N, C), (B, T)
        nats = functional.cross_entropy(counted, batch.labels[is_tag], reduction="none")
        return nats, counted.argmax(1), document_numbers(batch)[is_tag]


def split_words(words: Sequence[str], tokenizer: Any) -> tuple[list[int], list[int]]:
    """Token ids of words, and the word's number of each token, -1 for special tokens.

    A fast tokenizer tells them itself; with a slow one the words are encoded one by one and
    stand between its special tokens.
    """
    if getattr(tokenizer, "is_fast", False):
        encoded = tokenizer(list(words), is_split_into_words=True)
        numbers = [-1 if number is None else number for number in encoded.word_ids()]
        return list(encoded.input_ids), numbers
    pieces = [list(tokenizer(word, add_special_tokens=False).input_ids) for word in words]
    ids = [token for piece in pieces for token in piece]
    numbers = [number for number, piece in enumerate(pieces) for _ in piece]
    whole = tokenizer.build_inputs_with_special_tokens(ids)
    before = next((i for i in range(len(whole)) if whole[i : i + len(ids)] == ids), 0)
    after = len(whole) - before - len(ids)
    return list(whole), [-1] * before + numbers + [-1] * after


def split_characters(characters: Sequence[str], tokenizer: Any) -> tuple[list[int], list[int]]:
    """Token ids of a text given as characters, blanks among them, by a fast tokenizer.

    Returns:
        The ids, and for each token the number of its first character among those that aren't
        blank; -1 for special tokens and for tokens of blanks alone.
    """
    encoded = tokenizer("".join(characters), return_offsets_mapping=True)
    number, numbers = -1, []
    for character in characters:
        number += not character.isspace()
        numbers.append(-1 if character.isspace() else number)
    first = []
    for sequence, (start, stop) in zip(encoded.sequence_ids(), encoded.offset_mapping, strict=True):
        inside = [n for n in numbers[start:stop] if n >= 0] if sequence is not None else []
        first.append(inside[0] if inside else -1)
    return list(encoded.input_ids), first


def _first_sub_words(word_ids: Sequence[int], tags: Sequence[int]) -> list[int]:
    """A word's tag at its first token, -100 elsewhere."""
    before = -1
    labels = []
    for number in word_ids:
        labels.append(tags[number] if number >= 0 and number != before else IGNORE_INDEX)
        before = number
    return labels


def _number(tag: str, record: Record, options: EncodeOptions) -> int:
    if tag in options.labels:
        return options.labels.index(tag)
    raise DataError(
        f"Unknown tag `{tag}`",
        where=record.place,
        expected=f"one of {name_list(list(options.labels), 12)}",
    )
