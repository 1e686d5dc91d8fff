"""Libraries that only some commands need."""

from __future__ import annotations

import importlib
from typing import Any

from kft.errors import UsageError


def optional_module(name: str, *, extra: str, wanted_by: str) -> Any:
    """Import a library that is not installed with kft.

    Args:
        name: Of the module.
        extra: Of kft's extras, the one that brings it.
        wanted_by: What the user typed, for the message.

    Raises:
        UsageError: If it isn't there.
    """
    try:
        return importlib.import_module(name)
    except ImportError as cause:
        raise UsageError(
            f"`{wanted_by}` needs the library `{name.partition('.')[0]}`",
            expected=f"kft installed with its extra `{extra}`",
            hint=f"`pip install 'kft[{extra}]'`",
        ) from cause
