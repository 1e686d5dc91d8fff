"""Rows that a run is measured on although it was trained on them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from kft.api.opened import is_run, run_recipe
from kft.api.records import read_records
from kft.api.row_report import content_of
from kft.data.content import same_content
from kft.data.duplicates import TextKeys
from kft.errors import Finding, KftError
from kft.tasks.record import Record


def run_of(place: str) -> Path | None:
    """The run that a run folder is, or that its adapter or merged model comes from."""
    folder = Path(place)
    return next((one for one in (folder, folder.absolute().parent) if is_run(one)), None)


def data_sha256(run: Path) -> dict[str, str]:
    """Each file of a run, with the hash that it had."""
    environment = json.loads((run / "environment.json").read_text(encoding="utf-8"))
    hashes: dict[str, str] = environment["data_sha256"]
    return hashes


def seen_findings(run: Path, rows: Sequence[Record]) -> Iterator[Finding]:
    """A warning where rows stand in a run's training rows, or a note that this can't be told.

    Args:
        run: Its folder.
        rows: What it is measured on.
    """
    try:
        hashes = data_sha256(run)
        is_there = all(same_content(Path(path), sha) for path, sha in hashes.items())
        trained = keys_of(read_records(run_recipe(run)).train) if is_there and hashes else None
    except (KftError, OSError):
        trained = None
    if trained is None:
        what = f"What `{run}` was trained on has gone or changed: rows of it may be among these"
        yield Finding("note", what)
        return
    seen = keys_of(rows).standing_in(trained)
    if len(seen):
        yield seen_finding(run, len(seen), rows[int(seen[0])].place)


def own_findings(run: Path) -> Iterator[Finding]:
    """The same of a run's own held-out rows, as it found them when it was trained."""
    result = run / "result.json"
    leaked = json.loads(result.read_text("utf-8")).get("leaked_rows") if result.is_file() else 0
    if leaked:
        yield seen_finding(run, leaked, None)


def seen_finding(run: Path, count: int, place: str | None) -> Finding:
    """The warning itself."""
    return Finding(
        "warning",
        f"Rows also stand in what `{run}` was trained on: its numbers will look too good",
        where=place,
        hint="Measure on rows that it has not seen.",
        count=count,
    )


def keys_of(records: Sequence[Record]) -> TextKeys:
    """The hashes of the records' texts."""
    keys = TextKeys()
    for record in records:
        keys.add(content_of(record))
    return keys
