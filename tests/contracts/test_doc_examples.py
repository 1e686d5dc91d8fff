"""The examples of the documentation are run, in English once; the Korean pages show the same."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

from dev.figures.write import PICTURES, stale_pictures

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```pycon\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE

ENGLISH = sorted(page for page in DOCS.rglob("*.md") if not page.name.endswith(".ko.md"))
WITH_EXAMPLES = [page for page in ENGLISH if BLOCK.search(page.read_text(encoding="utf-8"))]


def examples(text: str) -> list[str]:
    """The `pycon` blocks of a page."""
    return BLOCK.findall(text)


def failures(text: str, name: str) -> str:
    """What doctest says of a page's examples; they share their variables."""
    test = doctest.DocTestParser().get_doctest(
        "\n".join(examples(text)), {"__name__": "__main__"}, name, name, 0
    )
    assert test.examples
    said: list[str] = []
    doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=said.append)
    return "".join(said)


def test_there_are_pages_with_examples() -> None:
    assert len(WITH_EXAMPLES) >= 9


@pytest.mark.parametrize(
    "page",
    [  # a whole run takes longer than all the others together
        pytest.param(page, id=page.stem, marks=[pytest.mark.slow] * (page.stem == "python"))
        for page in WITH_EXAMPLES
    ],
)
def test_the_examples_of_a_page_are_true(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert failures(page.read_text(encoding="utf-8"), page.name) == ""


def test_a_planted_wrong_example_is_caught() -> None:
    right = "Text.\n\n```pycon\n>>> 1 + 1\n2\n```\n"
    assert failures(right, "page") == ""
    assert "Expected:\n    3" in failures(right.replace("\n2\n", "\n3\n"), "page")


@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=lambda page: page.stem)
def test_the_korean_page_shows_the_same_examples(page: Path) -> None:
    korean = page.with_suffix(".ko.md")
    shown = examples(korean.read_text(encoding="utf-8"))
    assert shown == examples(page.read_text(encoding="utf-8"))


def test_the_pictures_are_those_of_the_numbers() -> None:
    assert len(PICTURES) >= 8
    assert stale_pictures() == []


def test_a_planted_other_picture_is_caught(tmp_path: Path) -> None:
    assert stale_pictures(tmp_path) == list(PICTURES)
    for name, draw in PICTURES.items():
        (tmp_path / f"{name}.svg").write_text(draw(), encoding="utf-8")
    assert stale_pictures(tmp_path) == []
    (tmp_path / "gelu.svg").write_text("<svg/>", encoding="utf-8")
    assert stale_pictures(tmp_path) == ["gelu"]
