"""Where rows come from: a file, a member of an archive, a data set on the hub."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

SUFFIXES = (
    *(".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".txt"),
    *(".parquet", ".arrow"),
)
COMPRESSIONS = (".gz", ".zst")


@dataclass(frozen=True)
class DataFile:
    """One file of rows; ``str()`` of it is how places name it.

    Args:
        path: The file, or the zip archive that it lies in.
        member: Its name in the archive; ``None`` outside of one.
        weight: How often each of its rows is used, as :func:`copies` counts.
        streamed: It is read only as far as rows are needed, and never as a whole before.
    """

    path: Path
    member: str | None = None
    weight: float = 1.0
    streamed: bool = False

    def __str__(self) -> str:
        return str(self.path) if self.member is None else f"{self.path}/{self.member}"

    @property
    def suffix(self) -> str:
        """What it holds, one of :data:`SUFFIXES`, whatever it is compressed with."""
        return inner_suffix(self.path.name if self.member is None else self.member)

    @property
    def compression(self) -> str:
        """``.gz``, ``.zst``, ``.zip`` for a member of an archive, or nothing."""
        if self.member is not None:
            return ".zip"
        return self.path.suffix.lower() if self.path.suffix.lower() in COMPRESSIONS else ""


@dataclass(frozen=True)
class HubDataset:
    """A data set on the Hugging Face hub; arguments as in :class:`SourceSection`.

    ``streamed``: rows come from the hub as they are needed, and none is kept.
    """

    path: str
    config: str | None = None
    split: str = "train"
    revision: str | None = None
    weight: float = 1.0
    streamed: bool = False

    def __str__(self) -> str:
        name = self.path if self.revision is None else f"{self.path}@{self.revision}"
        return "/".join(part for part in (name, self.config, self.split) if part)


RowSource = DataFile | HubDataset


def copies(number: int, weight: float) -> int:
    """How often row ``number`` of a file with this weight is used, the same in every run.

    The uses of the first n rows are as near below n times the weight as whole numbers are.

    Args:
        number: Counted from 0.
        weight: 2 is every row twice, 0.5 every second row once.

    Example:
        >>> [copies(number, 1.5) for number in range(4)]
        [1, 2, 1, 2]
    """
    return math.floor((number + 1) * weight) - math.floor(number * weight)


def inner_suffix(name: str) -> str:
    """The suffix of what is inside, in lower case.

    Example:
        >>> inner_suffix("train.JSONL.gz")
        '.jsonl'
    """
    path = PurePosixPath(name)
    if path.suffix.lower() in COMPRESSIONS:
        path = path.with_suffix("")
    return path.suffix.lower()
