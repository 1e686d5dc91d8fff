"""What the rows themselves show, before any tokenizer: texts, repeated rows, labels."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kft.data.cache import cached, digest, found
from kft.data.duplicates import TextKeys
from kft.data.health import TextHealth
from kft.data.label_balance import LabelCounts
from kft.data.record_store import identity
from kft.data.score_spread import ScoreSpread
from kft.errors import Finding, counted, share_of
from kft.tasks.record import Record

PlaceOf = Callable[[int], str]
"""Number of a row, counted from 0 -> ``file:line``."""

FEW_ROWS = 10
"""Below this many held-out rows a difference can't be told from noise."""
_REPORT = "report.json"
_MANY_COPIES = 0.05
_PARTS = {"user": "prompt", "assistant": "answer", "system": "system"}


@dataclass(frozen=True)
class RowReport:
    """Numbers and findings on the rows.

    Args:
        rows: ``train``, ``held_out`` (rows), ``distinct_texts``, ``repeated``,
            ``nearly_repeated``, ``conflicting_texts``, ``leaked`` (held-out rows that stand in
            the training rows), ``leaked_exactly``.
        text: As :meth:`kft.data.health.TextHealth.summary`.
        labels: As :meth:`kft.data.label_balance.LabelCounts.summary`; empty without labels.
        scores: As :meth:`kft.data.score_spread.ScoreSpread.summary`; empty without scores.
        findings: The worst first.
        label_findings: What the labels' numbers show.
    """

    rows: dict[str, Any]
    text: dict[str, Any]
    labels: dict[str, Any]
    scores: dict[str, Any]
    findings: list[Finding]
    label_findings: list[Finding]


def report_on_rows(
    train: Iterable[Record],
    held_out: Iterable[Record],
    *,
    train_place: PlaceOf,
    held_out_place: PlaceOf,
    labels: Sequence[str] = (),
) -> RowReport:
    """Look at every row once.

    Args:
        train: Training rows.
        held_out: Held-out rows.
        train_place: Place of a training row.
        held_out_place: Place of a held-out row.
        labels: Names of the labels; empty where answers are no labels.
    """
    health, counts, scores = TextHealth(), LabelCounts(labels), ScoreSpread()
    numbers = {name: number for number, name in enumerate(labels)}
    trained, apart = TextKeys(), TextKeys()
    for records, keys in ((train, trained), (held_out, apart)):
        for record in records:
            for part, text in parts_of(record):
                health.add(text, record.place, part)
            keys.add(content_of(record), record.label)
            is_apart = keys is apart
            if not is_apart:
                scores.add(record.value)
            if record.tags is not None or record.label_ids is not None:
                tags = {numbers[tag] for tag in record.tags or () if tag in numbers}
                own = tags.union(record.label_ids or ())
                counts.add_several(own, held_out=is_apart, place=record.place)
            elif record.label is not None and record.label < len(labels):
                counts.add(record.label, held_out=is_apart, place=record.place)
    leaked = apart.standing_in(trained)
    findings = [
        *health.findings(),
        *_repeated_findings(trained, train_place),
        *_conflict_findings(trained, train_place),
        *_held_out_findings(trained, apart, train_place, held_out_place),
        *scores.findings(train_place),
    ]
    rows = {
        "train": len(trained.exact),
        "held_out": len(apart.exact),
        "distinct_texts": trained.num_distinct(),
        "repeated": len(trained.repeated()),
        "nearly_repeated": len(trained.nearly_repeated()),
        "conflicting_texts": trained.conflicting()[0],
        "leaked": len(leaked),
        "leaked_exactly": apart.num_exactly_in(trained),
    }
    return RowReport(
        rows,
        health.summary(),
        counts.summary() if labels else {},
        scores.summary(),
        worst_first(findings),
        counts.findings() if labels else [],
    )


KeptReport = tuple[RowReport, tuple[Finding, ...]]
"""The report, and a note when it can't be kept for the next run."""


class NobodyAsksError(Exception):
    """Who wanted the report has failed meanwhile."""


def _until(stop: threading.Event, records: Iterable[Record]) -> Iterator[Record]:
    for record in records:
        if stop.is_set():
            raise NobodyAsksError
        yield record


def kept_report(
    train: Sequence[Record],
    held_out: Sequence[Record],
    labels: Sequence[str],
    stop: threading.Event | None = None,
) -> KeptReport:
    """Look at every row, or find what was seen of the same rows before.

    Args:
        train: Training rows.
        held_out: Held-out rows.
        labels: Names of the labels; empty where answers are no labels.
        stop: Set when nobody waits for the report any more.
    """
    stop = stop or threading.Event()

    def look() -> RowReport:
        return report_on_rows(
            _until(stop, train),
            _until(stop, held_out),
            train_place=lambda row: train[row].place,
            held_out_place=lambda row: held_out[row].place,
            labels=labels,
        )

    def write(folder: Path) -> None:
        (folder / _REPORT).write_text(json.dumps(asdict(look())), encoding="utf-8")

    depends_on = _depends_on(train, held_out, labels)
    if depends_on is None:
        return look(), ()
    entry = cached("reports", depends_on, write)
    plain = json.loads((entry.path / _REPORT).read_text(encoding="utf-8"))
    for name in ("findings", "label_findings"):
        plain[name] = [Finding(**finding) for finding in plain[name]]
    return RowReport(**plain), entry.findings


def is_kept(train: Sequence[Record], held_out: Sequence[Record], labels: Sequence[str]) -> bool:
    """Whether :func:`kept_report` would look at no row: it finds the report, or can't keep one."""
    depends_on = _depends_on(train, held_out, labels)
    return depends_on is None or found("reports", depends_on) is not None


def _depends_on(
    train: Sequence[Record], held_out: Sequence[Record], labels: Sequence[str]
) -> dict[str, Any] | None:
    """What a kept report is found by; ``None`` for rows in memory."""
    sides = [identity(train), identity(held_out)]
    if sides[0] is None:
        return None
    if sides[1] is None:  # few rows in a file of their own
        sides[1] = {"rows": digest([asdict(record) for record in held_out])}
    return {"sides": sides, "labels": list(labels)}


def parts_of(record: Record) -> Iterator[tuple[str, str]]:
    """The texts of a record, each with what it is; an answer that is a label is none."""
    if record.messages is None:
        yield "text", record.text or ""
        if record.text_pair is not None:
            yield "text_pair", record.text_pair
        return
    turns = record.messages if record.label is None else record.messages[:-1]
    for turn in turns:
        yield _PARTS.get(turn["role"], turn["role"]), turn["content"]
        if turn.get("input"):
            yield "input", turn["input"]


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Errors, then warnings, then notes; otherwise in the order given."""
    order = ("error", "warning", "note")
    return sorted(findings, key=lambda finding: order.index(finding.severity))


def content_of(record: Record) -> str:
    """What makes a row what it is: a labelled one its text, any other everything that is said."""
    return "\n\x1f".join(text for _, text in parts_of(record))


def _repeated_findings(keys: TextKeys, place: PlaceOf) -> Iterator[Finding]:
    repeated, nearly = keys.repeated(), keys.nearly_repeated()
    exactly = "Training rows repeat an earlier one"
    but_for = "Training rows repeat an earlier one but for case, spaces or signs"
    for rows, what in ((repeated, exactly), (nearly, but_for)):
        if not len(rows):
            continue
        share, row = len(rows) / len(keys.exact), int(rows[0])
        first = place(keys.first_like(keys.loose[row]))
        is_note = what is but_for or share < _MANY_COPIES
        yield Finding(
            "note" if is_note else "warning",
            f"{what}, {share_of(share)} of them",
            where=f"{place(row)}, as {first}",
            hint=None
            if what is but_for
            else "`kft check RECIPE --fix DIR` writes a copy with one of each.",
            count=len(rows),
        )


def _conflict_findings(keys: TextKeys, place: PlaceOf) -> Iterator[Finding]:
    num_texts, rows = keys.conflicting()
    if num_texts:
        row = int(rows[0])
        yield Finding(
            "warning",
            "The same text stands with different labels",
            where=f"{place(row)}, and {place(keys.first_like(keys.loose[row]))}",
            hint="Keep the label that is right; what contradicts itself can't be learned.",
            count=num_texts,
        )


def _held_out_findings(
    trained: TextKeys, apart: TextKeys, train_place: PlaceOf, held_out_place: PlaceOf
) -> Iterator[Finding]:
    """Held-out rows that were trained on, or are too few: the result would not be honest."""
    leaked, num_rows = apart.standing_in(trained), len(apart.exact)
    if len(leaked):
        row = int(leaked[0])
        first = train_place(trained.first_like(apart.loose[row]))
        yield Finding(
            "warning",
            "Held-out rows also stand in the training rows: the result will look too good",
            where=f"{held_out_place(row)}, as {first}",
            hint="Remove the copies, or give other rows in `data.eval`.",
            count=len(leaked),
        )
    if 0 < num_rows < FEW_ROWS:
        yield Finding(
            "warning",
            f"Only {counted(num_rows, 'row')} held out: too few to tell a difference from noise",
            hint=f"Hold out at least {FEW_ROWS}: raise `data.eval_fraction`, or give `data.eval`.",
        )
