"""Keys of a recipe that don't go together."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Conflict:
    """Keys that don't go together.

    Args:
        key: The key to blame, by its path; it is always one that the recipe has written.
        what: As in :class:`~kft.errors.KftError`, and so are the next two.
        expected: What would have been right.
        hint: One edit that mends it.
    """

    key: str
    what: str
    expected: str
    hint: str | None = None
