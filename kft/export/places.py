"""Where an exported folder stands: written beside its place, and there only when it is proven."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kft.errors import ExportError

VERIFICATION = "verification.json"
"""File name of the proof; a folder that has one was written by kft and may be replaced."""


@contextmanager
def proven_folder(final: Path, what: str) -> Iterator[Path]:
    """A new folder beside its place; it takes the place when all went well, else it is gone.

    Args:
        final: The folder's place.
        what: What is written into it, for the message when the disk refuses.

    Raises:
        ExportError: If the disk refuses, or something that kft has not written stands there.
    """
    part = final.with_name(f"{final.name}.part")
    try:
        discard(part)
        part.mkdir(parents=True)
        yield part
        publish(part, final)
    except OSError as cause:
        raise ExportError(
            f"{what} can't be written: {cause.strerror or cause}", where=str(part)
        ) from cause
    finally:
        discard(part)


def publish(part: Path, final: Path) -> None:
    """Give a proven folder its final name; an earlier merged model there is replaced.

    Raises:
        ExportError: If something that kft has not written stands there.
    """
    require_replaceable(final)
    discard(final)
    final.parent.mkdir(parents=True, exist_ok=True)
    part.rename(final)


def require_replaceable(final: Path) -> None:
    """Refuse a place that holds anything but a merged model of kft's; asked before the work.

    Raises:
        ExportError: If ``final`` is a file, or a folder with content but no proof in it.
    """
    if not final.exists():
        return
    if not final.is_dir() or (any(final.iterdir()) and not (final / VERIFICATION).is_file()):
        raise ExportError(
            f"`{final}` holds something that `kft merge` has not written",
            where=str(final),
            expected=f"no such folder, an empty one, or one with `{VERIFICATION}` in it",
        )


def discard(folder: Path) -> None:
    """Remove a folder that did not hold what it should; nothing happens when it isn't there."""
    if folder.exists():
        shutil.rmtree(folder)
