"""What was decided when a run began, and can't be decided again when it goes on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Begun:
    """What a run that goes on was begun with.

    Args:
        rows: What ``train.per_device_train_batch_size: auto`` became, if it was that: free memory
            may be another now, and the steps so far had these rows.
        tokenizer: Folder of the tokenizer that was made from the rows, if one was: the same rows
            give a WordPiece with other ids each time.
        ranks: Processes it was begun with: a step has the micro-batches of that many, also when
            it goes on with another number of them.
    """

    rows: int | None = None
    tokenizer: Path | None = None
    ranks: int | None = None


def has_begun(folder: Path) -> bool:
    """Whether a run stands in a folder that could go on."""
    return (folder / _ENVIRONMENT).is_file()


def begun(folder: Path) -> Begun:
    """Read it from a run folder."""
    environment = json.loads((folder / _ENVIRONMENT).read_text(encoding="utf-8"))
    rows = environment["auto"].get("train.per_device_train_batch_size")
    made = folder / MADE_TOKENIZER
    return Begun(
        rows=None if rows is None else int(rows),
        tokenizer=made if made.is_dir() else None,
        ranks=int(environment.get("ranks", 1)),
    )


MADE_TOKENIZER = "tokenizer"
_ENVIRONMENT = "environment.json"
"""Folder in the run's, with ``model.tokenizer: train``."""
