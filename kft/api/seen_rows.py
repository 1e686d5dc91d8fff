"""Rows that a run is measured on although it was trained on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from kft.api.records import read_records
from kft.api.row_report import content_of
from kft.data.content import same_content
from kft.data.duplicates import TextKeys
from kft.errors import Finding, KftError
from kft.recipe.schema import Recipe
from kft.tasks.record import Record


def seen_findings(
    recipe: Recipe, data_sha256: dict[str, str], rows: Sequence[Record]
) -> Iterator[Finding]:
    """A warning where given rows stand in a run's training rows.

    Nothing is said where the run's files have gone or changed: what it was trained on isn't known
    then.

    Args:
        recipe: The run's.
        data_sha256: Its files, with the hashes that they had.
        rows: What it is to be measured on.
    """
    is_there = all(same_content(Path(path), sha) for path, sha in data_sha256.items())
    if not data_sha256 or not is_there:
        return
    try:
        trained = keys_of(read_records(recipe).train)
    except KftError:
        return
    seen = keys_of(rows).standing_in(trained)
    if len(seen):
        yield Finding(
            "warning",
            "Rows also stand in what the run was trained on: the numbers will look too good",
            where=rows[int(seen[0])].place,
            hint="Measure on rows that it has not seen.",
            count=len(seen),
        )


def keys_of(records: Sequence[Record]) -> TextKeys:
    """The hashes of the records' texts."""
    keys = TextKeys()
    for record in records:
        keys.add(content_of(record))
    return keys
