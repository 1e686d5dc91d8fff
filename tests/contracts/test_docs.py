"""Pages that can't go stale: generated ones agree with the program, links lead somewhere."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOT_OURS = {"build", "dist", "runs", "site", "node_modules", "__pycache__"}
CODE = re.compile(r"^(```|~~~).*?^\1|`[^`\n]*`", flags=re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
REFERENCE = re.compile(r"^\[[^\]]+\]:\s*(\S+)", flags=re.MULTILINE)
ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|#|//")


def markdown_files(root: Path) -> Iterator[Path]:
    """Every page below `root`, without hidden folders and what runs and builds leave behind."""
    for folder, below, files in os.walk(root):
        below[:] = sorted(n for n in below if not n.startswith(".") and n not in NOT_OURS)
        yield from (Path(folder) / name for name in sorted(files) if name.endswith(".md"))


def broken_links(page: Path) -> list[str]:
    """Relative links of a page that lead to no file."""
    text = CODE.sub("", page.read_text(encoding="utf-8"))
    targets = [*LINK.findall(text), *REFERENCE.findall(text)]
    relative = [target.split("#")[0] for target in targets if not ELSEWHERE.match(target)]
    return [f"{page}: {target}" for target in relative if not (page.parent / target).exists()]


@pytest.fixture(scope="module")
def docs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("kft_dev_docs", ROOT / "dev" / "docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_pages_agree_with_the_program(docs: ModuleType) -> None:
    assert docs.stale_pages(ROOT) == []


def test_a_planted_stale_page_is_caught(docs: ModuleType, tmp_path: Path) -> None:
    assert docs.stale_pages(tmp_path) == list(docs.PAGES)  # none is there yet
    docs.write_pages(tmp_path)
    assert docs.stale_pages(tmp_path) == []
    page = tmp_path / "docs/reference/recipe.md"
    page.write_text(page.read_text(encoding="utf-8") + "One more key.\n", encoding="utf-8")
    assert docs.stale_pages(tmp_path) == ["docs/reference/recipe.md"]


def test_the_commands_page_shows_the_commands(docs: ModuleType) -> None:
    page = docs.commands_page()
    for command in ("kft", "kft finetune", "kft check"):
        assert f"\n## `{command}`\n" in page


def test_the_readme_shows_both_set_up_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make quickstart" in text
    assert "make test" in text


def test_every_relative_link_leads_to_a_file() -> None:
    pages = list(markdown_files(ROOT))
    assert ROOT / "README.md" in pages
    assert len(pages) >= 5
    assert [link for page in pages for link in broken_links(page)] == []


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("[here](missing.md)", ["missing.md"]),
        ("![here](missing.png)", ["missing.png"]),
        ('[here](missing.md "with a title")', ["missing.md"]),
        ("[here](missing.md#part) and [there](page.md#part)", ["missing.md"]),
        ("[here][1]\n\n[1]: missing.md", ["missing.md"]),
        ("[here](https://example.org/missing.md) and [part](#part)", []),
        ("`[here](missing.md)`\n\n```\n[here](missing.md)\n```\n", []),
    ],
)
def test_a_planted_broken_link_is_caught(tmp_path: Path, text: str, broken: list[str]) -> None:
    page = tmp_path / "below" / "page.md"
    page.parent.mkdir()
    page.write_text(text, encoding="utf-8")
    assert list(markdown_files(tmp_path)) == [page]
    assert broken_links(page) == [f"{page}: {target}" for target in broken]
