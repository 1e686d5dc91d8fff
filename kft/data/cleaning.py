"""Mending texts: what ``kft check --fix`` does to each one, as pure functions.

Only what can't be meant is changed: how often a laugh is repeated, tags and addresses stay.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from kft.data import characters as of_kind
from kft.data.faults import ENTITY, LONE_JAMO, ZERO_WIDTH, decoded_entity
from kft.data.mojibake import restored

_ESCAPE_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?)")
_FILLER = re.compile(f"[{of_kind.FILLERS}]")
_SPELLED_OUT = re.compile("\u3164([ㄱ-ㅎ])([ㅏ-ㅣ])([ㄱ-ㅎ\u3164])")
_CONTROL = re.compile(f"[{re.escape(of_kind.CONTROLS)}]")
_WIDE_SPACE = re.compile(f"[{of_kind.WIDE_SPACES}]")
_AMPERSANDS = re.compile(r"&(?:(?:amp|AMP|#0*38|#[xX]0*26);)+")
_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_CLEAN = re.compile(r"[가-힣ㄱ-ㅎㅏ-ㅣ\n !-%'-~]*")
"""Text that no step changes: Hangul and ASCII without an ampersand."""


def clean_text(text: str) -> tuple[str, list[str]]:
    r"""Mend a text.

    The steps are repeated until none changes anything, so cleaning twice is cleaning once.

    Args:
        text: Any text.

    Returns:
        The mended text, and the names of the steps that changed it, in their order.

    Example:
        >>> clean_text("\u1112\u1161\u11ab\u200b글 ㅋㅋㅋㅋㅋ &lt;3")
        ('한글 ㅋㅋㅋㅋㅋ <3', ['NFC', 'unseen characters', 'HTML entities'])
        >>> clean_text("그대로")
        ('그대로', [])
    """
    if _CLEAN.fullmatch(text):
        return text, []
    changes: dict[str, None] = {}
    before = None
    while before != text:
        before = text
        for name, step in STEPS.items():
            changed = step(text)
            if changed != text:
                text = changed
                changes[name] = None
    return text, [name for name in STEPS if name in changes]


def _turn_back(text: str) -> str:
    found = restored(text)
    return text if found is None else found[1]


def _compose(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _drop_unseen(text: str) -> str:
    spelled = _SPELLED_OUT.sub(lambda found: _syllable(*found.groups()), text)
    return ZERO_WIDTH.sub("", _FILLER.sub("", spelled))


def _syllable(*letters: str) -> str:
    """The syllable that KS X 1001 spells as a filler and three letters."""
    names = [unicodedata.name(letter).split()[-1] for letter in letters]
    parts = zip(("CHOSEONG", "JUNGSEONG", "JONGSEONG"), names, strict=True)
    jamo = [_jamo(f"HANGUL {kind} {name}") for kind, name in parts if name != "FILLER"]
    syllable = unicodedata.normalize("NFC", "".join(jamo))
    return syllable if len(syllable) == 1 and all(jamo) else "".join(letters)


def _jamo(name: str) -> str:
    try:
        return unicodedata.lookup(name)
    except KeyError:  # no syllable ends in it
        return ""


def _drop_controls(text: str) -> str:
    return _CONTROL.sub("", _ESCAPE_SEQUENCE.sub("", text))


def _plain_spaces(text: str) -> str:
    return _WIDE_SPACE.sub(" ", text)


def _map_lone_jamo(text: str) -> str:
    return LONE_JAMO.sub(lambda found: _letter(found[1]) if found[1] else found[0], text)


def _letter(jamo: str) -> str:
    """The compatibility jamo of a conjoining one; itself where there is none (old Korean)."""
    name = unicodedata.name(jamo, "")
    kind = re.sub("HANGUL (CHOSEONG|JUNGSEONG|JONGSEONG) ", "HANGUL LETTER ", name)
    try:
        return unicodedata.lookup(kind) if kind != name else jamo
    except KeyError:
        return jamo


def _half_width_jamo() -> dict[int, str]:
    """Half-width jamo -> compatibility jamo, not the conjoining ones of NFKC."""
    letters = {}
    for code in range(0xFFA1, 0xFFDD):
        name = unicodedata.name(chr(code), "")
        if name:
            letters[code] = unicodedata.lookup(name.removeprefix("HALFWIDTH "))
    return letters


_WIDTHS = {**_half_width_jamo(), **{code: chr(to) for code, to in _FULL_WIDTH.items()}}


def _plain_widths(text: str) -> str:
    return text.translate(_WIDTHS)


def _decode_entities(text: str) -> str:
    def decode(found: re.Match[str]) -> str:
        character = decoded_entity(found[0])
        return found[0] if character is None else character

    return ENTITY.sub(decode, _AMPERSANDS.sub("&", text))


STEPS: dict[str, Callable[[str], str]] = {
    "encoding": _turn_back,  # first: later steps would change its bytes
    "NFC": _compose,
    "lone jamo": _map_lone_jamo,
    "unseen characters": _drop_unseen,
    "control characters": _drop_controls,
    "spaces": _plain_spaces,
    "width": _plain_widths,
    "HTML entities": _decode_entities,
}
"""Name -> what it does, in the order in which they are done."""
