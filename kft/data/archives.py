"""Compressed files and zip archives as streams of bytes, with a limit to what they unpack to."""

from __future__ import annotations

import gzip
import io
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any, BinaryIO, cast

import zstandard

from kft.data.sources import COMPRESSIONS, DataFile
from kft.errors import DataError

MAX_RATIO = 200
"""Bytes that one compressed byte may unpack to, on the whole; text has about 3 to 20."""
FREE_BYTES = 64 * 2**20
"""Up to this size the ratio doesn't matter."""
_ARCHIVES = (*COMPRESSIONS, ".zip", ".tar", ".tgz", ".bz2", ".xz", ".7z", ".rar")
_ENCRYPTED = 0x1
_ZSTD_BYTES = 2**11  # unpacked at once: at the very worst to 64 MiB
_BROKEN = (
    gzip.BadGzipFile,
    zlib.error,
    zipfile.BadZipFile,
    zstandard.ZstdError,
    EOFError,
    NotImplementedError,  # a compression that zipfile doesn't know
)


@contextmanager
def open_bytes(file: DataFile) -> Iterator[BinaryIO]:
    """The bytes of a file, unpacked while they are read.

    Raises:
        DataError: While reading, if the compressed data are broken or unpack to more than
            :data:`MAX_RATIO` times their size.
        OSError: If the file can't be opened or read.
    """
    with ExitStack() as stack:
        try:
            if file.member is not None:
                archive = stack.enter_context(_open_zip(file.path))
                packed_bytes = archive.getinfo(file.member).compress_size
                stream: Any = stack.enter_context(_open_member(archive, file.member))
            else:
                stream = stack.enter_context(file.path.open("rb"))
                packed_bytes = file.path.stat().st_size
            if file.compression == ".gz":
                stream = stack.enter_context(gzip.GzipFile(fileobj=stream))
            elif file.compression == ".zst":
                stream = _ZstdFrames(stream)
            if file.compression:
                limit = max(FREE_BYTES, MAX_RATIO * packed_bytes)
                stream = io.BufferedReader(_Limited(stream, limit, str(file)), 2**20)
            yield cast(BinaryIO, stream)
        except _BROKEN as error:
            raise DataError(
                f"Broken {file.compression.removeprefix('.')} data: {error}",
                where=str(file),
                expected="a whole compressed file; this one may be cut off",
            ) from error


def zip_members(path: Path) -> list[str]:
    """The names of the files in an archive, in its own order, without hidden ones.

    Raises:
        DataError: If it is no zip archive, or a member is one that could reach outside of it or
            hide what is in it: a name with ``..`` or from the root, a link, an archive, an
            encrypted file, or a name that is there twice.
    """
    names: list[str] = []
    try:
        with _open_zip(path) as archive:
            for info in archive.infolist():
                fault = _member_fault(info, names)
                if fault is not None:
                    raise DataError(
                        f"The archive holds {fault}: `{info.filename}`",
                        where=str(path),
                        expected="plain files with names inside the archive",
                        hint="Unpack it, look at what is in it, and name the files.",
                    )
                parts = PurePosixPath(info.filename).parts
                is_hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
                if not info.is_dir() and not is_hidden:
                    names.append(info.filename)
    except _BROKEN as error:
        raise DataError(f"Broken zip archive: {error}", where=str(path)) from error
    except OSError as error:
        what = f"Can't read the file: {error.strerror or error}"
        raise DataError(what, where=str(path)) from error
    return names


def _member_fault(info: zipfile.ZipInfo, names: list[str]) -> str | None:
    # zipfile itself cuts a name at NUL and turns the system's separator into `/`.
    written = PureWindowsPath(info.orig_filename)
    if written.is_absolute() or written.drive or written.root or ".." in written.parts:
        return "a name that leads out of it"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "a link"
    if PurePosixPath(info.filename).suffix.lower() in _ARCHIVES:
        return "another archive"
    if not info.filename:
        return "a file without a name"
    if info.flag_bits & _ENCRYPTED:
        return "an encrypted file"
    return "a name twice" if info.filename in names else None


def _open_zip(path: Path) -> zipfile.ZipFile:
    """The archive; names that aren't marked as UTF-8 are CP949, as Korean Windows writes them."""
    try:
        return zipfile.ZipFile(path, metadata_encoding="cp949")
    except UnicodeDecodeError:
        pass
    try:
        return zipfile.ZipFile(path)
    except UnicodeDecodeError as error:
        raise zipfile.BadZipFile(f"a name can't be decoded: {error}") from error


def _open_member(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    try:
        return archive.open(name)
    except (UnicodeDecodeError, RuntimeError) as error:  # another name, or encrypted, by its head
        raise zipfile.BadZipFile(str(error)) from error


class _ZstdFrames:
    """What zstd frames unpack to; zstandard's own reader takes a cut file for a whole one."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._packed = b""
        self._ready = b""

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes; none at the end."""
        while not self._ready:
            packed = self._packed or self._stream.read(_ZSTD_BYTES)
            if not packed:
                if not self._frame.eof:
                    raise EOFError("the last frame has no end")
                return b""
            if self._frame.eof:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
            self._ready = self._frame.decompress(packed)
            self._packed = self._frame.unused_data if self._frame.eof else b""
        part, self._ready = self._ready[:size], self._ready[size:]
        return part


class _Limited(io.RawIOBase):
    """A stream that may be read up to a number of bytes."""

    def __init__(self, stream: Any, limit: int, name: str) -> None:
        self._stream, self._left, self._limit, self._name = stream, limit, limit, name

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        chunk = self._stream.read(len(buffer))
        self._left -= len(chunk)
        if self._left < 0:
            raise DataError(
                f"The compressed data unpack to more than {self._limit / 2**20:,.0f} MiB",
                where=self._name,
                expected=f"at most {MAX_RATIO} times their own size",
                hint="Unpack it yourself if that is what it should hold.",
            )
        buffer[: len(chunk)] = chunk
        return len(chunk)
