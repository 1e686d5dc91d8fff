"""Texts from a pipe or an argument, in the encodings that Korean text has."""

from __future__ import annotations

import io
import sys

import pytest

from kft.cli.piped import as_text, stdin_lines
from kft.errors import UsageError


def piped(raw: bytes, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw), encoding="ascii"))
    return list(stdin_lines())


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp949"])
def test_lines_are_korean_in_either_encoding(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert piped("안녕 반가워\n똠방각하\n".encode(encoding), monkeypatch) == [
        "안녕 반가워\n",
        "똠방각하\n",
    ]


def test_after_a_line_in_cp949_short_ones_are_too(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = "안녕\nok\n치킨\n".encode("cp949")  # the last one is UTF-8 as well, of other letters
    assert piped(raw, monkeypatch) == ["안녕\n", "ok\n", "치킨\n"]
    assert raw.splitlines()[2].decode() == "ġŲ"


def test_a_line_in_another_encoding_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError) as told:
        piped("좋다\n".encode() + b"\xff\xfe\x00\n", monkeypatch)
    assert told.value.where == "stdin, line 2"


def test_an_argument_s_bytes_are_read_likewise() -> None:
    typed = "안녕".encode("cp949").decode("utf-8", "surrogateescape")  # as Python has it in argv
    assert as_text(typed, "`--prompt`") == as_text("안녕", "`--prompt`") == "안녕"
    for half in ("\udcff", "\ud83d"):
        with pytest.raises(UsageError, match="can't be decoded"):
            as_text(half, "`--prompt`")
