"""The faults that a text can have: their names, how grave they are, what to do about each."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from kft.data import characters as of_kind
from kft.data.mojibake import is_mangled, restored
from kft.errors import Severity

_COPY = "`kft check RECIPE --fix DIR` writes a copy"


@dataclass(frozen=True)
class Fault:
    """One kind of fault.

    Args:
        severity: How grave a few of them are.
        what: What the column has, as the end of a sentence.
        hint: One edit or one command; ``None`` where there is nothing to do.
        ruins: Most rows having it is an error: nothing useful would be learned.
        shows_character: Say which character was met first.
        never_slight: Stays a warning however few rows have it.
    """

    severity: Severity
    what: str
    hint: str | None = None
    ruins: bool = False
    shows_character: bool = False
    never_slight: bool = False


FAULTS = {
    "mojibake": Fault(
        "warning",
        "text that was decoded with the wrong encoding",
        f"{_COPY} with it turned back where that is certain; better, export the file again as "
        "UTF-8.",
        ruins=True,
    ),
    "mangled": Fault(
        "warning",
        "text that looks decoded with the wrong encoding and can't be turned back",
        "Export the file again from its source, as UTF-8.",
        ruins=True,
    ),
    "replacement character": Fault(
        "warning",
        "replacement characters (U+FFFD), which stand for text that was lost",
        "Export the file again from its source, as UTF-8.",
        ruins=True,
    ),
    "decomposed": Fault(
        "warning",
        "decomposed Hangul (NFD), which most vocabularies don't know",
        "`data.normalization=NFC` composes it.",
    ),
    "not nfc": Fault(
        "note",
        "characters that are not in the Unicode form NFC",
        "`data.normalization=NFC` composes them.",
    ),
    "lone jamo": Fault(
        "warning",
        "conjoining jamo that stand alone, where a keyboard writes `ㅋ` (U+314B)",
        f"{_COPY} with them mapped.",
        shows_character=True,
    ),
    "compatibility jamo": Fault("note", "jamo such as `ㅋㅋ` or `ㅠㅠ`"),
    "filler": Fault(
        "warning",
        "Hangul fillers, which can't be seen",
        f"{_COPY} without them.",
        shows_character=True,
    ),
    "zero width": Fault(
        "warning", "characters without width, which can't be seen", f"{_COPY} without them."
    ),
    "control character": Fault(
        "warning",
        "control characters or terminal escapes",
        f"{_COPY} without them.",
        shows_character=True,
    ),
    "wide space": Fault(
        "warning",
        "spaces other than U+0020",
        f"{_COPY} with plain spaces.",
        shows_character=True,
    ),
    "full width": Fault(
        "warning", "full-width letters, digits or signs such as `Ａ`", f"{_COPY} in plain width."
    ),
    "half-width jamo": Fault(
        "warning", "half-width jamo (U+FFA1 to U+FFDC)", f"{_COPY} with usual ones."
    ),
    "entity": Fault("warning", "HTML entities such as `&amp;`", f"{_COPY} with them decoded."),
    "tag": Fault("warning", "HTML tags", "Take the text out of the markup before training."),
    "url": Fault("note", "web addresses", "A model that writes may make some up."),
    "privacy": Fault(
        "warning",
        "numbers like those of a resident registration or a telephone",
        "Remove or mask them before training: a model that writes may repeat them.",
        never_slight=True,
    ),
    "middle dot": Fault("note", "`ㆍ` (U+318D, a vowel) where `·` (U+00B7) is probably meant"),
    "run": Fault("note", "one character four times or more in a row, such as `ㅋㅋㅋㅋ`"),
    "hanja": Fault("note", "Hanja"),
    "foreign letters": Fault("note", "kana or Cyrillic letters"),
    "not korean": Fault("note", "rows without any Hangul"),
    "empty": Fault("warning", "texts without anything to see", f"{_COPY} without such rows."),
    "long row": Fault("note", "texts of more than 20,000 characters"),
}
"""Name -> fault, in the order in which they are looked for."""

PATTERNS = (
    of_kind.CONJOINING_JAMO
    | of_kind.COMBINING
    | of_kind.ZERO_WIDTH
    | of_kind.MARKUP
    | of_kind.URL_SIGN
)
"""Kinds of characters that need a close look."""

EMOJI = "\u00a9\u00ae\u203c\u2049\u2122-\u2bff\u3030\u303d\u3297\u3299\ufe0f\U0001f000-\U0001faff"
"""Characters (as in a regular expression's brackets) that a zero-width joiner may join."""

ZERO_WIDTH = re.compile(
    rf"(?<![{EMOJI}])\u200d|\u200d(?![{EMOJI}])|[{of_kind.ZERO_WIDTHS.replace(chr(0x200D), '')}]"
)
ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
JAMO = "\u1100-\u11ff\ua960-\ua97c\ud7b0-\ud7fb"
_LEADING, _VOWEL = "\u1100-\u115e\ua960-\ua97c", "\u1161-\u11a7\ud7b0-\ud7c6"
_TRAILING = "\u11a8-\u11ff\ud7cb-\ud7fb"
OLD_SYLLABLE = rf"[{_LEADING}]+[{_VOWEL}]+[{_TRAILING}]*"
"""Jamo that make one syllable of older Korean, which Unicode has no single character for."""
LONE_JAMO = re.compile(rf"{OLD_SYLLABLE}|([{JAMO}])")
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>|<!--")
_URL = re.compile(r"https?://|www\.", re.IGNORECASE)
_PRIVATE = re.compile(
    r"(?<![\d-])(?:"
    r"\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])[- ]?[1-8]\d{6}"  # resident registration
    r"|(?:\+?82[- ]?|0)1[016789][-. ]?\d{3,4}[-. ]?\d{4}"  # mobile
    r"|0(?:2|[3-6]\d)[-.) ]\d{3,4}[-. ]\d{4}"  # land line, only with separators
    r")(?![\d-])"
)

_BY_PATTERN = (
    (of_kind.MARKUP, "tag", _TAG),
    (of_kind.URL_SIGN, "url", _URL),
    (of_kind.DIGIT, "privacy", _PRIVATE),
)


def decoded_entity(entity: str) -> str | None:
    """The character of an HTML entity; ``None`` where there is none that could be meant.

    Example:
        >>> decoded_entity("&amp;"), decoded_entity("&nosuchname;")
        ('&', None)
    """
    character = html.unescape(entity)
    return None if character in {entity, ""} or "\ufffd" in character else character


def faults_at_close_look(text: str, kind: int, *, is_suspect: bool) -> Iterator[tuple[str, str]]:
    """The faults that patterns find in a text.

    Args:
        text: The text.
        kind: The bits of its characters, joined.
        is_suspect: It may be mojibake.

    Yields:
        Names of :data:`FAULTS`, each with what to add to its message. A text that is mojibake
        has only that.
    """
    if is_suspect:
        turned_back = restored(text)
        if turned_back is not None:
            yield "mojibake", f": {turned_back[0]}"
            return
        if is_mangled(text):
            yield "mangled", ""
    if kind & (of_kind.CONJOINING_JAMO | of_kind.COMBINING):
        yield from _composition(text, kind)
    if kind & of_kind.ZERO_WIDTH and (found := ZERO_WIDTH.search(text)):
        yield "zero width", f", first {of_kind.name_of(found[0])}"
    for bit, name, pattern in _BY_PATTERN:
        if kind & bit and pattern.search(text):
            yield name, ""
    if kind & of_kind.MARKUP and any(map(decoded_entity, ENTITY.findall(text))):
        yield "entity", ""


def _composition(text: str, kind: int) -> Iterator[tuple[str, str]]:
    composed = unicodedata.normalize("NFC", text)
    has_jamo = bool(kind & of_kind.CONJOINING_JAMO)
    if composed != text:
        num_jamo = sum(map(composed.count, set(re.findall(f"[{JAMO}]", composed))))
        is_hangul = has_jamo and num_jamo < len(re.findall(f"[{JAMO}]", text))
        yield ("decomposed" if is_hangul else "not nfc"), ""
    if has_jamo:
        lone = next((found[1] for found in LONE_JAMO.finditer(composed) if found[1]), None)
        if lone is not None:
            yield "lone jamo", f", first {of_kind.name_of(lone)}"
