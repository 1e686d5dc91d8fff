"""What kind of character each code point is: one table, so that texts are judged by array look-ups.

A text is scanned as code points (uint32); ``kinds()[codes]`` gives each one's bits, and the bits
of a row joined by "or" say which faults the row can have at all. Only such rows are looked at
more closely.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import cache

import numpy as np

_CODE_POINTS = 0x110000

# Bits of a character's kind.
INK = 1 << 0
"""Anything that leaves a trace on paper."""
HANGUL = 1 << 1
"""A syllable, a compatibility jamo or a conjoining jamo."""
RARE_SYLLABLE = 1 << 2
"""A Hangul syllable outside the 2,350 of KS X 1001."""
COMPATIBILITY_JAMO = 1 << 3
CONJOINING_JAMO = 1 << 4
FILLER = 1 << 5
ZERO_WIDTH = 1 << 6
CONTROL = 1 << 7
WIDE_SPACE = 1 << 8
FULL_WIDTH = 1 << 9
HALF_WIDTH_JAMO = 1 << 10
MIDDLE_DOT_JAMO = 1 << 11
REPLACEMENT = 1 << 12
LATIN_1 = 1 << 13
"""What bytes above 127 become when they are read as Latin-1 or Windows-1252."""
HANJA = 1 << 14
KANA = 1 << 15
CYRILLIC = 1 << 16
LETTER = 1 << 17
"""A letter that is not Hangul."""
MARKUP = 1 << 18
URL_SIGN = 1 << 19
DIGIT = 1 << 20
COMBINING = 1 << 21
"""May change under NFC: a combining mark or a compatibility ideograph."""

SCRIPTS = ("other", "hangul", "hanja", "latin", "digits", "space")
"""Names of the values of :func:`scripts`."""

FILLERS = "\u3164\uffa0\u115f\u1160"
ZERO_WIDTHS = (
    "\u00ad\u034f\u061c\u180e\u200b\u200c\u200d\u200e\u200f\u2060\u2061\u2062\u2063\u2064\ufeff"
)
WIDE_SPACES = (
    "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000\x0b\x0c\x1c\x1d\x1e\x1f\x85"
)
CONTROLS = "".join(
    character
    for character in map(chr, [*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F)])
    if character not in "\t\n\r" + WIDE_SPACES
) + "".join(map(chr, range(0x2066, 0x206A)))
"""Control characters (tab and line ends are none) and those that turn the writing direction."""

_HANGUL_JAMO = ((0x1100, 0x1200), (0xA960, 0xA97D), (0xD7B0, 0xD7FC))
_COMPATIBILITY_JAMO = ((0x3131, 0x3164), (0x3165, 0x318D), (0x318E, 0x318F))
_HALF_WIDTH_JAMO = ((0xFFA1, 0xFFDD),)
_SYLLABLES = ((0xAC00, 0xD7A4),)
_HANJA = ((0x3400, 0x4DC0), (0x4E00, 0xA000), (0xF900, 0xFB00), (0x20000, 0x323B0))
_KANA = ((0x3041, 0x3100), (0x31F0, 0x3200), (0xFF66, 0xFFA0))
_CYRILLIC = ((0x0400, 0x0530),)
_LATIN = (
    *((0x41, 0x5B), (0x61, 0x7B), (0xC0, 0xD7), (0xD8, 0xF7), (0xF8, 0x250), (0x1E00, 0x1F00)),
    *((0xFF21, 0xFF3B), (0xFF41, 0xFF5B)),
)
_DIGITS = ((0x30, 0x3A), (0xFF10, 0xFF1A))
_COMBINING = ((0x300, 0x370), (0x1AB0, 0x1B00), (0x20D0, 0x2100), (0x3099, 0x309B))
_COMPATIBILITY_HANJA = ((0xF900, 0xFB00), (0x2F800, 0x2FA20))
WINDOWS_1252 = {
    bytes([code]).decode("cp1252"): code
    for code in range(0x80, 0xA0)
    if code not in {0x81, 0x8D, 0x8F, 0x90, 0x9D}
}
"""Characters that Windows-1252 has where Latin-1 has control characters, with their bytes."""


@cache
def kinds() -> np.ndarray:
    """Bits of each code point, uint32 of shape (1,114,112,)."""
    table = np.full(_CODE_POINTS, INK, dtype=np.uint32)
    for bit, ranges in (
        (HANGUL, (*_SYLLABLES, *_HANGUL_JAMO, *_COMPATIBILITY_JAMO, *_HALF_WIDTH_JAMO)),
        (COMPATIBILITY_JAMO, _COMPATIBILITY_JAMO),
        (CONJOINING_JAMO, _HANGUL_JAMO),
        (HALF_WIDTH_JAMO, _HALF_WIDTH_JAMO),
        (FULL_WIDTH, ((0xFF01, 0xFF5F),)),
        (LATIN_1, ((0x80, 0x100),)),
        (HANJA, _HANJA),
        (KANA, _KANA),
        (CYRILLIC, _CYRILLIC),
        (LETTER, (*_LATIN, *_HANJA, *_KANA, *_CYRILLIC)),
        (DIGIT, _DIGITS),
        (COMBINING, (*_COMBINING, *_COMPATIBILITY_HANJA)),
    ):
        for start, end in ranges:
            table[start:end] |= bit
    _set(table, LATIN_1, WINDOWS_1252)
    _set(table, RARE_SYLLABLE, rare_syllables())
    _set(table, MARKUP, "<&")
    _set(table, URL_SIGN, ":wW")
    _set(table, MIDDLE_DOT_JAMO, "\u318d")
    _set(table, REPLACEMENT, "\ufffd")
    for bit, characters in (
        (ZERO_WIDTH, ZERO_WIDTHS),
        (WIDE_SPACE, WIDE_SPACES),
        (CONTROL, CONTROLS),
    ):
        _set(table, bit, characters)
        _clear(table, INK, characters)
    for character in FILLERS:  # not Hangul either: nothing is seen
        table[ord(character)] = FILLER
    _clear(table, INK, " \t\n\r")
    table.flags.writeable = False
    return table


@cache
def scripts() -> np.ndarray:
    """Index into :data:`SCRIPTS` of each code point, uint8 of shape (1,114,112,)."""
    table = np.zeros(_CODE_POINTS, dtype=np.uint8)
    bits = kinds()
    table[(bits & HANGUL) != 0] = SCRIPTS.index("hangul")
    table[(bits & HANJA) != 0] = SCRIPTS.index("hanja")
    table[(bits & DIGIT) != 0] = SCRIPTS.index("digits")
    for start, end in _LATIN:
        table[start:end] = SCRIPTS.index("latin")
    for character in " \t\n\r" + WIDE_SPACES:
        table[ord(character)] = SCRIPTS.index("space")
    table.flags.writeable = False
    return table


def code_points(text: str) -> np.ndarray:
    """The text's code points, uint32 of shape (characters,)."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)


def name_of(character: str) -> str:
    """A character as ``U+200B ZERO WIDTH SPACE``.

    Example:
        >>> name_of("\u200b")
        'U+200B ZERO WIDTH SPACE'
    """
    return f"U+{ord(character):04X} {unicodedata.name(character, '')}".rstrip()


def _set(table: np.ndarray, bit: int, characters: Iterable[str]) -> None:
    for character in characters:
        table[ord(character)] |= bit


def _clear(table: np.ndarray, bit: int, characters: Iterable[str]) -> None:
    for character in characters:
        table[ord(character)] &= ~np.uint32(bit)


def rare_syllables() -> list[str]:
    """The Hangul syllables outside KS X 1001: hardly any Korean word has one."""
    # Not by encoding: Python's euc_kr spells the other syllables out in jamo.
    pairs = (bytes([high, low]) for high in range(0xB0, 0xC9) for low in range(0xA1, 0xFF))
    common = {pair.decode("euc_kr") for pair in pairs}
    return [syllable for syllable in map(chr, range(*_SYLLABLES[0])) if syllable not in common]
