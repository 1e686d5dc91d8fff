"""What can be wrong with rows once they are rendered and encoded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kft.errors import DataError, Finding, RecipeError
from kft.tasks.task import Dataset, Example, Record, Renderer

_ENOUGH = 8  # characters of an answer that are looked for in its rendering


def check_template(name: str, records: Sequence[Record], renderer: Renderer) -> None:
    """See that the template renders the answer, by the end of the first one.

    Only the end: templates of reasoning models leave the thoughts out.

    Raises:
        RecipeError: If the answer is not in the rendering.
    """
    record = records[0]
    if record.messages is None:
        return
    rendered = renderer.render(record.messages, record.place)
    targets = "".join(text for text, is_target in rendered.pieces if is_target)
    if record.messages[-1]["content"].strip()[-_ENOUGH:] not in targets:
        raise RecipeError(
            f"The template `{name}` leaves the answer out",
            where=f"{record.place}, `data.template`",
            expected="`{{ message.content }}` of the turns of `assistant`, too",
        )


def check_positions(groups: Sequence[Sequence[Example]], positions: int | None) -> None:
    """See that no row is longer than the model has positions.

    Args:
        groups: Examples.
        positions: Tokens per row at most; ``None`` is no limit.

    Raises:
        DataError: Naming the first row that is longer.
    """
    for example in (example for group in groups for example in group):
        if positions is not None and len(example.input_ids) > positions:
            raise DataError(
                f"Row has {len(example.input_ids)} tokens, and the model {positions} positions",
                where=example.place,
                expected=f"at most {positions} tokens",
                hint=f"`data.max_length={positions}`",
            )


def nothing_left(files: Sequence[object], dropped: Mapping[str, Sequence[str]]) -> DataError:
    """The error for data whose rows were all left out."""
    reasons = ", ".join(f"{len(places)} with {reason}" for reason, places in dropped.items())
    return DataError(
        "No row is left",
        where=", ".join(map(str, files)),
        expected=f"at least one row with text in every column; left out were {reasons}",
    )


def findings(dataset: Dataset, tokenizer: Any) -> Iterator[Finding]:
    """What the training rows show that does not stop a run."""
    for reason, places in dataset.dropped.items():
        yield Finding("note", f"Rows left out: {reason}", where=places[0], count=len(places))
    cut = [example.place for example in dataset.examples if example.was_truncated]
    if cut:
        yield Finding(
            "warning",
            "Rows are longer than `data.max_length`; their answers are cut and have no end token",
            where=cut[0],
            hint="Raise `data.max_length`, or set `data.on_too_long: drop`.",
            count=len(cut),
        )
    endless = [
        example.place
        for example in dataset.examples
        if not example.end_is_target and not example.was_truncated
    ]
    if endless:
        yield Finding(
            "warning",
            f"Answers don't end with the end token `{tokenizer.eos_token}`: the model may not stop",
            where=endless[0],
            hint="Write `{{ eos_token }}` after each answer in the template.",
            count=len(endless),
        )


FEW_ROWS = 10
"""Below this many held-out rows a difference can't be told from noise."""


def held_out_findings(train: Sequence[Record], held_out: Sequence[Record]) -> Iterator[Finding]:
    """Held-out rows that were trained on, or are too few: the result would not be honest."""
    trained = {_content(record) for record in train}
    again = [record.place for record in held_out if _content(record) in trained]
    if again:
        yield Finding(
            "warning",
            "Held-out rows also stand in the training rows: the result will look too good",
            where=again[0],
            hint="Remove the copies, or give other rows in `data.eval`.",
            count=len(again),
        )
    if 0 < len(held_out) < FEW_ROWS:
        yield Finding(
            "warning",
            f"Only {len(held_out)} rows are held out: too few to tell a difference from noise",
            hint=f"Hold out at least {FEW_ROWS}: raise `data.eval_fraction`, or give `data.eval`.",
        )


def _content(record: Record) -> int:
    """A hash of what is said, whatever the white space."""
    said = [(m["role"], m["content"], m.get("input", "")) for m in record.messages or ()]
    turns = [tuple(" ".join(text.split()) for text in turn) for turn in said]
    return hash((" ".join((record.text or "").split()), tuple(turns)))
