"""What tests import at run time stands in a module with a name of its own.

Every folder's `conftest.py` is the module `conftest`, so `from conftest import ...` finds that of
the folder which pytest read last, and fails or not by which tests are run together.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]


def imports_at_run_time(node: ast.AST) -> Iterator[str]:
    """Modules that are imported when the code runs, not only for types."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        if isinstance(child, ast.ImportFrom):
            yield child.module or ""
        elif isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        yield from imports_at_run_time(child)


def test_nothing_is_imported_from_a_conftest() -> None:
    files = sorted(TESTS.rglob("*.py"))
    assert len(files) > 100
    found = [
        str(path.relative_to(TESTS))
        for path in files
        if "conftest" in imports_at_run_time(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert found == []


def test_a_planted_import_is_found() -> None:
    fine = "if TYPE_CHECKING:\n    from conftest import RecipeFile\nimport tiny_models\n"
    assert "conftest" not in imports_at_run_time(ast.parse(fine))
    for planted in ("from conftest import ROOT\n", "def f():\n    import conftest\n"):
        assert "conftest" in imports_at_run_time(ast.parse(planted))
