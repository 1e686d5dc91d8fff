"""Pages of the site that are made: `python -m dev.pages`, or `--check` that they agree.

docs/errors.md    every message as kft gives it       docs/errors.ko.md
docs/recipes.md   the table of the shipped recipes     docs/recipes.ko.md
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from dev.error_page import error_page
from dev.recipe_page import recipe_page

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES: dict[str, Callable[[], str]] = {
    f"{name}{ending}": partial(make, language)
    for name, make in {"errors": error_page, "recipes": recipe_page}.items()
    for language, ending in enumerate((".md", ".ko.md"))
}


def stale_pages(folder: Path = DOCS) -> list[str]:
    """Names of the pages that are missing or say something else."""
    return [
        name
        for name, make in PAGES.items()
        if not (folder / name).is_file() or (folder / name).read_text(encoding="utf-8") != make()
    ]


def main() -> int:
    """Write the pages, or compare them; 1 when one is stale."""
    if "--check" in sys.argv[1:]:
        stale = stale_pages()
        for name in stale:
            sys.stderr.write(f"docs/{name} is stale; `make docs` rewrites it\n")
        return 1 if stale else 0
    for name, make in PAGES.items():
        (DOCS / name).write_text(make(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
