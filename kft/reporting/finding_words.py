"""Findings in Korean: their sentences are found again in `finding_words.yaml`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import yaml

CATALOGUE = Path(__file__).with_suffix(".yaml")

_HOLE = "{}"
_SEVERITIES = {"error": "오류", "warning": "경고", "note": "참고"}
_COUNTED = re.compile(r"([\d,]+) ([a-z -]+?)s?")
_NOUNS = {
    "row": "{}행",
    "weight": "가중치 {}개",
    "added token": "더해진 토큰 {}개",
    "optimizer step": "{}단계",
}
_FINDING = re.compile(
    r"(?P<severity>error|warning|note): (?P<what>.+?)(?: \((?P<count>\d+) times\))?"
    r"(?:\n  --> (?P<where>.+?))?(?:\n  hint: (?P<hint>.+?))?",
    re.DOTALL,
)


def sentences() -> list[tuple[str, str]]:
    """Pairs of an English sentence with ``{}`` for what varies, and the Korean one."""
    found: list[list[str]] = yaml.safe_load(CATALOGUE.read_text(encoding="utf-8"))
    return [(english, korean) for english, korean in found]


def korean_finding(finding: str) -> str | None:
    r"""A finding in Korean.

    Args:
        finding: A :class:`kft.errors.Finding` as text.

    Returns:
        ``None`` where its sentence is not in the catalogue; an unknown hint stays as it is.

    Example:
        >>> print(korean_finding("note: `text` has Hanja (3 times)\n  --> a.csv:2"))
        참고: `text` 열: 한자 (3번)
          --> a.csv:2
    """
    parts = _FINDING.fullmatch(finding)
    what = parts and korean(parts["what"])
    if parts is None or what is None:
        return None
    times = f" ({parts['count']}번)" if parts["count"] else ""
    lines = [f"{_SEVERITIES[parts['severity']]}: {what}{times}"]
    if parts["where"]:
        lines.append(f"  --> {parts['where']}")
    if parts["hint"]:
        lines.append(f"  힌트: {korean(parts['hint']) or parts['hint']}")
    return "\n".join(lines)


def korean(sentence: str) -> str | None:
    """An English sentence of a finding in Korean, or ``None``."""
    for pattern, names, template in _patterns():
        found = pattern.fullmatch(sentence)
        if found is not None:
            filled = [
                text if is_name else korean(text) or _counted(text)
                for text, is_name in zip(found.groups(), names, strict=True)
            ]
            return _filled(template, filled)
    return None


def _counted(text: str) -> str:
    """``5 rows`` as Korean counts them; any other text as it is."""
    found = _COUNTED.fullmatch(text)
    form = _NOUNS.get(found[2]) if found is not None else None
    return form.format(found[1]) if found is not None and form is not None else text


def _filled(template: str, parts: Sequence[str]) -> str:
    return re.sub(r"\{(\d)\}", lambda hole: parts[int(hole[1])], template)


@cache
def _patterns() -> list[tuple[re.Pattern[str], list[bool], str]]:
    """Per sentence its pattern, which holes hold a name (they are quoted), and the Korean.

    The one with the most words of its own comes first: those with few match nearly anything.
    """
    ordered = sorted(sentences(), key=lambda pair: -len(pair[0].replace(_HOLE, "")))
    return [(_pattern(english), list(_quoted(english)), korean) for english, korean in ordered]


def _pattern(english: str) -> re.Pattern[str]:
    return re.compile("(.*?)".join(map(re.escape, english.split(_HOLE))), re.DOTALL)


def _quoted(english: str) -> Iterator[bool]:
    pieces = english.split(_HOLE)
    yield from (piece.endswith("`") for piece in pieces[:-1])
