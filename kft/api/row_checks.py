"""What can be wrong with rows once they are rendered and encoded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kft.api.row_report import report_on_rows
from kft.api.token_report import count_tokens, token_findings
from kft.errors import DataError, Finding, RecipeError
from kft.tasks.task import Example, Record, Renderer

_ENOUGH = 8  # characters of an answer that are looked for in its rendering


@dataclass(frozen=True)
class Dataset:
    """The examples of one side of the data, and what reading them showed.

    Args:
        examples: In file order.
        num_rows: Rows read, dropped ones included.
        dropped: Reason -> places of the rows left out.
    """

    examples: Sequence[Example]
    num_rows: int
    dropped: Mapping[str, Sequence[str]] = field(default_factory=dict)


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


def findings(
    dataset: Dataset, tokenizer: Any, *, answers_in_text: bool = True
) -> Iterator[Finding]:
    """What the encoded training rows show that does not stop a run."""
    yield from dropped_findings(dataset.dropped)
    examples = dataset.examples
    counts = count_tokens(examples, answers_in_text=answers_in_text)
    yield from token_findings(
        counts, lambda row: examples[row].place, tokenizer, answers_in_text=answers_in_text
    )


def dropped_findings(dropped: Mapping[str, Sequence[str]]) -> Iterator[Finding]:
    """A note for each reason why rows were left out."""
    for reason, places in dropped.items():
        yield Finding("note", f"Rows left out: {reason}", where=places[0], count=len(places))


def held_out_findings(train: Sequence[Record], held_out: Sequence[Record]) -> list[Finding]:
    """What is wrong with the texts of both sides, and whether held-out rows were trained on.

    Errors and warnings alone: a run is no place for notes, ``kft check`` tells them.
    """
    report = report_on_rows(
        train,
        held_out,
        train_place=lambda row: train[row].place,
        held_out_place=lambda row: held_out[row].place,
    )
    return [finding for finding in report.findings if finding.severity != "note"]


def stop_on_errors(found: Iterable[Finding]) -> None:
    """See that no finding is an error.

    Raises:
        DataError: With the first one that is.
    """
    for finding in found:
        if finding.severity == "error":
            times = f" ({finding.count} times)" if finding.count > 1 else ""
            raise DataError(finding.what + times, where=finding.where, hint=finding.hint)
