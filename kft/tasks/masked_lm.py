"""Masked language modelling: fill in whole words (eojeol) that were hidden in running text."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kft.errors import DataError, ModelError
from kft.ops.losses import IGNORE_INDEX
from kft.tasks.inputs import document_numbers
from kft.tasks.language_loss import LanguageLoss, LogitsFrom
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
from kft.tasks.texts import row_texts, row_too_long
from kft.tasks.token_classification import split_words

SHARE = 0.15
"""Of the words are hidden: 80 % of those by the mask, 10 % by other tokens, 10 % by nothing."""


class MaskedLM:
    """The task ``masked_lm``: continued pre-training; what is counted are hidden tokens.

    Which words are hidden is a pure function of the seed, the step and the row: a run that
    goes on hides what it would have hidden, and however a window is cut, a row's words are the
    same. Held-out rows are always measured with the same words hidden.

    Args:
        mask_token_id: Stands for a hidden token; ``None`` until the tokenizer is known.
        ordinary: Ids that a hidden token may be replaced by.

    Source:
        Devlin et al. 2019, "BERT", section 3.1; whole words as in Cui et al. 2021, "Pre-Training
        with Whole Word Masking for Chinese BERT".
    """

    name = "masked_lm"
    auto_class = "AutoModelForMaskedLM"
    head: Head = "language"
    label_as: LabelUse = "answer"
    answers_in_text = False

    def __init__(self, mask_token_id: int | None = None, ordinary: Sequence[int] = ()) -> None:
        self.mask_token_id = mask_token_id
        self.ordinary = ordinary

    def for_tokenizer(self, tokenizer: Any) -> MaskedLM:
        """The task with the tokenizer's mask, and the ids that words may be replaced by.

        Raises:
            ModelError: If the tokenizer has no mask token.
        """
        if tokenizer.mask_token_id is None:
            raise ModelError(
                "The tokenizer has no mask token, so no word can be hidden",
                where="`model.name_or_path`",
                expected="a tokenizer with a `mask_token`",
            )
        special = set(tokenizer.all_special_ids)
        ordinary = tuple(token for token in range(len(tokenizer)) if token not in special)
        return MaskedLM(tokenizer.mask_token_id, ordinary)

    def encode(
        self,
        record: Record,
        tokenizer: Tokenizer,
        renderer: Renderer,
        options: EncodeOptions,
    ) -> list[Example]:
        """Running text; what is longer than ``max_length`` goes on in a further example.

        Raises:
            DataError: If the row has no word, or is too long and may not be cut.
        """
        text, _ = row_texts(record)
        ids, words = eojeol_ids(text, tokenizer)
        start, end = _specials(words)
        room = options.max_length - start - (len(ids) - end)
        if len(ids) > options.max_length and options.on_too_long == "drop":
            return []
        if len(ids) > options.max_length and options.on_too_long == "error":
            raise row_too_long(record.place, len(ids), options.max_length)
        if end == start or room < 1:
            raise DataError(
                "Row has no word to hide",
                where=record.place,
                expected=f"a text, and room for it within {options.max_length} tokens",
            )
        return [
            Example(
                input_ids=ids[:start] + ids[at : min(at + room, end)] + ids[end:],
                labels=[IGNORE_INDEX] * (start + min(room, end - at) + len(ids) - end),
                place=record.place,
                target_text=text,
                word_ids=words[:start] + words[at : min(at + room, end)] + words[end:],
            )
            for at in range(start, end, room)
        ]

    encode_many = encode_each

    def collate(
        self, examples: Sequence[Example], pad_token_id: int, packed: bool = False
    ) -> Batch:
        """Rows with the words hidden that are hidden when a model is measured."""
        words = token_labels([one.word_ids or [] for one in examples], -1, packed=packed)
        labels = torch.full_like(words, IGNORE_INDEX)
        batch = arrange(examples, pad_token_id, labels, 0, packed=packed)
        return self._hide(replace(batch, word_ids=words), ())

    def window(self, window: Window, *, seed: int, step: int) -> Window:
        """The rows with other words hidden, by the seed and the step."""
        return [self._hide(batch, (seed, step)) for batch in window]

    def with_loss(self, model: nn.Module, *, logits_from: LogitsFrom) -> LanguageLoss:
        """The module that accelerate prepares: body, head and loss in one forward."""
        return LanguageLoss(model, hidden_targets, logits_from=logits_from)

    def logit_rows(self, logits: Tensor, labels: Tensor) -> LogitRows:
        """Every position's tokens, and the hidden one where there is one."""
        return LogitRows(logits[0], labels[0])

    def _hide(self, batch: Batch, seeds: tuple[int, ...]) -> Batch:
        if self.mask_token_id is None or batch.word_ids is None:
            raise ValueError("words can be hidden once the tokenizer is known")
        hidden = batch.labels != IGNORE_INDEX
        original = torch.where(hidden, batch.labels, batch.input_ids)  # as before any hiding
        input_ids, labels = original.clone(), torch.full_like(original, IGNORE_INDEX)
        rows = document_numbers(batch)
        for row in range(int(rows.max()) + 1):
            place = torch.nonzero((rows == row) & (batch.word_ids >= 0), as_tuple=True)
            ids = original[place].numpy()
            chosen = hidden_tokens(
                ids, batch.word_ids[place].numpy(), (*seeds, zlib.crc32(ids.tobytes())),
                self.mask_token_id, self.ordinary,
            )  # fmt: skip
            input_ids[place] = torch.from_numpy(chosen[0])
            labels[place] = torch.from_numpy(chosen[1])
        count = int((labels != IGNORE_INDEX).sum())
        return replace(batch, input_ids=input_ids, labels=labels, num_counted=count)


def hidden_tokens(
    ids: np.ndarray,
    words: np.ndarray,
    seeds: tuple[int, ...],
    mask_token_id: int,
    ordinary: Sequence[int],
) -> tuple[np.ndarray, np.ndarray]:
    """A row with some of its words hidden, and what is to be filled in.

    Args:
        ids: int64 (T,), without special tokens.
        words: int64 (T,), each token's word.
        seeds: Of the draw; the same seeds hide the same words.
        mask_token_id: Stands for a hidden token.
        ordinary: Ids that a hidden token may be replaced by.

    Returns:
        Ids and labels, int64 (T,) each; at least one word is hidden.
    """
    generator = np.random.default_rng(seeds)
    names = np.unique(words)
    is_hidden = generator.random(len(names)) < SHARE
    if not is_hidden.any():
        is_hidden[generator.integers(len(names))] = True
    here = np.isin(words, names[is_hidden])
    labels = np.where(here, ids, IGNORE_INDEX)
    fate = generator.random(len(names))[np.searchsorted(names, words)]  # one for a whole word
    others = np.asarray(ordinary)[generator.integers(len(ordinary), size=len(ids))]
    shown = np.where(here & (fate < 0.8), mask_token_id, ids)
    return np.where(here & (fate >= 0.8) & (fate < 0.9), others, shown), labels


def hidden_targets(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Flat positions (N,) of the hidden tokens, and what stood there (N,); both int64.

    Example:
        >>> positions, targets = hidden_targets(torch.tensor([[-100, 7], [5, -100]]))
        >>> positions.tolist(), targets.tolist()
        ([1, 2], [7, 5])
    """
    flat = labels.reshape(-1)
    positions = torch.nonzero(flat != IGNORE_INDEX).squeeze(1)
    return positions, flat[positions]


def eojeol_ids(text: str, tokenizer: Any) -> tuple[list[int], list[int]]:
    """Ids of a text with its special tokens, and the number of each token's eojeol, else -1.

    An eojeol is what stands between white space. A fast tokenizer tells where a token stands
    in the text; with a slow one the eojeols are encoded one by one.
    """
    if not getattr(tokenizer, "is_fast", False):
        return split_words(text.split(), tokenizer)
    encoded = tokenizer(text, return_offsets_mapping=True)
    begun = np.cumsum([0, *(a.isspace() and not b.isspace() for a, b in pairwise(text))])
    words = []
    for number, (start, stop) in zip(encoded.sequence_ids(), encoded.offset_mapping, strict=True):
        # A token may begin with the space before its word.
        at = next((i for i in range(start, stop) if not text[i].isspace()), start)
        words.append(-1 if number is None else int(begun[min(at, len(begun) - 1)]))
    return list(encoded.input_ids), words


def _specials(words: Sequence[int]) -> tuple[int, int]:
    """Where the words begin and end between the special tokens around them."""
    inside = [place for place, word in enumerate(words) if word >= 0]
    return (inside[0], inside[-1] + 1) if inside else (0, 0)
