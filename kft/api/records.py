"""From the recipe's ``data`` section to records: read files, name the roles, hold rows out."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from unicodedata import normalize

import numpy as np

from kft.api.row_checks import nothing_left
from kft.data.batches import hold_out
from kft.data.files import resolve_files
from kft.data.formats import Dropped, label_names, to_records
from kft.data.labels import LABELLED
from kft.data.layouts import Layout, choose_layout
from kft.data.rows import Row, read_rows
from kft.data.sources import DataFile, RowSource, copies
from kft.errors import DataError
from kft.recipe.schema import DataSection, Recipe
from kft.tasks.registry import TASKS
from kft.tasks.task import LabelUse, Record


@dataclass(frozen=True)
class Records:
    """The rows of both sides as records, before any tokenizer.

    Args:
        train: Training rows.
        held_out: Held-out rows.
        num_rows: Rows read for training (and, when split from them, holding out).
        dropped: Reason -> places of rows that were left out.
        layout: How the columns were read.
        labels: Names of the labels, when the answers are labels.
        files_sha256: Path -> hash of each file that was read.
    """

    train: list[Record]
    held_out: list[Record]
    num_rows: int
    dropped: dict[str, list[str]]
    layout: Layout
    labels: list[str]
    files_sha256: dict[str, str]


def read_records(recipe: Recipe) -> Records:
    """Read the recipe's files and hold rows out.

    Raises:
        DataError: If a file or row can't be used, or no row is left.
    """
    data = recipe.data
    dropped: dict[str, list[str]] = defaultdict(list)
    files = resolve_files(data.train, "data.train")
    rows, uses = _rows(files)
    layout = choose_layout(rows[0], data)
    label_as = TASKS[recipe.task].label_as
    labels = _labels(rows, layout, data, label_as)
    train = _keep(rows, layout, labels, data, label_as, dropped)
    num_rows = len(rows)
    if not train:
        raise nothing_left(files, dropped)
    if data.eval is None:
        kept, apart = hold_out(len(train), data.eval_fraction, recipe.train.seed)
        train, held_out = [train[row] for row in kept], [train[row] for row in apart]
    else:
        eval_files = resolve_files(data.eval, "data.eval")
        rows, _ = _rows(eval_files)
        left_out: dict[str, list[str]] = defaultdict(list)
        # The same format on both sides: a loss on answers says nothing about labels.
        same = data.model_copy(update={"format": layout.format})
        held_out = _keep(rows, choose_layout(rows[0], same), labels, data, label_as, left_out)
        if not held_out:
            raise nothing_left(eval_files, left_out)
        for reason, places in left_out.items():
            dropped[reason] += places
        files = [*files, *eval_files]
    train = [record for record in train for _ in range(uses.get(record.place, 1))]
    if not train:
        raise DataError("The weights leave no row", where="data.train", expected="larger ones")
    return Records(
        train=train,
        held_out=_some(held_out, recipe.evaluate.max_rows, recipe.train.seed),
        num_rows=num_rows,
        dropped=dict(dropped),
        layout=layout,
        # Several labels at once are no single answer to compare with the others.
        labels=labels
        if label_as == "class" or all(record.label is not None for record in train)
        else [],
        files_sha256=_hashes(files),
    )


def texts_of(records: Sequence[Record]) -> Iterator[str]:
    """Every text of the records, for making a tokenizer."""
    for record in records:
        if record.text is not None:
            yield record.text
        for message in record.messages or ():
            yield message["content"]


def _rows(files: Sequence[RowSource]) -> tuple[list[Row], dict[str, int]]:
    """The rows, and by place how often each is used where that isn't once."""
    rows: list[Row] = []
    uses: dict[str, int] = {}
    for file in files:
        for number, row in enumerate(read_rows(file)):
            rows.append(row)
            if file.weight != 1:
                uses[row.place] = copies(number, file.weight)
    if not rows:
        raise DataError("The data has no rows", where=", ".join(map(str, files)))
    return rows, uses


def _labels(
    rows: Sequence[Row], layout: Layout, data: DataSection, label_as: LabelUse
) -> list[str]:
    if layout.format not in LABELLED or label_as == "value":
        return []
    if not data.labels:
        return label_names(
            rows,
            layout,
            normalization=data.normalization,
            numbers_are_names=label_as == "class",
        )
    is_nfc = data.normalization == "NFC"
    return [normalize("NFC", name) if is_nfc else name for name in data.labels]


def _keep(
    rows: Sequence[Row],
    layout: Layout,
    labels: Sequence[str],
    data: DataSection,
    label_as: LabelUse,
    dropped: dict[str, list[str]],
) -> list[Record]:
    kept: list[Record] = []
    for record in to_records(
        rows, layout, labels=labels, normalization=data.normalization, label_as=label_as
    ):
        if isinstance(record, Dropped):
            dropped[record.reason].append(record.place)
        else:
            kept.append(record)
    return kept


def _hashes(files: Sequence[RowSource]) -> dict[str, str]:
    """A data set on the hub is known by its revision instead."""
    paths = dict.fromkeys(file.path for file in files if isinstance(file, DataFile))
    return {str(path.absolute()): file_sha256(path) for path in paths}


def _some(records: list[Record], max_rows: int | None, seed: int) -> list[Record]:
    if max_rows is None or max_rows >= len(records):
        return records
    order = np.random.default_rng([seed, len(records)]).permutation(len(records))
    return [records[row] for row in order[:max_rows]]


def file_sha256(path: Path) -> str:
    """Hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
