"""Which files the recipe means, and in which encoding a text file is."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path

from kft.errors import DataError, name_list, nearest_name

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".txt")
_MARKS = (  # UTF-32 first: its mark begins with UTF-16's
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_CONVERSIONS = {
    ".xlsx": "Save the sheet as `csv UTF-8`.",
    ".xls": "Save the sheet as `csv UTF-8`.",
    ".gz": "Unpack it first.",
    ".zip": "Unpack it first.",
    ".ndjson": "Rename it to `.jsonl`.",
}


def resolve_files(source: str | Sequence[str], what: str) -> list[Path]:
    """The files that a path, a folder, a glob or a list of them means, in a fixed order.

    A folder means the supported files directly in it, a glob those it matches, both sorted by
    name and without hidden ones. A list keeps its order.

    Args:
        source: As the recipe has it; relative paths count from the current directory.
        what: The recipe's key, for messages.

    Raises:
        DataError: If a path isn't there, nothing supported is found, or a file's suffix is unknown.
    """
    files: list[Path] = []
    for text in [source] if isinstance(source, str) else source:
        files.extend(_files_of(text, what))
    if not files:
        raise DataError("No file is named", where=what, expected="a file, folder, glob or list")
    return files


def text_encoding(path: Path) -> str:
    """The encoding of a text file: its byte order mark's, else UTF-8, else CP949, all strictly.

    CP949 comes last because UTF-8 Korean of more than a few lines never happens to be CP949,
    nor the other way round.

    Returns:
        ``utf-8-sig``, ``utf-16``, ``utf-32``, ``utf-8`` or ``cp949``.

    Raises:
        DataError: If none of them decodes the whole file, or it holds NUL (a binary file).
    """
    with path.open("rb") as file:
        head = file.read(4)
    for mark, marked in _MARKS:
        if head.startswith(mark):
            broken = _undecodable(path, marked)
            if broken is None:
                return marked
            what = f"The byte order mark says {marked.upper()}, and bytes `{broken[1]}` are not"
            raise DataError(what, where=f"{path}:{broken[0]}", hint="Save the file as UTF-8.")
    as_utf8 = _undecodable(path, "utf-8")
    if as_utf8 is None:
        return "utf-8"
    as_cp949 = _undecodable(path, "cp949")
    if as_cp949 is None:
        return "cp949"
    line, found = max(as_utf8, as_cp949, key=lambda broken: broken[0])
    raise DataError(
        f"Bytes `{found}` are neither UTF-8 nor CP949",
        where=f"{path}:{line}",
        expected="text in one encoding",
        hint="Save the file as UTF-8.",
    )


def _undecodable(path: Path, encoding: str) -> tuple[int, str] | None:
    """Line and bytes (as hex) of the first that ``encoding`` can't decode."""
    wide = encoding in {"utf-16", "utf-32"}
    with path.open("rb") as file:
        line = 1
        # The byte 0A is a line's end in UTF-8 and CP949, but may be half a character elsewhere.
        for part in [file.read()] if wide else file:
            try:
                text = part.decode(encoding)
            except UnicodeDecodeError as error:
                before = part[: error.start].decode(encoding, errors="ignore")
                return line + before.count("\n"), part[error.start : error.end].hex(" ")
            if "\0" in text:
                line += text[: text.index("\0")].count("\n")
                raise DataError(
                    "The file isn't text: it holds a NUL character",
                    where=f"{path}:{line}",
                    expected="text in UTF-8 or CP949, or UTF-16 with a byte order mark",
                )
            line += 1
    return None


def _files_of(text: str, what: str) -> list[Path]:
    path = Path(text).expanduser()
    if not text.strip():
        raise DataError("The path is empty", where=what, expected="a file, folder or glob")
    if not path.exists():
        path = _same_name(path)
    if path.is_file():
        if path.suffix.lower() not in SUFFIXES:
            raise unsupported(path, what)
        return [path]
    if path.is_dir():
        found, kind = list(path.iterdir()), "folder"
    elif any(sign in text for sign in "*?["):
        found, kind = list(Path(path.anchor).glob(str(path.relative_to(path.anchor)))), "glob"
    else:
        names = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        meant = nearest_name(path.name, names)
        raise DataError(
            f"No file or folder `{text}`",
            where=what,
            expected="a path that exists; relative ones count from the current directory",
            hint=f"Did you mean `{path.with_name(meant)}`?" if meant else None,
        )
    files = sorted(
        file
        for file in found
        if file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()
    )
    if not files:
        raise DataError(
            f"No data file in {kind} `{text}`",
            where=what,
            expected=f"files that end in {name_list(SUFFIXES, 9)}",
            hint=f"Files in its subfolders are `{text.rstrip('/')}/**/*`."
            if kind == "folder" and any(entry.is_dir() for entry in found)
            else None,
        )
    return files


def _same_name(path: Path) -> Path:
    """The entry that spells the same name in another Unicode form (Hangul from macOS), if any."""
    name = unicodedata.normalize("NFC", path.name)
    entries = path.parent.iterdir() if path.parent.is_dir() else ()
    return next((e for e in entries if unicodedata.normalize("NFC", e.name) == name), path)


def unsupported(path: Path, where: str) -> DataError:
    """The error for a suffix that is not among :data:`SUFFIXES`."""
    return DataError(
        f"Files that end in `{path.suffix}` can't be read: `{path}`",
        where=where,
        expected=f"a file that ends in {name_list(SUFFIXES, 9)}",
        hint=_CONVERSIONS.get(path.suffix.lower()),
    )
