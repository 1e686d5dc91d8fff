"""What a run wrote down as JSON, read again; without torch, so that its numbers come at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kft.errors import UsageError


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file of a run folder; empty where there is no such file.

    Raises:
        UsageError: If the file holds no JSON object.
    """
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise UsageError(
            f"`{path.name}` is damaged",
            where=str(path),
            expected="a JSON object, as the run wrote it",
        )
    return content
