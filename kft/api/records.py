"""From the recipe's ``data`` section to records: read files, name the roles, hold rows out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, overload

import numpy as np

from kft.api.row_checks import nothing_left, require_learned
from kft.data.batches import hold_out
from kft.data.files import resolve_files
from kft.data.layouts import Layout
from kft.data.left_out import LeftOut, joined
from kft.data.record_store import read_side
from kft.data.sources import HubDataset, RowSource
from kft.data.table import are_set, choose, lengths, whole_numbers
from kft.errors import DataError, Finding
from kft.models.hub import find_hub
from kft.recipe.schema import DataSection, Recipe
from kft.tasks.registry import TASKS
from kft.tasks.task import Record


@dataclass(frozen=True)
class Records:
    """The rows of both sides as records, before any tokenizer.

    Args:
        train: Training rows.
        held_out: Held-out rows.
        num_rows: Rows read for training (and, when split from them, holding out).
        dropped: Reason -> rows that were left out.
        dropped_apart: Those of them that stood in files of held-out rows.
        layout: How the columns were read.
        labels: Names of the labels, when the answers are labels.
        files_sha256: Path -> hash of each file that was read.
        findings: A note when the rows can't be kept for the next run.
    """

    train: Sequence[Record]
    held_out: Sequence[Record]
    num_rows: int
    dropped: dict[str, LeftOut]
    layout: Layout
    labels: list[str]
    files_sha256: dict[str, str]
    findings: tuple[Finding, ...] = field(default=())
    dropped_apart: dict[str, LeftOut] = field(default_factory=dict)


def read_records(recipe: Recipe, ranks: int = 1) -> Records:
    """Read the recipe's files and hold rows out.

    Many rows are written to a file and stay there, memory-mapped; what was read of the same
    files before is found again.

    Args:
        recipe: The recipe.
        ranks: Processes that each bring their rows to a step, where as many are read as it takes.

    Raises:
        DataError: If a file or row can't be used, or no row is left.
    """
    data, seed = recipe.data, recipe.train.seed
    files = train_files(data)
    label_as = TASKS[recipe.task].label_as
    side = read_side(files, data, label_as, most=_enough(recipe, ranks))
    require_learned(recipe.task, side.layout, side.num_rows, files)
    train, uses, dropped = side.records, side.uses, side.dropped
    if not train:
        raise nothing_left(files, dropped)
    findings, hashes = side.findings, dict(side.files_sha256)
    dropped_apart: dict[str, LeftOut] = {}
    if data.eval is None:
        labels = whole_numbers(train, "label") if are_set(train, "label").all() else None
        kept, apart = hold_out(len(train), data.eval_fraction, seed, labels)
        held_out = choose(train, apart)
    else:
        eval_files = _resolved(data.eval, "data.eval")
        # The same format on both sides: a loss on answers says nothing about labels.
        same = data.model_copy(update={"format": side.layout.format})
        other = read_side(eval_files, same, label_as, labels=side.labels)
        held_out, kept = other.records, np.arange(len(train))
        if not held_out:
            raise nothing_left(eval_files, other.dropped)
        dropped_apart = other.dropped
        dropped = joined([dropped, dropped_apart])
        hashes |= other.files_sha256
        findings = tuple(dict.fromkeys((*findings, *other.findings)))
    if uses is not None:
        kept = np.repeat(kept, uses[kept])
    train = choose(train, kept) if uses is not None or data.eval is None else train
    if not train:
        raise DataError("The weights leave no row", where="data.train", expected="larger ones")
    return Records(
        train=train,
        held_out=_some(held_out, recipe.evaluate.max_rows, seed),
        num_rows=side.num_rows,
        dropped=dropped,
        dropped_apart=dropped_apart,
        layout=side.layout,
        # Several labels at once are no single answer to compare with the others.
        labels=side.labels if label_as == "class" or are_set(train, "label").all() else [],
        files_sha256=hashes,
        findings=findings,
    )


def train_files(data: DataSection) -> list[RowSource]:
    """The files of the training rows; streamed ones where the recipe says so.

    Raises:
        DataError: If one can't be found.
    """
    files = _resolved(data.train, "data.train")
    return [replace(file, streamed=True) for file in files] if data.streaming else files


def _resolved(said: Any, key: str) -> list[RowSource]:
    """The files or data sets that a key names."""
    files = resolve_files(said, key)
    if any(isinstance(file, HubDataset) for file in files):
        find_hub()
    return files


def _enough(recipe: Recipe, ranks: int) -> int | None:
    """Rows that the run takes, with those held out of them; ``None`` is all there are."""
    train, data = recipe.train, recipe.data
    batch = train.per_device_train_batch_size
    if not data.streaming or train.max_steps is None or isinstance(batch, str):
        return None
    rows = batch * train.gradient_accumulation_steps * ranks
    share = 1.0 if data.eval is not None else 1.0 - data.eval_fraction
    return math.ceil(train.max_steps * rows / share)


def texts_of(records: Sequence[Record]) -> Iterator[str]:
    """Every text of the records, for making a tokenizer."""
    for record in records:
        yield from _texts(record)


class RecordTexts(Sequence[str]):
    """Every text of the records, of which only those that are asked for are read.

    Args:
        records: The rows.
    """

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = records
        single = np.add(are_set(records, "text"), are_set(records, "text_pair"), dtype=np.int64)
        counts = single + lengths(records, "messages")
        self._ends = np.cumsum(counts, dtype=np.int64)  # texts up to the end of each record

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    @overload
    def __getitem__(self, number: int) -> str: ...
    @overload
    def __getitem__(self, number: slice) -> list[str]: ...
    def __getitem__(self, number: int | slice) -> str | list[str]:
        if isinstance(number, slice):
            return [self[each] for each in range(len(self))[number]]
        number = range(len(self))[number]
        row = int(np.searchsorted(self._ends, number, side="right"))
        texts = list(_texts(self._records[row]))
        return texts[number - int(self._ends[row])]


def _texts(record: Record) -> Iterator[str]:
    if record.text is not None:
        yield record.text
    if record.text_pair is not None:
        yield record.text_pair
    for message in record.messages or ():
        yield message["content"]


def _some(records: Sequence[Record], max_rows: int | None, seed: int) -> Sequence[Record]:
    if max_rows is None or max_rows >= len(records):
        return records
    order = np.random.default_rng([seed, len(records)]).permutation(len(records))
    return choose(records, order[:max_rows])
