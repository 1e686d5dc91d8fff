"""The documentation site: made pages agree with the program, tables name real keys, it builds."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dev.error_cases import Mistake
from dev.error_page import message_of
from dev.pages import PAGES, stale_pages
from kft.recipe.describe import schema_json
from kft.recipe.foreign_names import FOREIGN_KEYS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
ROW = re.compile(r"^\| `([^`]+)` \| `([^`]+)` \|$", flags=re.MULTILINE)


def test_the_made_pages_agree_with_the_program(tmp_path: Path) -> None:
    assert stale_pages(tmp_path) == list(PAGES)  # none is there yet
    assert stale_pages() == []


@pytest.mark.slow  # builds the site
def test_a_mistake_that_is_none_is_told() -> None:
    with pytest.raises(ValueError, match="finds nothing wrong"):
        message_of(Mistake(("none", ""), ("", "")))


def schema_keys() -> set[str]:
    """Every key with its section."""
    schema = schema_json()
    keys = set()
    for name, part in schema["properties"].items():
        keys.add(name)
        reference = part.get("$ref") or next(
            (one["$ref"] for one in part.get("allOf", []) if "$ref" in one), None
        )
        if reference:
            section = schema["$defs"][reference.rsplit("/", 1)[-1]]
            keys |= {f"{name}.{key}" for key in section.get("properties", {})}
    return keys


def wrong_rows(page: str) -> list[str]:
    """Rows of a table of keys that the schema or the hints of kft contradict."""
    keys = schema_keys()
    wrong = []
    for there, here in ROW.findall(page):
        known = FOREIGN_KEYS.get(there.split(":")[0])
        if here.split(":")[0] not in keys or (known is not None and known != here):
            wrong.append(f"{there} -> {here}")
    return wrong


@pytest.mark.parametrize("name", ["moving.md", "moving.ko.md"])
def test_the_tables_for_movers_name_real_keys(name: str) -> None:
    page = (DOCS / "guides" / name).read_text(encoding="utf-8")
    assert len(ROW.findall(page)) >= 75
    assert wrong_rows(page) == []


def test_a_planted_wrong_row_is_caught() -> None:
    assert wrong_rows("| `lora_r` | `adapter.r` |\n") == []
    assert wrong_rows("| `lora_r` | `adapter.rank` |\n") == ["lora_r -> adapter.rank"]
    assert wrong_rows("| `lora_r` | `adapter.lora_alpha` |\n") == ["lora_r -> adapter.lora_alpha"]


def test_every_page_but_the_measured_ones_is_there_in_korean() -> None:
    pages = [page for page in DOCS.rglob("*.md") if not page.name.endswith(".ko.md")]
    english_only = {"evidence", "reference"}
    translated = [page for page in pages if page.parent.name not in english_only]
    assert len(translated) >= 20
    assert [page for page in translated if not page.with_suffix(".ko.md").is_file()] == []


def test_the_site_builds_strictly(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="the extra `docs` isn't installed")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(tmp_path)]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, env=quiet)
    assert done.returncode == 0, done.stderr
    for page in ("concepts/gelu.html", "ko/concepts/gelu.html"):
        text = (tmp_path / page).read_text(encoding="utf-8")
        assert "<math" in text
        assert not re.search(r'(src|href)="https?://[^"]+\.(js|css|woff2?)', text)
