"""``kft check --fix``: a mended copy of a recipe's data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from kft.data.cleaned_copy import CHANGES, CleanedCopy
from kft.data.column_names import FORMATS
from kft.data.files import resolve_files
from kft.data.layouts import choose_layout
from kft.data.rows import read_rows
from kft.data.sources import RowSource
from kft.recipe.schema import DataSection


@dataclass(frozen=True)
class CleanCopy:
    """A mended copy of the data.

    Args:
        folder: Where it is.
        files: Its files.
        changes_file: The list of what was changed.
        num_read: Rows read.
        num_written: Rows written.
        num_changed: Rows of which a text was changed.
        changes: Name of a change -> texts it was made in.
        dropped: Reason -> rows left out.
        overrides: What to add to the command that used the originals.
    """

    folder: str
    files: list[str]
    changes_file: str
    num_read: int
    num_written: int
    num_changed: int
    changes: dict[str, int]
    dropped: dict[str, int]
    overrides: list[str]

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values, for ``--json``."""
        return asdict(self)


def write_clean_copy(data: DataSection, folder: Path) -> CleanCopy:
    """Write a mended copy of the training and evaluation files.

    Args:
        data: The recipe's section.
        folder: Must not exist, or be empty.

    Raises:
        UsageError: If the folder can't take the copy.
        DataError: If a file can't be read.
    """
    train = resolve_files(data.train, "data.train")
    held_out = [] if data.eval is None else resolve_files(data.eval, "data.eval")
    copy = CleanedCopy(folder, [*train, *held_out])
    overrides = []
    section = data
    for side, files in (("train", train), ("eval", held_out)):
        if files:
            chosen, needed = _needed_columns(files, section)
            section = data.model_copy(update={"format": chosen})
            overrides.append(f"data.{side}={copy.write(side, files, needed)}")
    cleaned = copy.cleaned
    return CleanCopy(
        folder=str(folder),
        files=[str(path) for path in cleaned.files],
        changes_file=str(folder / CHANGES),
        num_read=cleaned.num_read,
        num_written=cleaned.num_written,
        num_changed=cleaned.num_changed,
        changes=dict(cleaned.changes.most_common()),
        dropped=dict(cleaned.dropped),
        overrides=overrides,
    )


def _needed_columns(files: Sequence[RowSource], data: DataSection) -> tuple[str, list[str]]:
    """The format of the files, and the columns that a row needs or uses."""
    first = next(islice(read_rows(files[0]), 1))
    layout = choose_layout(first, data)
    return layout.format, [
        layout.columns[role] for role in FORMATS[layout.format][0] if role in layout.columns
    ]
