"""In which encoding a text file is: a byte order mark's, UTF-8, CP949, or what is detected."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TextIO

from kft.data.archives import open_bytes
from kft.data.sources import DataFile
from kft.errors import DataError

_MARKS = (  # UTF-32 first: its mark begins with UTF-16's
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_WIDE = frozenset({"utf-16", "utf-32"})
_CHUNK_BYTES = 2**20
_SAMPLE_BYTES = 2**17
_NON_ASCII = re.compile(r"[^\x00-\x7f]")
_ENOUGH = 4  # Korean characters that show a file to be Korean, with a fault in it
_COHERENCE = 0.1  # of 1: how like its language the detected text is; noise has 0
_CHAOS = 0.1  # of 1: how much of it can't be read
_RIVAL_CHAOS = 0.03  # what is so little worse may be the right one
_MOST_KNOWN = 4096
_KNOWN: dict[tuple[DataFile, int, int], str] = {}


@dataclass(frozen=True)
class _Fault:
    """The first bytes that an encoding can't decode, and how Korean the text before them is."""

    line: int
    found: str
    is_korean: bool


def text_encoding(file: Path | DataFile) -> str:
    """The encoding of a text file, which decodes the whole of it strictly.

    A byte order mark wins; then comes UTF-8, then CP949, because UTF-8 Korean of more than a few
    lines never happens to be CP949, nor the other way round; then what charset-normalizer takes
    it for. One pass over the file where it is UTF-8; what was found is remembered as long as
    size and time of the file stay the same. A file that is streamed is UTF-8 if its beginning is.

    Returns:
        Python's name, such as ``utf-8-sig``, ``utf-16``, ``utf-8``, ``cp949`` or ``shift_jis``.

    Raises:
        DataError: If nothing decodes the whole file, or it holds NUL (a binary file).
    """
    file = file if isinstance(file, DataFile) else DataFile(file)
    known = _KNOWN.get(_version(file))
    if known is None:
        known = _found_encoding(file)
        remember_encoding(file, known)
    return known


def remember_encoding(file: DataFile, encoding: str) -> None:
    """Take an encoding as found that was found of the same bytes at another time."""
    if len(_KNOWN) >= _MOST_KNOWN:
        _KNOWN.clear()
    _KNOWN[_version(file)] = encoding


def _version(file: DataFile) -> tuple[DataFile, int, int]:
    status = file.path.stat()
    return file, status.st_size, status.st_mtime_ns


@contextmanager
def open_text(file: DataFile, newline: str = "\n") -> Iterator[TextIO]:
    """A text file, decoded in its own encoding while it is read."""
    encoding = text_encoding(file)
    with open_bytes(file) as stream:
        try:
            yield io.TextIOWrapper(stream, encoding=encoding, newline=newline)
        except UnicodeDecodeError as error:  # only where a file is streamed
            broken = error.object[error.start : error.end].hex(" ")
            raise DataError(
                f"Bytes `{broken}` are not {encoding.upper()}, as the file's beginning is",
                where=str(file),
                expected="text in one encoding",
                hint="Save the file as UTF-8, or leave `data.streaming` out to have its encoding "
                "found.",
            ) from error


def _found_encoding(file: DataFile) -> str:
    with open_bytes(file) as stream:
        head = stream.read(4)
    for mark, marked in _MARKS:
        if head.startswith(mark):
            broken = None if file.streamed else _undecodable(file, marked)
            if broken is None:
                return marked
            what = f"The byte order mark says {marked.upper()}, and bytes `{broken.found}` are not"
            hint = "Save the file as UTF-8."
            raise DataError(what, where=f"{file}:{broken.line}", hint=hint)
    if file.streamed and _begins_in_utf8(file):
        return "utf-8"
    as_utf8 = _undecodable(file, "utf-8")
    if as_utf8 is None:
        return "utf-8"
    as_cp949 = _undecodable(file, "cp949")
    if as_cp949 is None:
        return "cp949"
    if not as_utf8.is_korean and not as_cp949.is_korean:
        detected = _detected(file)
        if detected is not None and _undecodable(file, detected) is None:
            return detected
    broken = max(as_utf8, as_cp949, key=lambda fault: fault.line)
    raise DataError(
        f"Bytes `{broken.found}` are neither UTF-8 nor CP949",
        where=f"{file}:{broken.line}",
        expected="text in one encoding",
        hint="Save the file as UTF-8.",
    )


def _begins_in_utf8(file: DataFile) -> bool:
    with open_bytes(file) as stream:
        head = stream.read(_CHUNK_BYTES)
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    _refuse_nul(text, 1, file)
    return True


def _undecodable(file: DataFile, encoding: str) -> _Fault | None:
    """The first bytes that ``encoding`` can't decode, or ``None``."""
    is_wide = encoding in _WIDE
    decoder = codecs.getincrementaldecoder(encoding)()
    line, text = 1, ""
    with open_bytes(file) as stream:
        is_open = True
        while is_open:
            chunk = stream.read(_CHUNK_BYTES)
            is_open = bool(chunk)
            before = text
            try:
                text = decoder.decode(chunk, final=not is_open)
            except UnicodeDecodeError as error:
                right = error.object[: error.start]
                text = right.decode(encoding, errors="ignore")
                _refuse_nul(text, line, file)
                found = error.object[error.start : error.end].hex(" ")
                return _Fault(line + text.count("\n"), found, _is_korean(before + text))
            if is_wide or b"\0" in chunk:  # no other encoding has that byte within a character
                _refuse_nul(text, line, file)
            line += text.count("\n") if is_wide else chunk.count(b"\n")
    return None


def _refuse_nul(text: str, line: int, file: DataFile) -> None:
    if "\0" in text:
        line += text.count("\n", 0, text.index("\0"))
        raise DataError(
            "The file isn't text: it holds a NUL character",
            where=f"{file}:{line}",
            expected="text in UTF-8 or CP949, or UTF-16 with a byte order mark",
        )


@lru_cache(maxsize=1)
def _common_syllables() -> frozenset[str]:
    """The 2,350 syllables of KS X 1001, in which nearly all Korean is written."""
    pairs = (bytes((lead, trail)) for lead in range(0xB0, 0xC9) for trail in range(0xA1, 0xFF))
    return frozenset(pair.decode("euc_kr") for pair in pairs)


def _is_korean(text: str) -> bool:
    """Whether most of what isn't ASCII is common Hangul, so that the fault is a broken place.

    CP949 turns other double-byte encodings into Hangul too, but into rare syllables.
    """
    other = _NON_ASCII.findall(text)
    common = _common_syllables()
    korean = sum(character in common for character in other)
    return korean >= _ENOUGH and korean >= 0.7 * len(other)


def _detected(file: DataFile) -> str | None:
    """What charset-normalizer takes the beginning of a file for, when it is sure of it."""
    import charset_normalizer

    with open_bytes(file) as stream:
        sample = stream.read(_SAMPLE_BYTES)
    if b"\0" in sample:
        return None
    whole_lines = sample.rpartition(b"\n")[0] or sample
    found = list(charset_normalizer.from_bytes(whole_lines, cp_exclusion=["utf_8", "cp949"]))
    if not found or found[0].chaos > _CHAOS:
        return None
    best, *others = found
    rivals = [match for match in others if match.chaos <= best.chaos + _RIVAL_CHAOS]
    if any(str(rival) != str(best) for rival in rivals):
        return None  # one-byte encodings of Europe differ in a few letters that nobody would miss
    is_sure = best.coherence >= _COHERENCE or _is_korean(str(best))  # Johab has no coherence
    return best.encoding if is_sure else None
