"""Rows of parquet and arrow files, a batch at a time."""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from kft.data.archives import open_bytes
from kft.data.row import Row
from kft.data.sources import DataFile
from kft.data.tables import check_names
from kft.errors import DataError, counted

_BATCH_ROWS = 1024
_ARROW_FILE = b"ARROW1"
_STREAM_END = b"\0\0\0\0"


def parquet_rows(file: DataFile) -> Iterator[Row]:
    """Rows of a parquet file."""
    return _rows(file, _parquet_batches, "parquet")


def arrow_rows(file: DataFile) -> Iterator[Row]:
    """Rows of an Arrow IPC file or stream (what `datasets` writes)."""
    return _rows(file, _arrow_batches, "arrow")


def _rows(file: DataFile, batches: Any, kind: str) -> Iterator[Row]:
    import pyarrow

    number = 0
    with _seekable(file) as source:
        try:
            for batch in batches(source, file):
                for fields in batch.to_pylist():
                    number += 1
                    yield Row(fields, f"{file}:row {number}", numbers_as_text=True)
        # UnicodeDecodeError is a ValueError; a damaged length overflows or asks for all memory.
        except (pyarrow.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
            raise DataError(
                f"Broken {kind} after {counted(number, 'row')}: {str(error) or 'out of memory'}",
                where=str(file),
                expected=f"a whole {kind} file; this one may be cut off",
            ) from error


def _parquet_batches(source: BinaryIO, file: DataFile) -> Iterator[Any]:
    import pyarrow.parquet

    parquet = pyarrow.parquet.ParquetFile(source)
    check_names(parquet.schema_arrow.names, str(file))
    yield from parquet.iter_batches(batch_size=_BATCH_ROWS)


def _arrow_batches(source: BinaryIO, file: DataFile) -> Iterator[Any]:
    import pyarrow.ipc

    is_file = source.read(len(_ARROW_FILE)) == _ARROW_FILE
    source.seek(0)
    reader = pyarrow.ipc.open_file(source) if is_file else pyarrow.ipc.open_stream(source)
    check_names(reader.schema.names, str(file))
    whole = map(reader.get_batch, range(reader.num_record_batches)) if is_file else reader
    for batch in whole:
        batch.validate(full=True)  # a damaged one would be read beyond its end
        for start in range(0, batch.num_rows, _BATCH_ROWS):
            yield batch.slice(start, _BATCH_ROWS)
    source.seek(-len(_STREAM_END), io.SEEK_END)
    if not is_file and source.read() != _STREAM_END:
        raise pyarrow.ArrowInvalid("the stream has no end")  # pyarrow takes a cut one for whole


@contextmanager
def _seekable(file: DataFile) -> Iterator[BinaryIO]:
    """The file's bytes; unpacked to a temporary file first where they are compressed."""
    with open_bytes(file) as stream:
        if not file.compression:
            yield stream
            return
        with tempfile.TemporaryFile() as unpacked:
            shutil.copyfileobj(stream, unpacked)
            unpacked.seek(0)
            yield unpacked
