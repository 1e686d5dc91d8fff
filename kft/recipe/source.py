"""A recipe's file as text, and places in it for messages."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from kft.errors import RecipeError, nearest_name
from kft.recipe.core_yaml import printable

MAX_FILE_BYTES = 1_000_000
Location = tuple[str | int, ...]


@dataclass(frozen=True)
class Place:
    """Where a value was written.

    Args:
        where: ``file:line``, or the override in backticks.
        order: Problems are reported in this order: as in the file, then the overrides.
        text: A scalar as it was typed; ``None`` for a list or a mapping.
    """

    where: str
    order: tuple[int, int]
    text: str | None = None


@dataclass(frozen=True)
class Source:
    """What is being read: the recipe's file, or one override.

    Args:
        name: Path of the file as it was given, or ``override `key=value` ``.
        rank: 0 for the file, then the overrides from 1.
    """

    name: str
    rank: int = 0

    def place(self, line: int, order: int = 0, text: str | None = None) -> Place:
        """The place of something on ``line``, counted from 1; ``order`` is its character."""
        where = self.name if self.rank else f"{printable(self.name, 4096)}:{line}"
        return Place(where, (self.rank, order), text)

    def refuse(
        self, what: str, line: int | None, expected: str | None = None, hint: str | None = None
    ) -> RecipeError:
        """An error at ``line``; ``None`` is the source as a whole."""
        where = printable(self.name, 4096) if line is None else self.place(line).where
        return RecipeError(what, where=where, expected=expected, hint=hint)


def read_text(path: Path, source: Source) -> str:
    """The text of a recipe's file, without a byte order mark.

    Raises:
        RecipeError: If it can't be read, is larger than ``MAX_FILE_BYTES``, or isn't UTF-8.
    """
    return _decode(_read_bytes(path, source), source)


def _read_bytes(path: Path, source: Source) -> bytes:
    shown, takes = printable(str(path), 4096), "a recipe in YAML"
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError as error:
        hint = _file_hint(path)
        raise source.refuse(f"There is no file `{shown}`", None, takes, hint) from error
    except IsADirectoryError as error:
        inside = path / "recipe.yaml"
        hint = f"Did you mean `{inside}`?" if inside.is_file() else None
        raise source.refuse(f"`{shown}` is a folder", None, takes, hint) from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise source.refuse(f"The recipe can't be read: {reason}", None, takes) from error
    if len(content) > MAX_FILE_BYTES:
        limit = f"at most {MAX_FILE_BYTES / 1e6:g} MB"
        raise source.refuse("The file is too large for a recipe", None, limit)
    return content


def _file_hint(path: Path) -> str | None:
    folder = path.parent
    try:
        recipes = [file for file in folder.iterdir() if file.suffix in {".yaml", ".yml"}]
    except OSError:
        return None
    stems = {file.stem: file.name for file in recipes}
    nearest = nearest_name(path.stem, stems)
    return f"Did you mean `{folder / stems[nearest]}`?" if nearest else None


def _decode(content: bytes, source: Source) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        hint = None
        if _is_cp949(content):
            hint = f"Convert it: `iconv -f CP949 -t UTF-8 {source.name} > utf8.yaml`."
        raise source.refuse("The recipe isn't UTF-8 text", line, "UTF-8", hint) from error


def _is_cp949(content: bytes) -> bool:
    try:
        text = content.decode("cp949")
    except UnicodeDecodeError:
        return False
    return re.search("[가-힣]", text) is not None
