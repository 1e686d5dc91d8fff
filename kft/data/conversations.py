"""The turns of a conversation, in OpenAI's spelling or ShareGPT's."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from kft.errors import DataError, name_list, nearest_name

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "tool": "tool",
}
"""Who speaks, as files have it -> as chat templates have it."""

_SPELLINGS = (("role", "content"), ("from", "value"))


def conversation_turns(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Speaker (a value of :data:`ROLES`) and content of each turn.

    Args:
        value: A list of turns, or the same as JSON text, as a table holds it.
        place: ``file:line`` of the row.

    Raises:
        DataError: If it is no list of turns, a role is unknown, or a turn calls a tool.
    """
    for number, turn in enumerate(_turns(value, place), start=1):
        yield _role_and_content(turn, number, place)


def shown(value: Any) -> str:
    """The beginning of a value, in backticks."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return f"`{text[:40]}{'...' if len(text) > 40 else ''}`"


def _turns(value: Any, place: str) -> list[Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"The conversation is not JSON: {error}",
                where=place,
                expected='a list such as `[{"role": "user", "content": "..."}, ...]`',
            ) from error
    if isinstance(value, list):
        return value
    raise DataError(
        f"The conversation is not a list of turns, got {shown(value)}",
        where=place,
        expected='a list such as `[{"role": "user", "content": "..."}, ...]`',
    )


def _role_and_content(turn: Any, number: int, place: str) -> tuple[str, Any]:
    for role_key, content_key in _SPELLINGS:
        if isinstance(turn, dict) and turn.get(role_key) is not None and content_key in turn:
            role = ROLES.get(str(turn[role_key]))
            if role is None:
                raise DataError(
                    f"Turn {number} has the unknown role {shown(turn[role_key])}",
                    where=place,
                    expected=f"one of {name_list(list(ROLES), 9)}",
                    hint=_meant(turn[role_key], list(ROLES)),
                )
            if turn.get("tool_calls") or turn.get("function_call"):
                raise DataError(
                    f"Turn {number} calls a tool, which can't be learned",
                    where=place,
                    expected="turns with text",
                    hint="Write the call as the text of the turn, or leave the row out.",
                )
            return role, _joined(turn[content_key])
    raise DataError(
        f"Turn {number} is not a role and its content, got {shown(turn)}",
        where=place,
        expected='`{"role": ..., "content": ...}` or `{"from": ..., "value": ...}`',
        hint=_misspelt(turn),
    )


def _misspelt(turn: Any) -> str | None:
    """Which key of a turn was probably meant, where it has the other one of a spelling."""
    keys = list(turn) if isinstance(turn, dict) else []
    for names in _SPELLINGS:
        missing = [name for name in names if name not in keys]
        others = [str(key) for key in keys if key not in names]
        if len(missing) == 1 and nearest_name(missing[0], others):
            return f"Did you mean `{missing[0]}` by `{nearest_name(missing[0], others)}`?"
    return None


def _meant(word: Any, names: Sequence[str]) -> str | None:
    meant = nearest_name(str(word).strip().lower(), names)
    return f"Did you mean `{meant}`?" if meant else None


def _joined(content: Any) -> Any:
    """OpenAI's list of parts as one text, where all of them are text."""
    if isinstance(content, list) and content:
        texts = [part.get("text") if isinstance(part, dict) else None for part in content]
        if all(isinstance(text, str) for text in texts):
            return "".join(map(str, texts))
    return content
