"""A mended copy of data files, with a list of what was changed. The originals are only read."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from kft.data.cleaning import clean_text
from kft.data.rows import read_rows
from kft.data.sources import HubDataset, RowSource
from kft.errors import UsageError

CHANGES = "changes.jsonl"
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_MOST_LISTED = 10_000
_MOST_CHARACTERS = 200  # of a text before and after, in the list


@dataclass
class Cleaned:
    """What a mended copy consists of.

    Args:
        files: The files written, in order.
        num_read: Rows read.
        num_written: Rows written.
        num_changed: Rows of which a text was changed.
        changes: Name of a change -> texts it was made in.
        dropped: Reason -> rows left out.
    """

    files: list[Path] = field(default_factory=list)
    num_read: int = 0
    num_written: int = 0
    num_changed: int = 0
    changes: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)


class CleanedCopy:
    """Writes mended copies of files into a new folder, and ``changes.jsonl`` beside them.

    Every text of a row is mended, columns keep their names, and each file becomes
    ``<name>.jsonl`` in UTF-8. Rows that then lack a text they need, or repeat an earlier one of
    the same side, are left out.

    Args:
        folder: Must not exist, or be empty.
        sources: All files that will be read.

    Raises:
        UsageError: If the folder is not empty, holds one of the sources, or can't be made.
    """

    def __init__(self, folder: Path, sources: Sequence[RowSource]) -> None:
        _check_folder(folder, sources)
        self.folder = folder
        self.cleaned = Cleaned()
        self._listed = 0

    def write(self, side: str, files: Sequence[RowSource], needed: Sequence[str]) -> Path:
        """Write the files of one side of the data.

        Args:
            side: Name of the folder in the copy.
            files: The originals.
            needed: Columns whose value makes the row: without one it is empty, and two rows
                with the same ones say the same.

        Returns:
            The folder with the copies.

        Raises:
            DataError: If a file can't be read.
        """
        target = self.folder / side
        target.mkdir(parents=True)
        seen: set[bytes] = set()
        with (self.folder / CHANGES).open("a", encoding="utf-8") as changes:
            for path, name in zip(files, _names(files), strict=True):
                with (target / name).open("w", encoding="utf-8", newline="\n") as file:
                    for fields in self._rows(path, needed, seen, changes):
                        file.write(_json_line(fields))
                self.cleaned.files.append(target / name)
        return target

    def _rows(
        self, path: RowSource, needed: Sequence[str], seen: set[bytes], changes: TextIO
    ) -> Iterator[dict[str, Any]]:
        for row in read_rows(path):
            self.cleaned.num_read += 1
            mended = {name: _Mended(value) for name, value in row.fields.items()}
            fields = {name: value.value for name, value in mended.items()}
            reason = _reason_to_drop(fields, needed, seen)
            if reason:
                self.cleaned.dropped[reason] += 1
                self._list(changes, {"place": row.place, "changes": [reason]})
                continue
            self.cleaned.num_written += 1
            self.cleaned.num_changed += any(value.changes for value in mended.values())
            for name, value in mended.items():
                for before, after, names in value.changes:
                    self.cleaned.changes.update(names)
                    entry = {"place": row.place, "column": name, "changes": names}
                    shown = {"before": _cut(before), "after": _cut(after)}
                    self._list(changes, entry | shown)
            yield fields

    def _list(self, changes: TextIO, entry: Mapping[str, Any]) -> None:
        """Write an entry; the list is kept to a length that a person can look through."""
        self._listed += 1
        if self._listed <= _MOST_LISTED:
            changes.write(_json_line(entry))


class _Mended:
    """A value with every text in it mended.

    Args:
        value: As a file has it; lists and mappings keep their shape.
    """

    def __init__(self, value: Any) -> None:
        self.changes: list[tuple[str, str, list[str]]] = []
        self.value = self._mend(value)

    def _mend(self, value: Any) -> Any:
        if isinstance(value, str):
            text, names = clean_text(value)
            if names:
                self.changes.append((value, text, names))
            return text
        if isinstance(value, list):
            return [self._mend(item) for item in value]
        if isinstance(value, dict):
            return {name: self._mend(item) for name, item in value.items()}
        return None if value != value else value  # JSON has no NaN


def _reason_to_drop(
    fields: Mapping[str, Any], needed: Sequence[str], seen: set[bytes]
) -> str | None:
    values = [fields.get(name) for name in needed]
    for name, value in zip(needed, values, strict=True):
        if value is None or value == [] or (isinstance(value, str) and not value.strip()):
            return f"empty `{name}`"
    said = json.dumps(values, ensure_ascii=False, default=str)
    key = hashlib.blake2b(said.encode("utf-8", "surrogatepass"), digest_size=12).digest()
    if key in seen:
        return "repeats an earlier row"
    seen.add(key)
    return None


def _json_line(content: Mapping[str, Any]) -> str:
    line = json.dumps(content, ensure_ascii=False, default=str)
    if _SURROGATE.search(line):  # half a character has no bytes in UTF-8
        line = json.dumps(content, default=str)
    return line + "\n"


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else text[:_MOST_CHARACTERS] + "..."


def _names(files: Sequence[RowSource]) -> list[str]:
    """A name for each copy; files of one name from different folders are numbered."""
    names: list[str] = []
    for file in files:
        stem = Path(str(file)).name.split(".", 1)[0] or "rows"
        name, number = f"{stem}.jsonl", 1
        while name in names:
            number += 1
            name = f"{stem}-{number}.jsonl"
        names.append(name)
    return names


def _check_folder(folder: Path, sources: Sequence[RowSource]) -> None:
    place = folder.resolve()
    for source in sources:
        if isinstance(source, HubDataset):
            continue
        original = source.path.resolve()
        if place == original or place in original.parents:
            raise UsageError(
                f"`{folder}` holds `{source}`, and the originals are never written over",
                where="`--fix`",
                expected="a folder that doesn't exist yet, or is empty",
            )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(
            f"`{folder}` is not an empty folder",
            where="`--fix`",
            expected="a folder that doesn't exist yet, or is empty",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as cause:
        raise UsageError(f"`{folder}` can't be made: {cause.strerror}", where="`--fix`") from cause
