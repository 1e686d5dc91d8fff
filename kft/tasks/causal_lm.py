"""Causal language modelling: maximise sum over t of log P(y_t | x, y_<t)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kft.errors import DataError
from kft.ops.losses import IGNORE_INDEX, next_token_targets
from kft.tasks.language_loss import LanguageLoss, LogitsFrom
from kft.tasks.padding import arrange, token_labels
from kft.tasks.pieces import encode_pieces, text_ids
from kft.tasks.task import (
    Batch,
    EncodeOptions,
    Example,
    Head,
    LabelUse,
    LogitRows,
    Message,
    Record,
    Rendered,
    Renderer,
    Tokenizer,
    Window,
)


class CausalLM:
    """The task ``causal_lm``: what is learned is text, an answer, or a label's name."""

    name = "causal_lm"
    auto_class = "AutoModelForCausalLM"
    head: Head = "language"
    label_as: LabelUse = "answer"
    answers_in_text = True

    def for_tokenizer(self, tokenizer: Tokenizer) -> CausalLM:
        """Itself."""
        return self

    def encode(
        self, record: Record, tokenizer: Tokenizer, renderer: Renderer, options: EncodeOptions
    ) -> list[Example]:
        """A record's examples; empty when the row is dropped because it is too long.

        Raises:
            DataError: If no target is left within ``max_length``, or the row is too long and
                ``on_too_long`` is ``error``.
        """
        return _encode([record], tokenizer, renderer, options)[0]

    def encode_many(
        self,
        records: Sequence[Record],
        tokenizer: Tokenizer,
        renderer: Renderer,
        options: EncodeOptions,
    ) -> list[list[Example]]:
        """Each record's examples; raises as :meth:`encode`."""
        return _encode(records, tokenizer, renderer, options)

    def collate(
        self, examples: Sequence[Example], pad_token_id: int, packed: bool = False
    ) -> Batch:
        """Labels int64 (B, T): every target aligned with its own token, not shifted.

        What a row begins with is no target: in a packed row the document before would predict it.
        """
        predicted = [[IGNORE_INDEX, *one.labels[1:]] for one in examples]
        labels = token_labels(predicted, IGNORE_INDEX, packed=packed)
        counted = sum(example.num_targets for example in examples)
        return arrange(examples, pad_token_id, labels, counted, packed=packed)

    def window(self, window: Window, *, seed: int, step: int) -> Window:
        """As it is."""
        return window

    def logit_rows(self, logits: Tensor, labels: Tensor) -> LogitRows:
        """Every position's tokens, and the one that it is to predict."""
        positions, wanted = next_token_targets(labels)
        targets = torch.full_like(labels[0], IGNORE_INDEX)  # (T,)
        targets[positions] = wanted
        return LogitRows(logits[0], targets)

    def with_loss(self, model: nn.Module, *, logits_from: LogitsFrom) -> LanguageLoss:
        """The module that accelerate prepares: body, head and loss in one forward."""
        return LanguageLoss(model, next_token_targets, logits_from=logits_from)


def _encode(
    records: Sequence[Record], tokenizer: Tokenizer, renderer: Renderer, options: EncodeOptions
) -> list[list[Example]]:
    """Render and tokenize all records at once, which saves the cost of a call for each."""
    texts = [record.text or "" for record in records if record.messages is None]
    talks = [(r.messages, r.place) for r in records if r.messages is not None]
    rendered = renderer.render_many([turns for turns, _ in talks], [place for _, place in talks])
    encoded_texts = iter(text_ids(texts, tokenizer))
    encoded_talks = iter(zip(rendered, encode_pieces(rendered, tokenizer), strict=True))
    end = tokenizer.eos_token_id  # asked for once: transformers looks long for it
    return [
        _text_examples(record, next(encoded_texts), tokenizer, options, end)
        if record.messages is None
        else _answer_examples(record, record.messages, next(encoded_talks), tokenizer, options, end)
        for record in records
    ]


def _answer_examples(
    record: Record,
    messages: Sequence[Message],
    encoded: tuple[Rendered, tuple[list[int], list[int]]],
    tokenizer: Tokenizer,
    options: EncodeOptions,
    end: int | None,
) -> list[Example]:
    rendered, (input_ids, labels) = encoded
    target_text = _trained_text(messages, rendered)
    num_tokens, max_length = len(input_ids), options.max_length
    if num_tokens > max_length:
        if options.on_too_long == "drop":
            return []
        if options.on_too_long == "error":
            raise _too_long(record.place, num_tokens, max_length)
        input_ids, labels = input_ids[:max_length], labels[:max_length]
        kept = [label for label in labels[1:] if label != IGNORE_INDEX]
        target_text = str(tokenizer.decode(kept, skip_special_tokens=True))
    example = Example(
        input_ids=input_ids,
        labels=labels,
        place=record.place,
        target_text=target_text,
        was_truncated=num_tokens > max_length,
        end_is_target=_ends(labels, end),
        label=record.label,
    )
    if example.num_targets == 0:
        raise _no_target(record.place, num_tokens, max_length)
    return [example]


def _text_examples(
    record: Record, ids: list[int], tokenizer: Tokenizer, options: EncodeOptions, end: int | None
) -> list[Example]:
    """Running text; what is longer than ``max_length`` goes on in a further example.

    That one begins with the last token of the one before, so that every token is predicted
    exactly once.
    """
    text, max_length = record.text or "", options.max_length
    if len(ids) < 2:
        raise _no_target(record.place, len(ids), max_length)
    if len(ids) > max_length and options.on_too_long == "drop":
        return []
    if len(ids) > max_length and options.on_too_long == "error":
        raise _too_long(record.place, len(ids), max_length)
    starts = range(0, len(ids) - 1, max_length - 1)
    windows = [ids[start : start + max_length] for start in starts]
    return [
        Example(
            input_ids=window,
            labels=list(window),
            place=record.place,
            target_text=text
            if len(windows) == 1
            else tokenizer.decode(window[1:], skip_special_tokens=True),
            end_is_target=number < len(windows) - 1 or _ends(window, end),
        )
        for number, window in enumerate(windows)
    ]


def _trained_text(messages: Sequence[Message], rendered: Rendered) -> str:
    """What was said in the turns that are targets; the whole rendering where everything is."""
    if all(is_target for _, is_target in rendered.pieces):
        return "".join(text for text, _ in rendered.pieces)
    answers = [message["content"] for message in messages if message["role"] == "assistant"]
    num_trained = sum(is_target for _, is_target in rendered.pieces)
    return "\n".join(answers[-num_trained:])


def _ends(labels: Sequence[int], end: int | None) -> bool:
    # A template may end a turn with white space after its end token.
    return end in labels[-2:]


def _no_target(place: str, num_tokens: int, max_length: int) -> DataError:
    if num_tokens <= max_length:
        return DataError(
            "Row has no target: its answer is empty",
            where=place,
            expected="at least one token to learn",
        )
    return DataError(
        "Row has no target: the prompt alone fills `max_length`",
        where=place,
        expected=f"at least one target within {max_length} tokens; the row has {num_tokens}",
        hint="Raise `data.max_length`, or set `data.on_too_long: drop` to leave such rows out.",
    )


def _too_long(place: str, num_tokens: int, max_length: int) -> DataError:
    return DataError(
        f"Row has {num_tokens} tokens",
        where=place,
        expected=f"at most {max_length} tokens (`data.max_length`)",
        hint="`data.on_too_long: truncate` cuts the end off, `drop` leaves such rows out.",
    )
