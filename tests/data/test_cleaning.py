"""Mending texts and files: what changes, what must not, and that twice is once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kft.data.cleaned_copy import CHANGES, CleanedCopy
from kft.data.cleaning import STEPS, clean_text
from kft.data.health import TextHealth
from kft.data.sources import DataFile
from kft.errors import DataError, UsageError

MENDED = {
    "mojibake",
    "decomposed",
    "not nfc",
    "zero width",
    "filler",
    "control character",
    "wide space",
    "full width",
    "half-width jamo",
    "entity",
}
"""Faults that no mended text has."""

PARTS = [
    *"가각ㄱㅏ\u1100\u1161\u11a8\u119e\u302e\u200b\u200d😀❤\ufe0f\u3164\uffa0\xa0\u3000Ａ＆ﾡￂ",
    *("&amp;", "&#38;", "lt;", "&lt;", "&#x26;", "\x1b[31m", "\x1b]0;t\x07", "<b>", "\ufeff"),
    *("ì\x95\x88ë\x85\x95", "¾È³ç", "ㅋㅋㅋㅋ", "e\u0301", "\u3164ㅎㅛㅇ", "盧"),
]
TEXTS = st.lists(
    st.one_of(st.characters(codec=None, exclude_categories=()), st.sampled_from(PARTS))
).map("".join)


@pytest.mark.parametrize(
    ("text", "mended", "changes"),
    [
        ("\u1112\u1161\u11ab\u1100\u1173\u11af", "한글", ["NFC"]),
        ("\u110f\u110f\u1172", "ㅋ큐", ["NFC", "lone jamo"]),
        ("\u1161\u11a8", "ㅏㄱ", ["lone jamo"]),
        ("안\u200b녕\u00ad하\ufeff세요", "안녕하세요", ["unseen characters"]),
        ("👨\u200d👩 가\u200d나", "👨\u200d👩 가나", ["unseen characters"]),
        ("갑수\u3164ㅎㅛㅇ", "갑수횽", ["unseen characters"]),
        ("\u3164ㅅㅏㄸ \u3164", "ㅅㅏㄸ ", ["unseen characters"]),
        ("\x1b[1;31m빨강\x1b[0m\x07", "빨강", ["control characters"]),
        ("하나\xa0둘\u3000셋", "하나 둘 셋", ["spaces"]),
        ("ＡＢＣ（１）～", "ABC(1)~", ["width"]),
        ("ﾻￂ", "ㅋㅏ", ["width"]),
        ("톰&amp;제리 &#39;&nbsp;&lt;", "톰&제리 ' <", ["spaces", "HTML entities"]),
        ("&amp;amp;lt;", "<", ["HTML entities"]),
        ("¾È³çÇÏ¼¼¿ä", "안녕하세요", ["encoding"]),
        ("ì–´ë–ì§€", None, []),  # a byte is missing: what it said is not certain
    ],
)
def test_a_text(text: str, mended: str | None, changes: list[str]) -> None:
    assert clean_text(text) == (text if mended is None else mended, changes)


@pytest.mark.parametrize(
    "text",
    [
        "ㅋㅋㅋㅋㅋㅋㅋㅋ ㅠㅠ!!!!",
        "漢字 ①② ｟ ￣▽￣",
        "café ½ © déjà",
        "<b>태그</b> https://example.com/?a=1&b=2",
        "\u1112\u119e\u11ab",
        "줄\n바꿈\t탭",
        "&nosuchname; & &;",
        "👨\u200d👩\u200d👧 ❤\ufe0f",
    ],
)
def test_what_may_be_meant_stays(text: str) -> None:
    assert clean_text(text) == (text, [])


@given(TEXTS)
def test_mending_twice_is_mending_once_and_leaves_nothing(text: str) -> None:
    mended, changes = clean_text(text)
    assert (mended != text) == bool(changes)
    assert set(changes) <= set(STEPS)
    assert clean_text(mended) == (mended, [])
    health = TextHealth()
    health.add(mended, "rows:1")
    assert not MENDED & set(health.summary()["text"]["faults"])


def written(folder: Path, *rows: Any, name: str = "rows.jsonl") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def test_a_copy_with_its_list_of_changes(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "하나\xa0둘"}, {"role": "assistant", "content": "네"}]
    source = written(
        tmp_path / "data",
        {"id": 1, "text": "톰&amp;제리", "more": turns},
        {"id": 2, "text": "\u200b", "more": None},
        {"id": 3, "text": "톰&제리", "more": float("nan")},
        {"id": 4, "text": "그대로", "more": 0.5},
    )
    before = source.read_bytes()
    copy = CleanedCopy(tmp_path / "clean", [DataFile(source)])
    assert copy.write("train", [DataFile(source)], ["text"]) == tmp_path / "clean" / "train"
    assert source.read_bytes() == before
    assert lines(tmp_path / "clean" / "train" / "rows.jsonl") == [
        {"id": 1, "text": "톰&제리", "more": [{**turns[0], "content": "하나 둘"}, turns[1]]},
        {"id": 4, "text": "그대로", "more": 0.5},
    ]
    place = str(source)
    assert lines(tmp_path / "clean" / CHANGES) == [
        {
            "place": f"{place}:1",
            "column": "text",
            "changes": ["HTML entities"],
            "before": "톰&amp;제리",
            "after": "톰&제리",
        },
        {
            "place": f"{place}:1",
            "column": "more",
            "changes": ["spaces"],
            "before": "하나\xa0둘",
            "after": "하나 둘",
        },
        {"place": f"{place}:2", "changes": ["empty `text`"]},
        {"place": f"{place}:3", "changes": ["repeats an earlier row"]},
    ]
    cleaned = copy.cleaned
    assert (cleaned.num_read, cleaned.num_written, cleaned.num_changed) == (4, 2, 1)
    assert cleaned.changes == {"HTML entities": 1, "spaces": 1}
    assert cleaned.dropped == {"empty `text`": 1, "repeats an earlier row": 1}


def test_files_of_one_name_and_half_characters(tmp_path: Path) -> None:
    one = written(tmp_path / "a", {"text": "하나"})
    two = written(tmp_path / "b", {"text": "둘 \ud83d"})
    copy = CleanedCopy(tmp_path / "clean", [DataFile(one), DataFile(two)])
    folder = copy.write("train", [DataFile(one), DataFile(two)], ["text"])
    assert sorted(path.name for path in folder.iterdir()) == ["rows-2.jsonl", "rows.jsonl"]
    assert lines(folder / "rows-2.jsonl") == [{"text": "둘 \ud83d"}]


def test_originals_are_never_in_the_way(tmp_path: Path) -> None:
    source = written(tmp_path / "data", {"text": "하나"})
    for folder in (source, source.parent, tmp_path):
        with pytest.raises(UsageError, match="the originals are never written over"):
            CleanedCopy(folder, [DataFile(source)])
    written(tmp_path / "other", {"text": "하나"})
    with pytest.raises(UsageError, match="not an empty folder"):
        CleanedCopy(tmp_path / "other", [DataFile(source)])
    with pytest.raises(UsageError, match="can't be made"):
        CleanedCopy(tmp_path / "other" / "rows.jsonl" / "x", [DataFile(source)])
    (tmp_path / "empty").mkdir()
    CleanedCopy(tmp_path / "empty", [DataFile(source)])


def test_a_file_that_can_not_be_read_is_an_error(tmp_path: Path) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_bytes(b'{"text": "\xff"}\n')
    with pytest.raises(DataError):
        CleanedCopy(tmp_path / "clean", [DataFile(source)]).write(
            "train", [DataFile(source)], ["text"]
        )
