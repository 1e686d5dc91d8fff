"""Archives, compressed files, weights and hub data sets."""

from __future__ import annotations

import gzip
import io
import stat
import zipfile
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.ipc
import pyarrow.parquet
import pytest
import zstandard

from kft.data import archives
from kft.data.files import resolve_files
from kft.data.rows import read_rows, reading_notes
from kft.data.sources import COMPRESSIONS, SUFFIXES, DataFile, HubDataset, copies
from kft.errors import DataError
from kft.recipe.section import SourceSection

LINES = '{"text": "굳 ㅋ"}\n\n{"text": "포스터 보고"}\n'
ROWS = [{"text": "굳 ㅋ"}, {"text": "포스터 보고"}]


def table() -> pyarrow.Table:
    return pyarrow.table({"text": ["굳 ㅋ", "포스터 보고"]})


def parquet_bytes() -> bytes:
    sink = io.BytesIO()
    pyarrow.parquet.write_table(table(), sink)
    return sink.getvalue()


def arrow_bytes(*, streamed: bool) -> bytes:
    sink = io.BytesIO()
    writer = (pyarrow.ipc.new_stream if streamed else pyarrow.ipc.new_file)(sink, table().schema)
    with writer:
        writer.write_table(table())
    return sink.getvalue()


CONTENTS: dict[str, bytes] = {
    ".jsonl": LINES.encode(),
    ".ndjson": LINES.encode(),
    ".json": '[{"text": "굳 ㅋ"},\n {"text": "포스터 보고"}]'.encode(),
    ".csv": "text\r\n굳 ㅋ\r\n포스터 보고\r\n".encode("cp949"),
    ".tsv": "text\t\n굳 ㅋ\t\n포스터 보고\t\n".encode(),
    ".txt": "굳 ㅋ\n포스터 보고\n".encode(),
    ".parquet": parquet_bytes(),
    ".arrow": arrow_bytes(streamed=True),
}
PACKED = {".gz": gzip.compress, ".zst": lambda data: zstandard.ZstdCompressor().compress(data)}


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def texts_of(source: Any) -> list[Any]:
    return [row.fields["text"] for row in read_rows(source)]


def error_of(call: Any, *arguments: Any) -> DataError:
    with pytest.raises(DataError) as caught:
        list(call(*arguments))
    assert caught.value.exit_code == 2
    return caught.value


def test_every_suffix_and_compression_is_tried() -> None:
    assert set(CONTENTS) == set(SUFFIXES)
    assert set(PACKED) == set(COMPRESSIONS)


@pytest.mark.parametrize("suffix", CONTENTS)
@pytest.mark.parametrize("compression", ["", ".gz", ".zst", ".zip"])
def test_every_kind_of_file_plain_and_compressed(
    tmp_path: Path, suffix: str, compression: str
) -> None:
    content = CONTENTS[suffix]
    path = tmp_path / f"a{suffix}{compression}"
    if compression == ".zip":
        zipped(path, {f"안/b{suffix}": content})
    else:
        path.write_bytes(PACKED.get(compression, bytes)(content))
    (file,) = resolve_files(str(path), "data.train")
    assert isinstance(file, DataFile)
    assert texts_of(file) == ["굳 ㅋ", "포스터 보고"]
    named = f"{path}/안/b{suffix}" if compression == ".zip" else str(path)
    assert all(row.place.startswith(f"{named}:") for row in read_rows(file))


def test_both_forms_of_arrow(tmp_path: Path) -> None:
    for streamed in (True, False):
        path = tmp_path / f"{streamed}.arrow"
        path.write_bytes(arrow_bytes(streamed=streamed))
        places = [row.place for row in read_rows(path)]
        assert places == [f"{path}:row 1", f"{path}:row 2"]
        path.write_bytes(arrow_bytes(streamed=streamed)[:-60])
        assert "Broken arrow after" in error_of(read_rows, path).what


def test_a_stream_cut_between_two_batches(tmp_path: Path) -> None:
    sink = io.BytesIO()
    with pyarrow.ipc.new_stream(sink, table().schema) as writer:
        writer.write_table(table())
        whole_batches = sink.tell()
        writer.write_table(table())
    path = tmp_path / "a.arrow"
    path.write_bytes(sink.getvalue())
    assert len(texts_of(path)) == 4
    path.write_bytes(sink.getvalue()[:whole_batches])
    assert error_of(read_rows, path).what == "Broken arrow after 2 rows: the stream has no end"


def test_members_of_an_archive_by_name(tmp_path: Path) -> None:
    members = {
        "b/train.jsonl": LINES.encode(),
        "README.md": b"#",
        "__MACOSX/b/._train.jsonl": b"\0",
        ".hidden.jsonl": b"\0",
        "a.csv": b"text\nx\n",
    }
    path = zipped(tmp_path / "a.zip", members)
    files = resolve_files(str(tmp_path), "data.train")
    assert [str(file) for file in files] == [f"{path}/a.csv", f"{path}/b/train.jsonl"]
    places = [row.place for file in files for row in read_rows(file)]
    assert places == [f"{path}/a.csv:2", f"{path}/b/train.jsonl:1", f"{path}/b/train.jsonl:3"]


def test_korean_names_of_a_windows_archive(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("xxxx.csv", "text\n가\n")
    # Windows writes the name in CP949 and doesn't mark it as UTF-8.
    path.write_bytes(path.read_bytes().replace(b"xxxx", "훈련".encode("cp949")))
    (file,) = resolve_files(str(path), "data.train")
    assert str(file) == f"{path}/훈련.csv"
    assert texts_of(file) == ["가"]


def with_symlink(archive: zipfile.ZipFile) -> None:
    info = zipfile.ZipInfo("a.jsonl")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive.writestr(info, "/etc/passwd")


def with_a_name_twice(archive: zipfile.ZipFile) -> None:
    archive.writestr("a.jsonl", LINES)
    with pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("a.jsonl", LINES)


REFUSED = {
    "upwards": (lambda a: a.writestr("../a.jsonl", LINES), "a name that leads out of it"),
    "upwards inside": (lambda a: a.writestr("b/../../a.jsonl", LINES), "leads out of it"),
    "from the root": (lambda a: a.writestr("/a.jsonl", LINES), "leads out of it"),
    "from a drive": (lambda a: a.writestr("C:\\a.jsonl", LINES), "leads out of it"),
    "backslashes": (lambda a: a.writestr("..\\a.jsonl", LINES), "leads out of it"),
    "an archive": (lambda a: a.writestr("b.zip", b""), "another archive: `b.zip`"),
    "a compressed file": (lambda a: a.writestr("b.jsonl.gz", b""), "another archive"),
    "a link": (with_symlink, "a link: `a.jsonl`"),
    "twice": (with_a_name_twice, "a name twice: `a.jsonl`"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_members_that_are_refused(tmp_path: Path, name: str) -> None:
    write, words = REFUSED[name]
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("good.jsonl", LINES)
        write(archive)
    error = error_of(resolve_files, str(path), "data.train")
    assert words in error.what
    assert error.where == str(path)


def test_an_encrypted_member(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"a.jsonl": LINES.encode()})
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(bytes(content))
    assert "an encrypted file: `a.jsonl`" in error_of(resolve_files, str(path), "data.train").what


def test_an_archive_without_data(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"README.md": b"#"})
    error = error_of(resolve_files, str(path), "data.train")
    assert "No data file in the archive, which holds `README.md`" in error.what
    path.write_bytes(b"PK, or not")
    assert "Broken zip archive" in error_of(resolve_files, str(path), "data.train").what


@pytest.mark.parametrize("compression", [".gz", ".zst", ".zip"])
@pytest.mark.parametrize("fault", ["cut", "changed", "none of it"])
def test_broken_compressed_data(tmp_path: Path, compression: str, fault: str) -> None:
    content = b"".join(b'{"n": %d}\n' % number for number in range(3000))
    path = tmp_path / f"a.jsonl{compression}"
    if compression == ".zip":
        zipped(path, {"a.jsonl": content})
    elif compression == ".zst":
        path.write_bytes(zstandard.ZstdCompressor(write_checksum=True).compress(content))
    else:
        path.write_bytes(gzip.compress(content))
    (file,) = resolve_files(str(path), "data.train")
    packed = bytearray(path.read_bytes())
    if fault == "cut":
        del packed[-40:]
    elif fault == "changed":
        for place in range(200, 260):
            packed[place] ^= 0x55
    else:
        packed = bytearray(b"text")
    path.write_bytes(bytes(packed))
    error = error_of(read_rows, file)
    assert error.where is not None
    assert error.where.startswith(str(path))
    if fault == "cut" and compression == ".gz":
        assert "Broken gz data" in error.what


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_cut_file_is_never_a_shorter_one(tmp_path: Path, compression: str) -> None:
    content = "".join(f"{number * 7919 % 100003} 줄\n" for number in range(40_000)).encode()
    packed = PACKED[compression](content)
    path = tmp_path / f"a.txt{compression}"
    cuts = [*range(1, len(packed), len(packed) // 40), len(packed) - 1]
    for cut in cuts:
        path.write_bytes(packed[:cut])
        assert "Broken" in error_of(read_rows, path).what
    path.write_bytes(packed * 2)  # two members, or frames
    assert len(texts_of(path)) == 80_000


@pytest.mark.parametrize("compression", [".gz", ".zst", ".zip"])
def test_a_bomb(tmp_path: Path, compression: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "FREE_BYTES", 2**20)
    content = b'{"text": "' + b"0" * 2**23 + b'"}\n'
    path = tmp_path / f"a.jsonl{compression}"
    if compression == ".zip":
        zipped(path, {"a.jsonl": content})
    else:
        path.write_bytes(PACKED[compression](content))
    (file,) = resolve_files(str(path), "data.train")
    error = error_of(read_rows, file)
    assert "unpack to more than" in error.what
    assert error.expected == f"at most {archives.MAX_RATIO} times their own size"
    monkeypatch.setattr(archives, "FREE_BYTES", 2**24)
    assert len(texts_of(file)[0]) == 2**23


def test_plain_and_compressed_twins(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(LINES, encoding="utf-8")
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(LINES.encode()))
    error = error_of(resolve_files, str(tmp_path), "data.train")
    assert error.what == "`a.jsonl` and `a.jsonl.gz` lie in one folder"
    files = resolve_files([str(tmp_path / "a.jsonl.gz")], "data.train")
    assert [str(file) for file in files] == [str(tmp_path / "a.jsonl.gz")]


def test_a_compressed_file_says_what_is_inside(tmp_path: Path) -> None:
    path = tmp_path / "train.gz"
    path.write_bytes(gzip.compress(LINES.encode()))
    assert error_of(resolve_files, str(path), "data.train").hint == (
        "Name what is inside, such as `train.jsonl.gz`."
    )


def test_weights_go_to_every_file(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl", "c.jsonl"):
        (tmp_path / name).write_text(LINES, encoding="utf-8")
    source = [
        str(tmp_path / "c.jsonl"),
        SourceSection(path=str(tmp_path / "[ab].jsonl"), weight=2.5),
    ]
    files = resolve_files(source, "data.train")
    assert [(Path(str(file)).name, file.weight) for file in files] == [
        ("c.jsonl", 1.0),
        ("a.jsonl", 2.5),
        ("b.jsonl", 2.5),
    ]


def test_a_file_named_twice(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(LINES, encoding="utf-8")
    error = error_of(resolve_files, [str(path), str(tmp_path / "*.jsonl")], "data.train")
    assert error.what == f"`{path}` is named twice"
    assert error.hint == f"`{{path: {path}, weight: 2}}` uses its rows twice."


def test_copies_are_as_many_as_the_weight_says() -> None:
    for weight in (0.1, 0.5, 1.0, 1.5, 2.0, 3.25):
        uses = [copies(number, weight) for number in range(1000)]
        assert abs(sum(uses) - 1000 * weight) < 1
        assert max(uses) - min(uses) <= 1
    assert [copies(number, 0.5) for number in range(4)] == [0, 1, 0, 1]


def test_hub_data_sets_are_named_by_mappings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    section = SourceSection(path="klue/klue", config="nli", revision="3efd987")
    (source,) = resolve_files(section, "data.train")
    assert source == HubDataset("klue/klue", "nli", "train", "3efd987", 1.0)
    assert str(source) == "klue/klue@3efd987/nli/train"
    (source,) = resolve_files([SourceSection(path="e9t/nsmc", weight=2)], "data.eval")
    assert source == HubDataset("e9t/nsmc", None, "validation", None, 2.0)
    hint = error_of(resolve_files, "klue/klue", "data.train").hint
    assert hint == "A data set on the hub is `{path: klue/klue, split: train}`."


def test_a_path_that_is_here_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "klue" / "klue").mkdir(parents=True)
    (tmp_path / "klue" / "klue" / "a.jsonl").write_text(LINES, encoding="utf-8")
    (source,) = resolve_files(SourceSection(path="klue/klue"), "data.train")
    assert source == DataFile(Path("klue/klue/a.jsonl"))
    error = error_of(resolve_files, SourceSection(path="klue/klue", split="test"), "data.train")
    assert "is a file or folder here, and `split` belongs to the hub" in error.what
    assert error.hint == "Leave `split` out to read what is here."
    misspelt = SourceSection(path="klue/kleu", weight=2)
    assert error_of(resolve_files, misspelt, "data.train").hint == "Did you mean `klue/klue`?"
    nowhere = SourceSection(path="rows/a.jsonl", config="nli")
    assert "no name of a data set on the hub" in error_of(resolve_files, nowhere, "data.train").what


def test_an_offline_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    error = error_of(read_rows, HubDataset("nobody/nothing-of-this-name", "nli"))
    assert error.what.startswith("Can't load the data set `nobody/nothing-of-this-name`: ")
    assert error.where == "nobody/nothing-of-this-name/nli/train"
    assert error.hint == "The machine is offline: give a path of files that are here."


def test_rows_of_a_hub_data_set() -> None:
    import datasets

    from kft.data.hub import dataset_rows

    label = datasets.ClassLabel(names=["entailment", "neutral"])
    features = datasets.Features(
        {
            "premise": datasets.Value("string"),
            "label": label,
            "ner_tags": datasets.List(datasets.ClassLabel(names=["O", "B-PS"])),
            "n": datasets.Value("int64"),
        }
    )
    data = datasets.Dataset.from_dict(
        {"premise": ["가", "나"], "label": [1, -1], "ner_tags": [[0, 1], []], "n": [3, 4]},
        features=features,
    )
    rows = list(dataset_rows(data, "klue/klue/ner/train"))
    assert [dict(row.fields) for row in rows] == [
        {"premise": "가", "label": "neutral", "ner_tags": ["O", "B-PS"], "n": 3},
        {"premise": "나", "label": None, "ner_tags": [], "n": 4},
    ]
    assert [row.place for row in rows] == ["klue/klue/ner/train:row 1", "klue/klue/ner/train:row 2"]


def test_notes_of_what_was_found(tmp_path: Path) -> None:
    contents = {
        "a.csv": "질문;답변\n안녕;네\n".encode("cp949"),
        "b.csv": "질문,답변\n안녕,네\n".encode(),
        "c.txt": "안녕하세요".encode("utf-16"),
        "d.parquet": parquet_bytes(),
        "e.jsonl": b'[{"text": "x"}]',
        "f.jsonl": LINES.encode(),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    files = resolve_files(str(tmp_path), "data.train")
    notes = [(note.what, note.where) for note in reading_notes(files)]
    assert notes == [
        ("The file is in CP949, and is read as that", str(tmp_path / "a.csv")),
        ("The csv's separator is a semicolon", str(tmp_path / "a.csv")),
        ("The file is in UTF-16, and is read as that", str(tmp_path / "c.txt")),
        ("The file is one JSON array", str(tmp_path / "e.jsonl")),
    ]
