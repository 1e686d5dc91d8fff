"""Folders that are made once and found again: rows as read, examples as encoded, reports, shapes.

A folder is named by the hash of everything that what is in it depends on, kft's own code
included, so nothing in it can be out of date; what lies there is compared with its checksums
before it is used, so nothing in it can be damaged either.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from kft.errors import DataError, Finding, UsageError

DEFAULT_GB = 50.0
"""Size that the cache is kept below, unless ``KFT_CACHE_GB`` names another."""
_CONTENTS = "contents.json"
_CODE = ("data", "tasks", "ops")
_IN_USE_SECONDS = 3600.0  # so recently used, an entry may be about to be opened
_ABANDONED_SECONDS = 24 * 3600.0
_NO_PLACE = {
    errno.EACCES,
    errno.EEXIST,
    errno.EPERM,
    errno.EROFS,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.ENOTDIR,
}
_READ_BYTES = 2**22
_THREADS = min(4, os.cpu_count() or 1)


@dataclass(frozen=True)
class Entry:
    """A folder of the cache.

    Args:
        path: The folder; its name is the hash.
        findings: A note when it is only a temporary folder.
    """

    path: Path
    findings: tuple[Finding, ...] = ()


def cached(kind: str, depends_on: Mapping[str, Any] | None, make: Callable[[Path], None]) -> Entry:
    """The folder that ``make`` fills, made now or found from an earlier time.

    It is written beside its place and renamed when it is whole, so several processes may ask for
    one entry at once, and a killed one leaves nothing that could be taken for whole. Where the
    cache can't be written, the folder is a temporary one that goes with the process.

    Args:
        kind: What is in it; entries of a kind lie together.
        depends_on: Plain values that determine the content; ``None`` where nobody can tell, and
            the folder is a temporary one.
        make: Fills an empty folder with files; called again elsewhere if the cache is full.

    Raises:
        DataError: If there is no room in the temporary folder either.
        UsageError: If ``KFT_CACHE_GB`` is no number.
    """
    if depends_on is None:
        return Entry(_temporary(kind, secrets.token_hex(32), make))
    entry = found(kind, depends_on)
    if entry is not None:
        return entry
    key, root, limit = _key(kind, depends_on), cache_folder(), limit_bytes()
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)  # rows may be private
        place = root / kind / key
        place.parent.mkdir(mode=0o700, exist_ok=True)
        path = _made(place, make)
        prune(root, limit, keep=path)
        return Entry(path)
    except OSError as error:
        if error.errno not in _NO_PLACE:
            raise
        why = f"The cache can't be written ({error.strerror}): nothing is kept for the next run"
        note = Finding("note", why, where=str(root), hint="`KFT_CACHE` names another folder.")
    return Entry(_temporary(kind, key, make), (note,))


def found(kind: str, depends_on: Mapping[str, Any]) -> Entry | None:
    """The entry from an earlier time, if there is one that is whole; as for :func:`cached`."""
    place = cache_folder() / kind / _key(kind, depends_on)
    if not is_whole(place):
        return None
    with contextlib.suppress(OSError):  # a cache that can only be read is a good one too
        os.utime(place / _CONTENTS)
    return Entry(place)


def _key(kind: str, depends_on: Mapping[str, Any]) -> str:
    return digest({"kind": kind, "code": code_sha256(), **depends_on})


def _temporary(kind: str, key: str, make: Callable[[Path], None]) -> Path:
    try:
        place = Path(_temporary_folder()) / kind / key
        if is_whole(place):
            return place
        place.parent.mkdir(parents=True, exist_ok=True)
        return _made(place, make)
    except OSError as error:
        if error.errno not in _NO_PLACE:
            raise
        raise DataError(
            f"The rows can't be stored: {error.strerror}",
            where=tempfile.gettempdir(),
            expected="room for the rows and their tokens on a disk",
            hint="`KFT_CACHE` names a folder to keep them in.",
        ) from error


def cache_folder() -> Path:
    """``KFT_CACHE``, else ``kft`` in the user's cache folder."""
    given = os.environ.get("KFT_CACHE")
    if given:
        return Path(given).expanduser()
    users = os.environ.get("XDG_CACHE_HOME")
    # The specification has relative ones ignored.
    base = Path(users) if users and Path(users).is_absolute() else Path.home() / ".cache"
    return base / "kft"


def limit_bytes() -> float:
    """The size that the cache is kept below.

    Raises:
        UsageError: If ``KFT_CACHE_GB`` is no number.
    """
    given = os.environ.get("KFT_CACHE_GB") or str(DEFAULT_GB)
    try:
        size = float(given)
    except ValueError as error:
        raise UsageError(
            f"`KFT_CACHE_GB` is no number, got `{given}`", expected="gigabytes, such as `50`"
        ) from error
    if not size >= 0:
        raise UsageError(
            f"`KFT_CACHE_GB` is negative, got `{given}`", expected="gigabytes, such as `50`"
        )
    return size * 1e9


def digest(value: Any) -> str:
    """A hash of plain values: text, numbers, lists, mappings."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def array_sha256(numbers: np.ndarray) -> str:
    """Hash of an array of numbers, for what depends on them."""
    return hashlib.sha256(np.ascontiguousarray(numbers).data).hexdigest()


@lru_cache
def code_sha256(parts: tuple[str, ...] = _CODE) -> str:
    """Hash of rooms and files of kft; unless others are named, of those that encode rows."""
    package, found = Path(__file__).parents[1], hashlib.sha256()
    for part in parts:
        place = package / part
        for path in [place] if place.is_file() else sorted(place.rglob("*.py")):
            found.update(path.relative_to(package).as_posix().encode() + b"\0")
            found.update(path.read_bytes() + b"\0")
    return found.hexdigest()


def is_whole(folder: Path) -> bool:
    """Whether a folder holds what was written, each file with its length and CRC-32."""
    try:
        listed = json.loads((folder / _CONTENTS).read_text(encoding="utf-8"))
        return bool(listed == _contents(folder))
    except (OSError, ValueError):
        return False


def prune(root: Path, limit: float, *, keep: Path | None = None) -> None:
    """Remove the entries that were not used for the longest time, until the rest is small enough.

    Entries used in the last hour stay, and so does what another process is writing. A process
    that has an entry mapped keeps it: the system removes its files when nobody reads them.

    Args:
        root: The cache.
        limit: Bytes.
        keep: An entry that stays in any case.
    """
    now = time.time()
    entries: list[tuple[float, int, Path]] = []
    for folder in root.glob("*/*"):
        with contextlib.suppress(OSError):  # another process may have removed it
            if folder.name.startswith("."):
                if now - folder.stat().st_mtime > _ABANDONED_SECONDS:
                    shutil.rmtree(folder, ignore_errors=True)
                continue
            used = (folder / _CONTENTS).stat().st_mtime
            size = sum(file.stat().st_size for file in folder.iterdir())
            entries.append((used, size, folder))
    total = sum(size for _, size, _ in entries)
    for used, size, folder in sorted(entries):
        if total <= limit or now - used < _IN_USE_SECONDS:
            return
        if folder != keep:
            _remove(folder)
            total -= size


def _made(place: Path, make: Callable[[Path], None]) -> Path:
    """Fill a folder beside the place, and give it its name when it is whole."""
    part = place.parent / f".{place.name[:16]}-{os.getpid()}-{secrets.token_hex(4)}"
    part.mkdir(mode=0o700)
    try:
        make(part)
        (part / _CONTENTS).write_text(json.dumps(_contents(part)), encoding="utf-8")
        if place.exists() and not is_whole(place):
            _remove(place)
        try:
            part.rename(place)
        except OSError:
            if not is_whole(place):  # else another process was faster
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return place


def _remove(folder: Path) -> None:
    """Take an entry away at once, so that nobody finds half of it."""
    aside = folder.parent / f".{folder.name[:16]}-{secrets.token_hex(4)}"
    with contextlib.suppress(OSError):  # another process may have removed it
        folder.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)


def _contents(folder: Path) -> dict[str, list[int]]:
    """File -> its length and its CRC-32."""
    files = sorted(path for path in folder.iterdir() if path.name != _CONTENTS)
    return {path.name: list(_checksum(path)) for path in files}


def _checksum(path: Path) -> tuple[int, int]:
    """A file's length, and the CRC-32 of the CRC-32s of its blocks, which threads can share."""
    with path.open("rb", buffering=0) as file, ThreadPoolExecutor(_THREADS) as pool:
        size = os.fstat(file.fileno()).st_size

        def of_block(start: int) -> bytes:
            block = os.pread(file.fileno(), _READ_BYTES, start)
            return zlib.crc32(block).to_bytes(4, "little")

        return size, zlib.crc32(b"".join(pool.map(of_block, range(0, size, _READ_BYTES))))


@lru_cache(maxsize=1)
def _temporary_folder() -> str:
    folder = tempfile.mkdtemp(prefix="kft-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
