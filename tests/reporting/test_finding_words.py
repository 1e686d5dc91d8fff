"""Findings in Korean: the catalogue keeps up with the source, and holes are filled in order."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

import kft
from kft.data.faults import FAULTS
from kft.errors import Finding
from kft.reporting.finding_words import korean, korean_finding, sentences
from kft.reporting.render import finding_phrase

PACKAGE = Path(kft.__file__).parent
NEVER_IN_A_REPORT = {"check.py", "sweep.py", "export_gguf.py", "predictions.py"}
HANGUL = re.compile("[가-힣]")


def _trees() -> Iterator[tuple[Path, ast.Module]]:
    for file in sorted(PACKAGE.rglob("*.py")):
        yield file, ast.parse(file.read_text(encoding="utf-8"))


def _literal(node: ast.expr) -> str | None:
    """A string with ``{}`` for what is put in; ``None`` for another expression."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(
            str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values
        )
    return None


def test_every_english_sentence_is_one_that_the_source_says() -> None:
    said = {
        node.value.lower()
        for _, tree in _trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    # Some are put together from parts that a comma or a colon joins.
    pieces = {
        piece.strip()
        for english, _ in sentences()
        for piece in re.split(r"\{\}|[,:](?: |$)", english.lower())
    }
    assert not [piece for piece in pieces if not any(piece in text for text in said)]


def test_every_finding_that_a_report_may_hold_has_its_korean() -> None:
    missing = []
    for file, tree in _trees():
        if file.name in NEVER_IN_A_REPORT:
            continue
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Finding"):
                continue
            severity = _literal(node.args[0]) if node.args else None
            hints = [word.value for word in node.keywords if word.arg == "hint"]
            if severity == "error":
                continue
            for part in chain(node.args[1:2], hints, node.args[3:4]):
                english = _literal(part) or ""
                # One that begins with a hole is put together from what stands in the test above.
                is_whole = english and english.strip("`{}") and not english.startswith("{}")
                if is_whole and korean(english) is None:
                    missing.append((file.name, english))
    assert not missing


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_of_a_text_has_its_korean(name: str) -> None:
    fault = FAULTS[name]
    assert HANGUL.search(korean(fault.what) or "")
    assert fault.hint is None or korean(fault.hint)
    told = Finding(
        "warning", f"`text` has {fault.what}, 12.5% of its rows", "a.csv:3", fault.hint, 4
    )
    said = korean_finding(str(told))
    assert said is not None
    assert "12.5%" in said
    assert "(4번)" in said
    assert "a.csv:3" in said
    assert fault.what not in said or not fault.what.isascii()


def test_holes_are_filled_in_the_order_of_the_korean_sentence() -> None:
    assert korean("9.1% of the tokens of the data are unknown; expected at most 5%") == (
        "데이터의 토큰 9.1%가 모르는 토큰입니다. 기준은 5% 이하입니다"
    )
    assert korean("An epoch has only 1 optimizer step, the run 3: hardly anything is learned") == (
        "한 에폭이 1단계, 전체가 3단계뿐이라 거의 배우지 못합니다"
    )


def test_names_stay_as_they_are() -> None:
    """A column may be called what is a sentence elsewhere."""
    assert korean("`empty` has Hanja") == "`empty` 열: 한자"


def test_what_is_not_known_is_shown_as_it_is_and_escaped() -> None:
    assert korean_finding("warning: something new <b>") is None
    assert finding_phrase("warning: something new <b>") == "warning: something new &lt;b&gt;"
    both = finding_phrase("note: `<b>` has Hanja")
    assert 'class="ko"' in both
    assert "<b>" not in both
