"""Text that was decoded with the wrong encoding: found, and turned back where that is certain."""

from __future__ import annotations

import re
from functools import cache

from kft.data.characters import WINDOWS_1252, rare_syllables

_TO_LATIN_1 = {ord(character): code for character, code in WINDOWS_1252.items()}
_HANGUL = re.compile(r"[가-힣ㄱ-ㅣ]")
_SYLLABLE = re.compile(r"[가-힣]")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_COMMON_PAIR = re.compile(rb"[\xb0-\xc8][\xa1-\xfe]|\xa4[\xa1-\xd3]")  # Hangul of KS X 1001
_PAIR = re.compile(rb"[\x81-\xfe][\x41-\x5a\x61-\x7a\x81-\xfe]")
_ODD = re.compile(r"[\u4e00-\u9fff\uf900-\ufaff\ufffd]")
_UTF_8_PARTS = re.compile(rf"[ê-í][\x80-\xbf{''.join(WINDOWS_1252)}\ufffd]{{1,2}}")
_ENOUGH = 2  # letters of Hangul; one could be an accident
_MOSTLY = 0.8


def restored(text: str) -> tuple[str, str] | None:
    """What a wrongly decoded text said, where that is certain.

    Certain means: the way back works for every character, gives at least two letters of
    Hangul and little else, and the way forth gives the text again.

    Args:
        text: Text of a row.

    Returns:
        What happened to it, and the text as it was meant; ``None`` for any other text.

    Example:
        >>> restored("안녕하세요".encode().decode("latin-1"))
        ('UTF-8 read as Latin-1', '안녕하세요')
        >>> restored("¾È³ç")
        ('CP949 read as Latin-1', '안녕')
        >>> restored("déjà vu") is None
        True
    """
    narrow = _latin_1_bytes(text)
    if narrow is not None:
        meant = _decoded(narrow, "utf-8")
        if meant is not None and _is_korean(meant):
            return "UTF-8 read as Latin-1", meant
        pairs, common = len(_PAIR.findall(narrow)), len(_COMMON_PAIR.findall(narrow))
        meant = _decoded(narrow, "cp949")
        is_common = common >= _ENOUGH and common >= _MOSTLY * pairs
        if meant is not None and is_common and _is_korean(meant):
            return "CP949 read as Latin-1", meant
        return None
    wide = _encoded(text, "cp949")
    meant = None if wide is None else _decoded(wide, "utf-8")
    if meant is not None and _is_korean(meant) and meant.encode().decode("cp949") == text:
        return "UTF-8 read as CP949", meant
    return None


def is_mangled(text: str) -> bool:
    """Whether a text looks like UTF-8 that was read as something else with losses.

    Read as CP949 it is made of Hanja and of syllables that no Korean word has; read as Latin-1,
    of ``ì``, ``ë``, ``ê`` and ``í`` between signs. Neither can be restored.

    Example:
        >>> is_mangled("안녕하세요 반갑습니다".encode().decode("cp949", "replace"))
        True
        >>> is_mangled("뷁 뙇 됬어요 正말 좋은 영화")
        False
    """
    if "占쏙옙" in text:  # two replacement characters, read as CP949
        return True
    num_syllables = len(_SYLLABLE.findall(text))
    rare = [character for character in text if character in _rare()]
    odd = _ODD.findall(text)  # ㅋㅋ on a syllable (아핳핳) makes rare ones, too, but not these
    is_varied = len({*rare, *odd}) >= _ENOUGH
    is_read_as_cp949 = odd and rare and is_varied and len(rare + odd) > num_syllables - len(rare)
    return bool(is_read_as_cp949) or len(_UTF_8_PARTS.findall(text)) > max(_ENOUGH, num_syllables)


@cache
def _rare() -> frozenset[str]:
    return frozenset(rare_syllables())


def _latin_1_bytes(text: str) -> bytes | None:
    if not _NOT_ASCII.search(text):
        return None
    return _encoded(text.translate(_TO_LATIN_1), "latin-1")


def _encoded(text: str, encoding: str) -> bytes | None:
    try:
        return text.encode(encoding)
    except UnicodeEncodeError:
        return None


def _decoded(content: bytes, encoding: str) -> str | None:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        return None


def _is_korean(text: str) -> bool:
    foreign = _NOT_ASCII.findall(text)
    letters = len(_HANGUL.findall(text))
    return letters >= _ENOUGH and letters >= _MOSTLY * len(foreign)
