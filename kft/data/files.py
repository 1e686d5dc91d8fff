"""Which files and hub data sets the recipe means, in a fixed order."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

from kft.data.archives import zip_members
from kft.data.sources import (
    COMPRESSIONS,
    SUFFIXES,
    DataFile,
    HubDataset,
    RowSource,
    inner_suffix,
)
from kft.errors import DataError, name_list, nearest_name
from kft.recipe.section import SourceSection

_EXPECTED = f"files that end in {name_list(SUFFIXES, 9)}, also with `.gz` or `.zst`, or in `.zip`"
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_CONVERSIONS = {
    ".xlsx": "Save the sheet as `csv UTF-8`.",
    ".xls": "Save the sheet as `csv UTF-8`.",
    ".gz": "Name what is inside, such as `train.jsonl.gz`.",
    ".zst": "Name what is inside, such as `train.jsonl.zst`.",
    ".bz2": "Compress it with gzip instead.",
    ".xz": "Compress it with gzip instead.",
    ".tar": "Unpack it, or pack it as `.zip`.",
    ".tgz": "Unpack it, or pack it as `.zip`.",
    ".7z": "Unpack it, or pack it as `.zip`.",
}


_Named = str | SourceSection


def resolve_files(source: _Named | Iterable[_Named], what: str) -> list[RowSource]:
    """The files that a path, a folder, a glob, a mapping or a list of them means.

    A folder means the supported files directly in it, a glob those it matches, both sorted by
    name and without hidden ones; a zip archive means its supported members, by name. A list
    keeps its order. A mapping whose path isn't here and looks like ``owner/name`` is a data set
    on the hub; a path that is here wins.

    Args:
        source: As the recipe has it; relative paths count from the current directory.
        what: The recipe's key, for messages.

    Raises:
        DataError: If a path isn't there, nothing supported is found, or a file's suffix is
            unknown, or an archive has a member that is refused.
    """
    files: list[RowSource] = []
    for named in [source] if isinstance(source, str | SourceSection) else source:
        if isinstance(named, str):
            files.extend(_files_of(named, what))
        else:
            files.extend(_sources_of(named, what))
    if not files:
        raise DataError("No file is named", where=what, expected="a file, folder, glob or list")
    _check_once(files, what)
    return files


def _sources_of(section: SourceSection, what: str) -> Iterator[RowSource]:
    is_hub_name = _HUB_NAME.fullmatch(section.path) and not _is_readable(section.path)
    path = Path(section.path).expanduser()
    said = [name for name in ("config", "split", "revision") if getattr(section, name) is not None]
    # `rows/train` where there is a folder `rows` is a path that was misspelt.
    if is_hub_name and not path.exists() and (said or not path.parent.is_dir()):
        split = section.split or ("validation" if what == "data.eval" else "train")
        yield HubDataset(section.path, section.config, split, section.revision, section.weight)
        return
    if said:
        raise DataError(
            f"`{section.path}` is a file or folder here, and `{said[0]}` belongs to the hub"
            if path.exists()
            else f"`{section.path}` is no name of a data set on the hub",
            where=what,
            expected="`owner/name` of a data set, where there is no such path here",
            hint=f"Leave `{said[0]}` out to read what is here." if path.exists() else None,
        )
    for file in _files_of(section.path, what):
        yield replace(file, weight=section.weight)


def _files_of(text: str, what: str) -> list[DataFile]:
    path = Path(text).expanduser()
    if not text.strip():
        raise DataError("The path is empty", where=what, expected="a file, folder or glob")
    if not path.exists():
        path = _same_name(path)
    if path.is_file():
        if not _is_readable(path.name):
            raise unsupported(path, what)
        return _expanded(path)
    if path.is_dir():
        found, kind = list(path.iterdir()), "folder"
    elif any(sign in text for sign in "*?["):
        found, kind = list(Path(path.anchor).glob(str(path.relative_to(path.anchor)))), "glob"
    else:
        raise _missing(path, text, what)
    files = sorted(
        file
        for file in found
        if _is_readable(file.name) and not file.name.startswith(".") and file.is_file()
    )
    if not files:
        raise DataError(
            f"No data file in {kind} `{text}`",
            where=what,
            expected=_EXPECTED,
            hint=f"Files in its subfolders are `{text.rstrip('/')}/**/*`."
            if kind == "folder" and any(entry.is_dir() for entry in found)
            else None,
        )
    _check_twins(files, what)
    return [each for file in files for each in _expanded(file)]


def _expanded(path: Path) -> list[DataFile]:
    if path.suffix.lower() != ".zip":
        return [DataFile(path)]
    every = zip_members(path)
    names = [name for name in every if inner_suffix(name) in SUFFIXES]
    if not names:
        raise DataError(
            f"No data file in the archive, which holds {name_list(every) or 'nothing'}",
            where=str(path),
            expected=f"files that end in {name_list(SUFFIXES, 9)}",
        )
    return [DataFile(path, name) for name in sorted(names)]


def _check_once(files: Iterable[RowSource], what: str) -> None:
    """Rows read twice would be held out and trained on at once."""
    seen: set[object] = set()
    for file in files:
        name = (file.path.resolve(), file.member) if isinstance(file, DataFile) else str(file)
        if name in seen:
            raise DataError(
                f"`{file}` is named twice",
                where=what,
                expected="every file once",
                hint=f"`{{path: {file.path}, weight: 2}}` uses its rows twice.",
            )
        seen.add(name)


def _check_twins(files: Iterable[Path], what: str) -> None:
    """The same rows plain and compressed in one folder would be trained on twice."""
    plain: dict[Path, Path] = {}
    for file in files:
        name = file.with_suffix("") if file.suffix.lower() in COMPRESSIONS else file
        if name in plain:
            raise DataError(
                f"`{plain[name].name}` and `{file.name}` lie in one folder",
                where=what,
                expected="rows either plain or compressed: both would be read",
                hint="Name the files to read, or move one away.",
            )
        plain[name] = file


def _missing(path: Path, text: str, what: str) -> DataError:
    names = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    meant = nearest_name(path.name, names)
    hint = f"Did you mean `{path.with_name(meant)}`?" if meant else None
    if hint is None and _HUB_NAME.fullmatch(text) and not _is_readable(text):
        hint = f"A data set on the hub is `{{path: {text}, split: train}}`."
    return DataError(
        f"No file or folder `{text}`",
        where=what,
        expected="a path that exists; relative ones count from the current directory",
        hint=hint,
    )


def _same_name(path: Path) -> Path:
    """The entry that spells the same name in another Unicode form (Hangul from macOS), if any."""
    name = unicodedata.normalize("NFC", path.name)
    entries = path.parent.iterdir() if path.parent.is_dir() else ()
    return next((e for e in entries if unicodedata.normalize("NFC", e.name) == name), path)


def _is_readable(name: str) -> bool:
    return inner_suffix(name) in SUFFIXES or name.lower().endswith(".zip")


def unsupported(path: Path | DataFile, where: str) -> DataError:
    """The error for a suffix that is not among :data:`SUFFIXES`."""
    suffix = PurePosixPath(str(path)).suffix
    return DataError(
        f"Files that end in `{suffix}` can't be read: `{path}`",
        where=where,
        expected=_EXPECTED.replace("files that end", "a file that ends"),
        hint=_CONVERSIONS.get(suffix.lower()),
    )
