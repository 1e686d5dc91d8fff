"""What the encoded rows show: lengths, targets, end tokens, steps, and how they are rendered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from kft.api.row_report import PlaceOf
from kft.data.batches import WindowPlan
from kft.data.table import lengths
from kft.data.token_counts import TokenCounts, example_sizes
from kft.errors import Finding, counted
from kft.tasks.task import Example, Record, Renderer
from kft.train.micro_batch import Lengths

_FEW_STEPS = 8
_GOOD_STEPS = 16
_SAMPLE = 200


def count_tokens(examples: Iterable[Example], *, answers_in_text: bool = True) -> TokenCounts:
    """Lengths and targets of examples, taken a few thousand at a time.

    Args:
        examples: Training rows.
        answers_in_text: Targets are tokens; else each row has one at least, its label.
    """
    fewest = 0 if answers_in_text else 1
    counts = TokenCounts()
    for sizes in example_sizes(examples):
        counts.add(sizes._replace(num_targets=np.maximum(fewest, sizes.num_targets)))
    return counts


def lengths_of(examples: Sequence[Example], held_out: Sequence[Example]) -> Lengths:
    """The lengths of training and held-out examples."""
    sizes = list(example_sizes(examples))
    none = np.zeros(0, dtype=np.int64)
    tokens = [none, *(part.num_tokens for part in sizes)]
    targets = [none, *(part.num_targets for part in sizes)]
    return Lengths(np.concatenate(tokens), np.concatenate(targets), lengths(held_out))


def token_findings(
    counts: TokenCounts, place: PlaceOf, tokenizer: Any, *, answers_in_text: bool = True
) -> Iterator[Finding]:
    """What the lengths and targets of the training rows show.

    Args:
        counts: Of the training rows.
        place: Place of a training example.
        tokenizer: The model's.
        answers_in_text: As for :func:`count_tokens`.
    """
    cut = "their answers are cut and have no end token" if answers_in_text else "their ends are cut"
    told: dict[str, tuple[Any, str, str]] = {
        "without_target": (
            "error",
            "Rows have no target: nothing of them is learned",
            "Raise `data.max_length`, or set `data.on_too_long: drop`.",
        ),
        "truncated": (
            "warning",
            f"Rows are longer than `data.max_length`; {cut}",
            "Raise `data.max_length`, or set `data.on_too_long: drop`.",
        ),
        "without_end": (
            "warning",
            f"Answers don't end with the end token `{tokenizer.eos_token}`: the model may not stop",
            "Write `{{ eos_token }}` after each answer in the template.",
        ),
    }
    for flag, (severity, what, hint) in told.items():
        if counts.count(flag):
            first = place(counts.first_row(flag))
            yield Finding(severity, what, where=first, hint=hint, count=counts.count(flag))


def step_findings(plan: WindowPlan) -> Iterator[Finding]:
    """A warning where an epoch has so few optimizer steps that little can be learned."""
    if plan.max_steps is not None or plan.steps_per_epoch >= _FEW_STEPS:
        return
    steps = counted(plan.steps_per_epoch, "optimizer step")
    rows = max(1, plan.num_rows // _GOOD_STEPS)
    batch = min(plan.rows_per_batch, rows)
    if plan.packing is not None and plan.num_rows < _GOOD_STEPS <= plan.num_examples:
        override = "data.packing=false"
    elif rows < plan.rows_per_window:
        override = f"train.per_device_train_batch_size={batch} "
        override += f"train.gradient_accumulation_steps={rows // batch}"
    else:
        override = f"train.num_train_epochs={-(-3 * _GOOD_STEPS // plan.steps_per_epoch)}"
    yield Finding(
        "warning",
        f"An epoch has only {steps}, the run {plan.total_steps}: hardly anything is learned",
        where="`train`",
        hint=f"`{override}`",
    )


def rendering_findings(
    records: Iterable[Record],
    renderer: Renderer,
    tokenizer: Any,
    *,
    own_template: str | None,
    template: str,
) -> Iterator[Finding]:
    """How the rows are written for the model, compared with how others would write them.

    Args:
        records: Training rows, of which the first 200 are looked at.
        renderer: The template in use.
        tokenizer: The model's.
        own_template: The checkpoint's own chat template, if it has one.
        template: Name of the one in use.
    """
    if tokenizer.pad_token_id == tokenizer.eos_token_id:
        yield Finding(
            "note",
            f"Padding is the end token `{tokenizer.eos_token}`; it is masked by position, so the "
            "true end is still learned",
        )
    conversations = [record for record in islice(records, _SAMPLE) if record.messages is not None]
    if not conversations:
        return
    if own_template is not None and renderer.chat_template != own_template:
        yield Finding(
            "note",
            f"The template {template} is not the checkpoint's own chat template",
            where="`data.template`",
            hint="`data.template=checkpoint` uses its own.",
        )
    joined = [record.place for record in conversations if _joins(record, renderer, tokenizer)]
    if joined:
        yield Finding(
            "note",
            f"In the first {counted(len(conversations), 'row')}, tokens reach over the cut between "
            "prompt and answer; kft encodes the two apart, as they are at generation",
            where=joined[0],
            count=len(joined),
        )


def _joins(record: Record, renderer: Renderer, tokenizer: Any) -> bool:
    """Whether the ids of a prompt are no prefix of the ids of prompt and answer."""
    pieces = renderer.render(record.messages or (), record.place).pieces
    if len(pieces) < 2 or pieces[0][1]:
        return False
    prompt = _ids(pieces[:1], tokenizer)
    return _ids(pieces, tokenizer)[: len(prompt)] != prompt


def _ids(pieces: Sequence[tuple[str, bool]], tokenizer: Any) -> list[int]:
    text = "".join(piece for piece, _ in pieces)
    return list(tokenizer(text, add_special_tokens=False).input_ids)
