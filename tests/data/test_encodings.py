from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from kft.data import encodings
from kft.data.encodings import text_encoding
from kft.data.rows import read_rows
from kft.data.sources import DataFile
from kft.errors import DataError

KOREAN = "이 영화는 정말 재미있어서 다시 보고 싶어요. 배우들의 연기도 훌륭했습니다.\n"
JAPANESE = "これは日本語の文章です。映画はとても面白かったです。また見たいと思います。\n"
CHINESE = "這部電影非常好看，我還想再看一遍。演員的表演也很精彩，值得推薦給大家。\n"
RUSSIAN = "Этот фильм мне очень понравился, я хочу посмотреть его ещё раз с друзьями.\n"
GERMAN = "Die Straße ist schön, und die Bäume blühen über den Häusern. Größe ist nicht alles.\n"
FRENCH = "L'été dernier, nous sommes allés à la plage ; c'était très agréable.\n"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (JAPANESE, "shift_jis"),
        (CHINESE, "big5"),
        (RUSSIAN, "cp1251"),
        (RUSSIAN, "koi8_r"),
        (GERMAN, "latin_1"),
        (KOREAN, "johab"),
    ],
)
def test_other_encodings_are_detected(tmp_path: Path, text: str, encoding: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes((text * 5).encode(encoding))
    assert text_encoding(path) not in {"utf-8", "cp949"}
    assert [row.fields["text"] for row in read_rows(path)] == [text.strip()] * 5


def test_cp949_and_not_euc_kr(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("뷁 똠방각하 펲시콜라\n".encode("cp949"))
    assert text_encoding(path) == "cp949"
    assert next(read_rows(path)).fields["text"] == "뷁 똠방각하 펲시콜라"


def test_utf8_wins_where_cp949_would_do(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("뷁".encode() * 2)  # six bytes that are also three characters of CP949
    assert ("뷁" * 2).encode().decode("cp949") != "뷁뷁"
    assert text_encoding(path) == "utf-8"


@pytest.mark.parametrize("encoding", ["utf-8", "cp949"])
@pytest.mark.parametrize("count", [3, 40_000])
def test_a_broken_place_in_korean_is_an_error(tmp_path: Path, encoding: str, count: int) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes((KOREAN * count).encode(encoding) + b"ab \xff\xff\n" + KOREAN.encode(encoding))
    with pytest.raises(DataError, match="are neither UTF-8 nor CP949") as caught:
        text_encoding(path)
    assert caught.value.where == f"{path}:{count + 1}"


def test_what_could_be_several_encodings_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes((FRENCH * 5).encode("latin_1"))  # `très` in one of them, `trčs` in another
    with pytest.raises(DataError, match="are neither UTF-8 nor CP949"):
        text_encoding(path)


def test_noise_is_not_detected_as_anything(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(bytes(range(250, 0, -1)) * 3)
    with pytest.raises(DataError, match="are neither UTF-8 nor CP949"):
        text_encoding(path)


@pytest.mark.parametrize("encoding", ["utf-8", "cp949"])
def test_characters_on_the_border_of_two_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(("a" + KOREAN * 9).encode(encoding))
    for size in range(2, 12):
        monkeypatch.setattr(encodings, "_CHUNK_BYTES", size)
        encodings._KNOWN.clear()
        assert text_encoding(path) == encoding


def test_a_file_that_grows_while_it_is_looked_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(KOREAN.encode())
    look = encodings._found_encoding

    def grows(file: Any) -> str:
        found = look(file)
        path.write_bytes((KOREAN * 2).encode())
        return found

    monkeypatch.setattr(encodings, "_found_encoding", grows)
    assert text_encoding(path) == "utf-8"


def test_nul_far_behind(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(KOREAN.encode() * 30_000 + b"a\0b\n")
    with pytest.raises(DataError, match="NUL") as caught:
        text_encoding(path)
    assert caught.value.where == f"{path}:30001"


def test_a_file_is_looked_through_once_and_again_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scanned: list[str] = []
    look = encodings._undecodable

    def counted(file: DataFile, encoding: str) -> object:
        scanned.append(encoding)
        return look(file, encoding)

    monkeypatch.setattr(encodings, "_undecodable", counted)
    path = tmp_path / "a.csv"
    path.write_text("text\n가\n", encoding="utf-8")
    assert len(list(read_rows(path))) == len(list(read_rows(path))) == 1
    assert scanned == ["utf-8"]
    path.write_text("text\n가나\n", encoding="cp949")
    assert text_encoding(path) == "cp949"
    assert scanned == ["utf-8", "utf-8", "cp949"]


def test_a_large_file_is_looked_through_quickly(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with path.open("wb") as file:
        for _ in range(40):
            file.write(KOREAN.encode() * 5000)
    megabytes = path.stat().st_size / 1e6
    started = time.process_time()
    assert text_encoding(path) == "utf-8"
    # Measured at 360 to 400 MB a second of CPU time; the limit leaves room for a busy machine.
    assert megabytes / (time.process_time() - started) > 70
