"""The cache: made once and found again, never stale, never damaged, never in the way."""

from __future__ import annotations

import errno
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from kft.data import cache
from kft.data.cache import cache_folder, cached, is_whole, prune
from kft.errors import DataError, UsageError

KEY = {"rows": ["a", 1], "form": "NFC"}


class Maker:
    """Fills a folder, and counts how often it was asked to."""

    def __init__(self, content: str = "봄") -> None:
        self.content = content
        self.calls = 0

    def __call__(self, folder: Path) -> None:
        self.calls += 1
        (folder / "rows").write_text(self.content, encoding="utf-8")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KFT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_made_once_and_found_again(own_cache: Path) -> None:
    make = Maker()
    first, again = cached("rows", KEY, make), cached("rows", dict(reversed(KEY.items())), make)
    assert make.calls == 1
    assert first == again
    assert first.findings == ()
    assert first.path.parent == own_cache / "rows"
    assert (first.path / "rows").read_text(encoding="utf-8") == "봄"
    assert oct(own_cache.stat().st_mode & 0o77) == "0o0"  # rows may be private


@pytest.mark.parametrize("other", [{**KEY, "form": "none"}, {"rows": ["a", 2], "form": "NFC"}])
def test_anything_else_is_another_entry(other: dict[str, object]) -> None:
    make = Maker()
    assert cached("rows", KEY, make) != cached("rows", other, make)
    assert cached("tokens", KEY, make) != cached("rows", KEY, make)
    assert make.calls == 3


def test_other_code_is_another_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    make = Maker()
    cached("rows", KEY, make)
    monkeypatch.setattr(cache, "code_sha256", lambda: "changed")
    cached("rows", KEY, make)
    assert make.calls == 2


@pytest.mark.parametrize("fault", ["a bit", "shorter", "gone", "more", "no list"])
def test_a_damaged_entry_is_made_again(fault: str) -> None:
    make = Maker()
    folder = cached("rows", KEY, make).path
    rows = folder / "rows"
    if fault == "a bit":
        rows.write_bytes(bytes([rows.read_bytes()[0] ^ 1]) + rows.read_bytes()[1:])
    elif fault == "shorter":
        rows.write_bytes(rows.read_bytes()[:-1])
    elif fault == "gone":
        rows.unlink()
    elif fault == "more":
        (folder / "rows2").touch()
    else:
        (folder / "contents.json").unlink()
    assert not is_whole(folder)
    assert cached("rows", KEY, make).path == folder
    assert make.calls == 2
    assert rows.read_text(encoding="utf-8") == "봄"
    assert is_whole(folder)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_maker_that_fails_leaves_nothing(own_cache: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "rows").touch()
        raise DataError("Broken", where="a:1")

    with pytest.raises(DataError, match="Broken"):
        cached("rows", KEY, fail)
    assert list((own_cache / "rows").iterdir()) == []


def make_slowly(folder: Path) -> None:
    (folder / "rows").write_text(str(os.getpid()), encoding="utf-8")
    time.sleep(0.2)


def ask(queue: multiprocessing.Queue[str]) -> None:
    folder = cached("rows", KEY, make_slowly).path
    queue.put((folder / "rows").read_text(encoding="utf-8"))


def test_processes_may_make_one_entry_at_once(own_cache: Path) -> None:
    context = multiprocessing.get_context("fork")
    queue: multiprocessing.Queue[str] = context.Queue()
    processes = [context.Process(target=ask, args=(queue,)) for _ in range(4)]
    for process in processes:
        process.start()
    said = {queue.get(timeout=20) for _ in processes}
    for process in processes:
        process.join(timeout=20)
    assert len(said) == 1  # all of them read the one that came first
    (entry,) = (own_cache / "rows").iterdir()
    assert is_whole(entry)


def refuse(code: int, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let everything below the cache fail as the system would, also for root."""
    mkdir = Path.mkdir

    def fails(self: Path, *args: object, **options: object) -> None:
        if self.is_relative_to(own_cache):
            raise OSError(code, os.strerror(code), str(self))
        mkdir(self, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "mkdir", fails)


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_cache_that_cant_be_written_is_told_and_replaced(
    code: int, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(code, own_cache, monkeypatch)
    make = Maker()
    first, again = cached("rows", {"code": code}, make), cached("rows", {"code": code}, make)
    assert first == again  # found again within the process, and noted in the same words
    assert make.calls == 1
    (note,) = first.findings
    assert (note.severity, note.where) == ("note", str(own_cache))
    assert os.strerror(code) in note.what
    assert (first.path / "rows").read_text(encoding="utf-8") == "봄"
    assert not first.path.is_relative_to(own_cache)


def test_a_disk_that_fills_up_while_writing(own_cache: Path) -> None:
    make = Maker()

    def fills_up(folder: Path) -> None:
        make(folder)
        if folder.is_relative_to(own_cache):
            raise OSError(errno.ENOSPC, "No space left on device")

    entry = cached("rows", {"full": 1}, fills_up)
    assert (make.calls, len(entry.findings)) == (2, 1)
    assert list((own_cache / "rows").iterdir()) == []


def test_no_room_anywhere_is_an_error() -> None:
    def full(folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DataError, match="can't be stored: No space left"):
        cached("rows", {"full": 2}, full)


def test_other_faults_of_the_system_are_no_matter_of_place() -> None:
    def broken(folder: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        cached("rows", KEY, broken)


def test_what_was_not_used_for_longest_goes_first(own_cache: Path) -> None:
    folders = []
    for number in range(4):
        folder = cached("rows", {"number": number}, Maker("가" * 1000)).path
        hours_ago = time.time() - 3600 * (10 - number)
        os.utime(folder / "contents.json", (hours_ago, hours_ago))
        folders.append(folder)
    size = sum(file.stat().st_size for file in folders[0].iterdir())
    cached("rows", {"number": 0}, Maker())  # used just now
    abandoned = own_cache / "rows" / ".left"
    abandoned.mkdir()
    os.utime(abandoned, (0, 0))
    prune(own_cache, 2.5 * size)
    assert [folder.exists() for folder in folders] == [True, False, False, True]
    assert not abandoned.exists()
    prune(own_cache, 0, keep=folders[3])
    assert [folder.exists() for folder in folders] == [True, False, False, True]


def test_the_limit_is_kept(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = cached("rows", {"number": 1}, Maker()).path
    os.utime(old / "contents.json", (0, 0))
    monkeypatch.setenv("KFT_CACHE_GB", "0")
    new = cached("rows", {"number": 2}, Maker()).path
    assert (old.exists(), new.exists()) == (False, True)


@pytest.mark.parametrize("given", ["viel", "-1", "nan"])
def test_a_limit_that_is_none(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KFT_CACHE_GB", given)
    with pytest.raises(UsageError, match="KFT_CACHE_GB"):
        cached("rows", KEY, Maker())


def test_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("KFT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "kft"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "kft"
