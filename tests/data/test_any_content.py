"""Whatever text stands in a field arrives in NFC; whatever bytes stand in a file are told."""

from __future__ import annotations

import csv
import gzip
import io
import json
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.ipc
import pyarrow.parquet
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kft.data.files import resolve_files
from kft.data.formats import to_records
from kft.data.layouts import choose_layout
from kft.data.rows import read_rows
from kft.errors import DataError
from kft.recipe.schema import DataSection
from kft.tasks.task import Record

quickly = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
# Every character but NUL (no text file has it) and surrogates (no encoding has them).
characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
texts = st.text(characters, min_size=1, max_size=12).filter(lambda text: text.strip() != "")
Pairs = list[tuple[str, str]]


def as_jsonl(pairs: Pairs) -> bytes:
    lines = [json.dumps({"prompt": a, "completion": b}, ensure_ascii=False) for a, b in pairs]
    return "\n".join(lines).encode()


def as_json(pairs: Pairs) -> bytes:
    rows = [{"prompt": a, "completion": b} for a, b in pairs]
    return json.dumps({"data": rows}, ensure_ascii=len(pairs) == 1, indent=1).encode()


def as_csv(pairs: Pairs) -> bytes:
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=";").writerows([("prompt", "completion"), *pairs])
    return file.getvalue().encode("utf-8-sig")


def as_tsv(pairs: Pairs) -> bytes:
    return "".join(f"{a}\t{b}\n" for a, b in [("prompt", "completion"), *pairs]).encode()


def as_parquet(pairs: Pairs) -> bytes:
    sink = io.BytesIO()
    pyarrow.parquet.write_table(as_table(pairs), sink)
    return sink.getvalue()


def as_arrow(pairs: Pairs) -> bytes:
    sink = io.BytesIO()
    with pyarrow.ipc.new_stream(sink, as_table(pairs).schema) as writer:
        writer.write_table(as_table(pairs))
    return sink.getvalue()


def as_table(pairs: Pairs) -> pyarrow.Table:
    return pyarrow.table({"prompt": [a for a, _ in pairs], "completion": [b for _, b in pairs]})


WRITERS: dict[str, Callable[[Pairs], bytes]] = {
    ".jsonl": as_jsonl,
    ".ndjson": as_jsonl,
    ".json": as_json,
    ".csv": as_csv,
    ".tsv": as_tsv,
    ".txt": as_tsv,
    ".parquet": as_parquet,
    ".arrow": as_arrow,
}


def zipped(content: bytes, name: str) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return sink.getvalue()


@pytest.mark.parametrize("suffix", WRITERS)
@quickly
@given(pairs=st.lists(st.tuples(texts, texts), min_size=1, max_size=4))
def test_any_text_arrives_in_nfc(tmp_path: Path, suffix: str, pairs: Pairs) -> None:
    if suffix in (".tsv", ".txt"):  # they have no way to hold a tab or a line break
        blank = str.maketrans("\t\n\r", "가나다")
        pairs = [(a.translate(blank), b.translate(blank)) for a, b in pairs]
    path = tmp_path / f"a{suffix}"
    path.write_bytes(WRITERS[suffix](pairs))
    rows = list(read_rows(path))
    layout = choose_layout(rows[0], DataSection(train=str(path)))
    records = list(to_records(rows, layout))
    assert len(records) == len(pairs)
    for record, (prompt, completion) in zip(records, pairs, strict=True):
        assert isinstance(record, Record)
        assert record.messages is not None
        said = [message["content"] for message in record.messages]
        assert said == [unicodedata.normalize("NFC", text) for text in (prompt, completion)]


Mutation = tuple[str, float, bytes]
mutations: st.SearchStrategy[list[Mutation]] = st.lists(
    st.tuples(
        st.sampled_from(["replace", "insert", "delete", "cut"]),
        st.floats(0, 1),
        st.binary(min_size=1, max_size=6),
    ),
    min_size=1,
    max_size=4,
)


def mutated(content: bytes, changes: list[Mutation]) -> bytes:
    for kind, share, bytes_ in changes:
        place = int(share * len(content))
        if kind == "cut":
            content = content[:place]
        else:
            inserted = b"" if kind == "delete" else bytes_
            left = place if kind == "insert" else place + len(bytes_)
            content = content[:place] + inserted + content[left:]
    return content


def fault_of(path: Path) -> str:
    """Where the file is said to be wrong, or the file itself when it can be read."""
    try:
        for file in resolve_files(str(path), "data.train"):
            rows = list(read_rows(file))
            layout = choose_layout(rows[0], DataSection(train=str(path)))
            list(to_records(rows, layout))
    except DataError as error:
        return error.where or ""
    return str(path)


SAMPLE: Pairs = [("아 더빙.. 😀", '그 "말"'), ("둘\n째", "a|b"), ("3", "끝")] * 2


@pytest.mark.parametrize("compression", ["", ".gz", ".zst", ".zip"])
@pytest.mark.parametrize("suffix", WRITERS)
@quickly
@given(changes=mutations)
def test_any_bytes_are_rows_or_a_told_error(
    tmp_path: Path, suffix: str, compression: str, changes: list[Mutation]
) -> None:
    content = WRITERS[suffix](SAMPLE)
    packed = {
        "": content,
        ".gz": gzip.compress(content, mtime=0),
        ".zst": zstandard.ZstdCompressor().compress(content),
        ".zip": zipped(content, f"b{suffix}"),
    }[compression]
    path = tmp_path / f"a{suffix}{compression}"
    path.write_bytes(mutated(packed, changes))
    assert fault_of(path).startswith(str(path))
