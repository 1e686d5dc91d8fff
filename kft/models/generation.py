"""Answers to prompts: batched, greedy unless asked otherwise, reproducible."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from kft.models.architecture import num_positions
from kft.models.decoders import PROMPT, is_prefix
from kft.models.greedy import can_shrink, greedy_ids, padded_left
from kft.tasks.pieces import prompt_ids


class Answer(NamedTuple):
    """One generated answer.

    Args:
        text: Without special tokens.
        token_ids: Its tokens, without the end token.
        ended: Whether the model wrote its end token; else the limit cut it.
    """

    text: str
    token_ids: list[int]
    ended: bool


def generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    is_text: bool = False,
    sampling: dict[str, Any] | None = None,
) -> list[str]:
    """The model's continuation of each prompt, without the prompt and without special tokens.

    Args:
        model: A transformers causal LM, or a PEFT model around one.
        tokenizer: Its tokenizer.
        prompts: Rendered prompts.
        max_new_tokens: Tokens at most per answer; the end token ends it earlier.
        is_text: The prompts begin running text, as in training with ``format: text``; a
            rendered chat prompt has its own start token.
        sampling: ``temperature``, ``top_p`` and the like; ``None`` is greedy.

    Returns:
        One text per prompt, in order.
    """
    encoded = _encoded(tokenizer, prompts, is_text=is_text)
    return [
        tokenizer.decode(ids, skip_special_tokens=True)
        for ids in generate_ids(
            model, tokenizer, encoded, max_new_tokens=max_new_tokens, sampling=sampling
        )
    ]


def generate_answers(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    rows_per_batch: int,
    is_text: bool = False,
) -> list[Answer]:
    """Greedy continuations of many prompts, a few of similar length at a time.

    Args:
        model: As for :func:`generate`, and so are those that aren't named here.
        tokenizer: Its tokenizer.
        prompts: Rendered prompts.
        max_new_tokens: Tokens at most per answer.
        rows_per_batch: Prompts at a time.
        is_text: The prompts begin running text.

    Returns:
        One answer per prompt, in order.
    """
    encoded = _encoded(tokenizer, prompts, is_text=is_text)
    order = sorted(range(len(encoded)), key=lambda row: -len(encoded[row]))
    ends = _end_ids(model)
    answers: dict[int, Answer] = {}
    for start in range(0, len(order), rows_per_batch):
        part = order[start : start + rows_per_batch]
        prompt_rows = [encoded[row] for row in part]
        found = generate_ids(model, tokenizer, prompt_rows, max_new_tokens=max_new_tokens)
        for row, ids in zip(part, found, strict=True):
            ended = bool(ids) and ids[-1] in ends
            text = tokenizer.decode(ids, skip_special_tokens=True)
            answers[row] = Answer(text, ids[:-1] if ended else ids, ended)
    return [answers[row] for row in range(len(encoded))]


def stream(
    model: Any,
    tokenizer: Any,
    prompt: str,
    on_text: Callable[[str], None],
    *,
    max_new_tokens: int,
    is_text: bool = False,
) -> str:
    """The answer that :func:`generate` gives, told piece by piece while it is made.

    Args:
        model: As for :func:`generate`, and so are those that aren't named here.
        tokenizer: Its tokenizer.
        prompt: A rendered prompt.
        on_text: Called with each piece; together they are the answer.
        max_new_tokens: Tokens at most.
        is_text: The prompt begins running text.
    """
    pieces = TextPieces(tokenizer, on_text)
    generate_ids(
        model,
        tokenizer,
        _encoded(tokenizer, [prompt], is_text=is_text),
        max_new_tokens=max_new_tokens,
        streamer=pieces,
    )
    return pieces.text


class TextPieces:
    """Turns tokens into pieces of text: a character is told when all its bytes are there.

    It has what `generate` asks of a streamer: ``put`` and ``end``.

    Args:
        tokenizer: Decodes all tokens each time, since a token's text depends on those before.
        on_text: Called with each piece.
    """

    def __init__(self, tokenizer: Any, on_text: Callable[[str], None]) -> None:
        self.text = ""
        self._tokenizer = tokenizer
        self._on_text = on_text
        self._ids: list[int] | None = None  # the first thing that comes is the prompt

    def put(self, value: Any) -> None:
        """Take a token, or the prompt."""
        if self._ids is None:
            self._ids = []
            return
        self._ids += value.flatten().tolist()
        whole = self._decoded()
        if not whole.endswith("\ufffd"):
            self._tell(whole)

    def end(self) -> None:
        """Tell what is left."""
        self._tell(self._decoded())

    def _decoded(self) -> str:
        return str(self._tokenizer.decode(self._ids or [], skip_special_tokens=True))

    def _tell(self, whole: str) -> None:
        # A decoder may still move what it said, such as the space before a full stop.
        if whole != self.text and whole.startswith(self.text):
            self._on_text(whole[len(self.text) :])
            self.text = whole


def _encoded(tokenizer: Any, prompts: Sequence[str], *, is_text: bool) -> list[list[int]]:
    return [
        prompt_ids(prompt, tokenizer)
        if is_text or not prompt
        else list(tokenizer(prompt, add_special_tokens=False).input_ids)
        for prompt in prompts
    ]


def _end_ids(model: Any) -> set[int]:
    ends = model.generation_config.eos_token_id
    return {ends} if isinstance(ends, int) else set(ends or [])


def generate_ids(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    sampling: dict[str, Any] | None = None,
    use_cache: bool = True,
    streamer: TextPieces | None = None,
) -> list[list[int]]:
    """The new token ids for each prompt, the end token included where one was reached.

    Prompt and answer share the model's positions: where they are too few, answers get at least
    half of them, and prompts lose their beginning. Of a prefix model the whole prompt sees
    itself both ways, and the answer only its left; ``use_cache`` changes no token, and neither
    does a ``streamer``, which is given each token of a single prompt's answer as it comes.
    """
    if not prompts:
        return []
    width = max(len(ids) for ids in prompts)
    positions = num_positions(model.config)
    if positions is not None and width + max_new_tokens > positions:
        max_new_tokens = min(max_new_tokens, max(positions - width, positions // 2))
        prompts = [ids[max_new_tokens - positions :] for ids in prompts]
        width = max(len(ids) for ids in prompts)
    input_ids, attention_mask = padded_left(prompts, tokenizer.pad_token_id, model.device)
    options = dict(sampling or {})
    if is_prefix(model.config):
        # The positions that transformers would count from this mask are wrong.
        options["position_ids"] = (attention_mask.cumsum(1) - 1).clamp(min=0)
        attention_mask *= PROMPT
    ends, was_training = _end_ids(model), model.training
    takes_likeliest = sampling is None and use_cache and streamer is None
    model.eval()
    try:
        if takes_likeliest and len(prompts) > 1 and can_shrink(model):
            return greedy_ids(
                model, input_ids, attention_mask, ends=ends, max_new_tokens=max_new_tokens
            )
        with torch.no_grad():
            output = model.generate(
                input_ids=input_ids,
                attention_mask=attention_mask,
                max_new_tokens=max_new_tokens,
                do_sample=sampling is not None,
                use_cache=use_cache,
                streamer=streamer,
                **options,
            )
    finally:  # an answer can be interrupted
        model.train(was_training)
    return [_until_end(row, ends) for row in output[:, width:].tolist()]


def _until_end(ids: list[int], ends: set[int]) -> list[int]:
    for position, token in enumerate(ids):
        if token in ends:
            return ids[: position + 1]
    return ids
