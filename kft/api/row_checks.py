"""What can be wrong with rows once they are rendered and encoded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kft.api.token_report import count_tokens, token_findings
from kft.data.layouts import Layout
from kft.data.left_out import LeftOut
from kft.data.rows import read_rows
from kft.data.sources import RowSource
from kft.data.table import lengths
from kft.errors import DataError, Finding, RecipeError
from kft.recipe.keys import one_of
from kft.recipe.task_rules import tasks_for
from kft.tasks.task import Example, Record, Renderer

_ENOUGH = 8  # characters of an answer that are looked for in its rendering


@dataclass(frozen=True)
class Dataset:
    """The examples of one side of the data, and what reading them showed.

    Args:
        examples: In file order.
        num_rows: Rows read, dropped ones included.
        dropped: Reason -> the rows left out.
    """

    examples: Sequence[Example]
    num_rows: int
    dropped: Mapping[str, LeftOut] = field(default_factory=dict)


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
    if positions is None:
        return
    for examples in groups:
        longer = np.flatnonzero(lengths(examples) > positions)
        if len(longer):
            example = examples[int(longer[0])]
            raise DataError(
                f"Row has {len(example.input_ids)} tokens, and the model {positions} positions",
                where=example.place,
                expected=f"at most {positions} tokens",
                hint=f"`data.max_length={positions}`",
            )


_LEARNED = {
    "sequence_classification": ("a label", "label"),
    "sequence_regression": ("a number", "label"),
    "token_classification": ("tags", "tags"),
}
"""Task -> what it learns of a row, and the role of the column that has it."""


def require_learned(task: str, layout: Layout, num_rows: int, files: Sequence[RowSource]) -> None:
    """See that the rows are of a format that has what the task learns.

    Args:
        task: The recipe's task.
        layout: How the columns were read.
        num_rows: Rows read.
        files: Where they come from; at least one.

    Raises:
        DataError: If no row has it, with the column that may, or the tasks that need none.
    """
    fitting = tasks_for(layout.format)
    if task not in _LEARNED or task in fitting:
        return
    learned, role = _LEARNED[task]
    used = {column.partition(".")[0] for column in layout.columns.values()}
    free = [name for name in next(read_rows(files[0])).fields if name not in used]
    read = "tokens" if role == "tags" else "text"
    column = next(iter(layout.columns.values()), read)
    hint = (
        f"If {one_of(free)} holds it: `data.columns: {{{read}: {column}, {role}: X}}`, with its "
        "name for X."
        if free
        else None
    )
    raise DataError(
        f"No row of {num_rows:,} has {learned}, which `task: {task}` learns",
        where=", ".join(map(str, files)),
        expected=f"a column for the role `{role}`; the rows were taken for {layout.note}",
        hint=hint or f"Add a column `{role}`, or learn {one_of(list(fitting))} as `task`.",
    )


def nothing_left(files: Sequence[object], dropped: Mapping[str, LeftOut]) -> DataError:
    """The error for data whose rows were all left out."""
    reasons = ", ".join(f"{rows.count} with {reason}" for reason, rows in dropped.items())
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


def dropped_findings(dropped: Mapping[str, LeftOut]) -> Iterator[Finding]:
    """A note for each reason why rows were left out."""
    for reason, rows in dropped.items():
        what = f"Rows left out: {reason}"
        yield Finding("note", what, where=rows.places[0], count=rows.count)


def stop_on_errors(found: Iterable[Finding]) -> None:
    """See that no finding is an error.

    Raises:
        DataError: With the first one that is.
    """
    for finding in found:
        if finding.severity == "error":
            times = f" ({finding.count} times)" if finding.count > 1 else ""
            raise DataError(finding.what + times, where=finding.where, hint=finding.hint)
