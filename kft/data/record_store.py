"""One side of the data as records: in memory while they are few, else in a file that is kept."""

from __future__ import annotations

import json
import re
from array import array
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar, cast
from unicodedata import normalize

import numpy as np

from kft.data.cache import Entry, array_sha256, cached, found
from kft.data.content import ends_sha256, file_sha256, same_content
from kft.data.encodings import remember_encoding, text_encoding
from kft.data.few import first_few, row_size
from kft.data.formats import Dropped, RecordReader, label_names
from kft.data.labels import LABELLED
from kft.data.layouts import Layout, choose_layout
from kft.data.left_out import LeftOut, from_plain
from kft.data.row import Row
from kft.data.rows import is_text, read_rows
from kft.data.sources import DataFile, RowSource, copies
from kft.data.table import Chosen, Table, write_table
from kft.errors import DataError, Finding
from kft.recipe.schema import DataSection
from kft.tasks.record import LabelUse, Record

T = TypeVar("T")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_OPEN_FILES = 64
_MORE_LABELS = 1000  # rows further than needed that are looked at for labels
_ROWS, _USES, _SUMMARY = "rows.arrow", "uses.npy", "summary.json"


@dataclass(frozen=True)
class Side:
    """The records of some files.

    Args:
        records: In file order, without those left out.
        num_rows: Rows read, those left out included.
        dropped: Reason -> rows left out.
        layout: How the columns were read.
        labels: Names of the labels; empty where the rows have none.
        uses: int64 (records,), how often each is used; ``None``: once.
        files_sha256: Path -> hash of each file; a data set on the hub is known by its revision.
        findings: A note when the rows can't be kept for the next run.
    """

    records: Sequence[Record]
    num_rows: int
    dropped: dict[str, LeftOut]
    layout: Layout
    labels: list[str]
    uses: np.ndarray | None = None
    files_sha256: Mapping[str, str] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


def read_side(
    files: Sequence[RowSource],
    section: DataSection,
    label_as: LabelUse,
    *,
    labels: Sequence[str] | None = None,
    most: int | None = None,
) -> Side:
    """Read files, or find what was read of them before.

    Args:
        files: At least one.
        section: Says how their columns are read.
        label_as: As for :func:`kft.data.formats.to_records`.
        labels: Names of the labels; ``None`` takes the section's, or those in the rows.
        most: So many uses of rows are enough: they are taken from the files in turn, a row from
            each, and nothing behind them is read. ``None`` reads everything.

    Raises:
        DataError: If a file or row can't be used.
    """
    hashes = {
        file.path: ends_sha256(file.path) if file.streamed else file_sha256(file.path)
        for file in files
        if isinstance(file, DataFile)
    }
    by_name = {str(path.absolute()): content for path, content in hashes.items()}
    reading = _Reading(files, section, label_as, labels, most)
    depends_on = _depends_on(files, hashes, section, label_as)
    if depends_on is not None:
        depends_on |= {"given_labels": None if labels is None else list(labels), "most": most}
    entry = None if depends_on is None else found("rows", depends_on)
    if entry is None:
        side = reading.in_memory() if most is None else reading.enough_in_memory()
        if side is not None:
            return replace(side, files_sha256=by_name)
        entry = cached("rows", depends_on, partial(_write_same, reading, hashes))
    return replace(_opened(entry, files), files_sha256=by_name)


def _write_same(reading: _Reading, hashes: Mapping[Path, str], folder: Path) -> None:
    reading.write(folder)
    for path, before in hashes.items():
        if not same_content(path, before):
            raise DataError(
                "The file changed while it was read",
                where=str(path),
                expected="a file that stays as it is while kft reads it",
            )


def identity(rows: Sequence[Any]) -> dict[str, Any] | None:
    """What tells stored rows from any others; ``None`` for rows in memory."""
    if isinstance(rows, Table):
        return {"table": f"{rows.path.parent.name}/{rows.path.name}"}
    if isinstance(rows, Chosen):
        whole = identity(rows.rows)
        return whole and {**whole, "chosen": array_sha256(rows.indices)}
    return None


def in_turn(readers: Iterable[Iterator[T]]) -> Iterator[T]:
    """An item of each in turn, of at most 64 readers at once.

    Example:
        >>> "".join(in_turn(map(iter, ["abc", "d", "ef"])))
        'adebfc'
    """
    waiting = iter(readers)
    turn = deque(islice(waiting, _OPEN_FILES))
    while turn:
        reader = turn.popleft()
        for item in islice(reader, 1):
            yield item
            turn.append(reader)
            break
        else:
            turn.extend(islice(waiting, 1))


def _rows_of(file: RowSource) -> Iterator[tuple[Row, int]]:
    for number, row in enumerate(read_rows(file)):
        yield row, 1 if file.weight == 1 else copies(number, file.weight)


class _Reading:
    """What is read, and what reading has shown so far."""

    def __init__(
        self,
        files: Sequence[RowSource],
        section: DataSection,
        label_as: LabelUse,
        labels: Sequence[str] | None,
        most: int | None,
    ) -> None:
        self._files, self._section, self._label_as = files, section, label_as
        self._labels, self._most = labels, most
        self._has_weights = any(file.weight != 1 for file in files)

    def rows_and_uses(self) -> Iterator[tuple[Row, int]]:
        readers = map(_rows_of, self._files)
        return chain.from_iterable(readers) if self._most is None else in_turn(readers)

    def in_memory(self) -> Side | None:
        """All rows, if they are few."""
        pairs, are_all = first_few(self.rows_and_uses(), lambda pair: row_size(pair[0]))
        return self._side(list, pairs, pairs) if are_all else None

    def enough_in_memory(self) -> Side | None:
        """As many rows as are enough, if they are few; none behind them is read."""
        are_all = False

        def keep(records: Iterator[Record]) -> Sequence[Record]:
            nonlocal are_all
            kept, are_all = first_few(records)
            return kept

        side = self._side(keep, self.rows_and_uses(), self.rows_and_uses())
        return side if are_all else None

    def write(self, folder: Path) -> None:
        def keep(records: Iterator[Record]) -> Sequence[Record]:
            write_table(folder / _ROWS, records, Record)
            return ()

        side = self._side(keep, self.rows_and_uses(), self.rows_and_uses())
        if side.uses is not None:
            np.save(folder / _USES, side.uses)
        summary = {
            "num_rows": side.num_rows,
            "dropped": {reason: asdict(rows) for reason, rows in side.dropped.items()},
            "layout": {**asdict(side.layout), "columns": dict(side.layout.columns)},
            "labels": side.labels,
            "encodings": {
                str(file): text_encoding(file)
                for file in self._files
                if self._most is None and isinstance(file, DataFile) and is_text(file)
            },
        }
        (folder / _SUMMARY).write_text(json.dumps(summary), encoding="utf-8")

    def _side(
        self,
        keep: Callable[[Iterator[Record]], Sequence[Record]],
        pairs: Iterable[tuple[Row, int]],
        again: Iterable[tuple[Row, int]],
    ) -> Side:
        """The records of ``pairs``; ``again`` are the same, for what must be known before."""
        rows = (row for row, _ in again)
        first = next(rows)
        layout = choose_layout(first, self._section)
        known = None if self._most is None else 2 * self._most + _MORE_LABELS
        labels = self._label_names(layout, islice(chain([first], rows), known))
        reader = RecordReader(layout, labels, self._section.normalization, self._label_as)
        dropped: dict[str, LeftOut] = defaultdict(LeftOut)
        used = array("q")
        num_rows = num_uses = 0

        def records() -> Iterator[Record]:
            nonlocal num_rows, num_uses
            for row, uses in pairs:
                num_rows += 1
                record = reader.read(row)
                if isinstance(record, Dropped):
                    dropped[record.reason].add(record.place)
                else:
                    if self._has_weights:
                        used.append(uses)
                    num_uses += uses
                    yield record
                    if self._most is not None and num_uses >= self._most:
                        return

        kept = keep(records())
        uses = np.array(used, dtype=np.int64) if self._has_weights else None
        return Side(kept, num_rows, dict(dropped), layout, labels, uses)

    def _label_names(self, layout: Layout, rows: Iterable[Row]) -> list[str]:
        section = self._section
        if self._labels is not None:
            return list(self._labels)
        if layout.format not in LABELLED or self._label_as == "value":
            return []
        if not section.labels:
            return label_names(
                rows,
                layout,
                normalization=section.normalization,
                numbers_are_names=self._label_as == "class",
            )
        form = partial(normalize, "NFC") if section.normalization == "NFC" else str
        return [form(name) for name in section.labels]


def _depends_on(
    files: Sequence[RowSource],
    hashes: Mapping[Path, str],
    section: DataSection,
    label_as: LabelUse,
) -> dict[str, Any] | None:
    sources = []
    for file in files:
        if isinstance(file, DataFile):
            content = hashes[file.path]
            if file.streamed:
                content += f" {file.path.stat().st_mtime_ns}"
        elif _COMMIT.fullmatch(file.revision or ""):
            content = file.revision or ""
        else:
            return None  # a branch may be another one tomorrow
        sources.append([str(file), file.weight, content])
    keys = ("format", "columns", "labels", "normalization")
    plain = section.model_dump(mode="json", include=set(keys))
    return {"files": sources, "label_as": label_as, **plain}


def _opened(entry: Entry, files: Sequence[RowSource]) -> Side:
    folder = entry.path
    summary: Mapping[str, Any] = json.loads((folder / _SUMMARY).read_text(encoding="utf-8"))
    encodings = summary["encodings"]
    for file in files:
        if isinstance(file, DataFile) and str(file) in encodings:  # the bytes are the same
            remember_encoding(file, encodings[str(file)])
    layout = summary["layout"]
    return Side(
        records=Table(folder / _ROWS, Record),
        num_rows=summary["num_rows"],
        dropped=from_plain(summary["dropped"]),
        layout=Layout(**{**layout, "label_columns": tuple(layout["label_columns"])}),
        labels=summary["labels"],
        uses=cast(np.ndarray, np.load(folder / _USES)) if (folder / _USES).exists() else None,
        findings=entry.findings,
    )
