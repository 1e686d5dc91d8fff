"""What a file holds, as a hash: of all of it, or of its ends where it is too long for that."""

from __future__ import annotations

import hashlib
from pathlib import Path

_ENDS = "ends-"
_END_BYTES = 2**20


def file_sha256(path: Path) -> str:
    """Hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def ends_sha256(path: Path) -> str:
    """Hash of a file's size, beginning and end, for one that is not to be read as a whole."""
    size = path.stat().st_size
    with path.open("rb") as file:
        begin = file.read(_END_BYTES)
        file.seek(max(0, size - _END_BYTES))
        content = hashlib.sha256(f"{size} ".encode() + begin + file.read(_END_BYTES))
    return f"{_ENDS}{content.hexdigest()}"


def same_content(path: Path, sha256: str) -> bool:
    """Whether a file still has a hash, one of the two kinds."""
    if not path.is_file():
        return False
    return sha256 == (ends_sha256(path) if sha256.startswith(_ENDS) else file_sha256(path))
