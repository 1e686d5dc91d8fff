"""Limits that keep the code liveable: short functions, short files, names that say something.

ruff holds the others (branches, arguments, returns); see `[tool.ruff.lint]` in pyproject.toml.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FUNCTION_LINES = 60
FILE_LINES = 300
EMPTY_NAMES = {"utils", "helpers", "common", "base", "manager", "misc"}
SIZED = ("kft", "dev", "benchmarks")
NAMED = (*SIZED, "tests")


def function_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from the first statement after the docstring to the end."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return (node.end_lineno or 0) - body[0].lineno + 1 if body else 0


def size_faults(path: Path) -> list[str]:
    """Functions and files that are too long."""
    text = path.read_text(encoding="utf-8")
    lines = len(text.splitlines())
    faults = [f"{path}: {lines} lines"] if lines > FILE_LINES else []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = function_lines(node)
            if length > FUNCTION_LINES:
                faults.append(f"{path}:{node.lineno} `{node.name}`: {length} lines")
    return faults


def name_faults(path: Path) -> list[str]:
    """Files and folders whose name says nothing about what is in them."""
    words = {part.removesuffix(".py").strip("_") for part in path.parts}
    return [f"{path}: `{word}`" for word in sorted(words & EMPTY_NAMES)]


def python_files(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def test_functions_and_files_are_short() -> None:
    files = python_files(*SIZED)
    assert len(files) >= 20
    assert [fault for path in files for fault in size_faults(path)] == []


def test_names_say_something() -> None:
    files = [path.relative_to(ROOT) for path in python_files(*NAMED)]
    assert len(files) >= 25
    assert [fault for path in files for fault in name_faults(path)] == []


@pytest.mark.parametrize("kind", ["def", "async def"])
@pytest.mark.parametrize(("statements", "faults"), [(60, 0), (61, 1)])
def test_a_planted_long_function_is_caught(
    tmp_path: Path, kind: str, statements: int, faults: int
) -> None:
    path = tmp_path / "rows.py"
    docstring = '    """One line.\n\n    And more.\n    """\n'
    method = f"{kind} read():\n{docstring}" + "    x = 1\n" * statements
    indented = "".join(f"    {line}\n" for line in method.splitlines())
    path.write_text(f"class Reader:\n{indented}", encoding="utf-8")
    assert len(size_faults(path)) == faults


@pytest.mark.parametrize(("lines", "faults"), [(300, 0), (301, 1)])
def test_a_planted_long_file_is_caught(tmp_path: Path, lines: int, faults: int) -> None:
    path = tmp_path / "rows.py"
    path.write_text("x = 1\n" * lines, encoding="utf-8")
    assert len(size_faults(path)) == faults


def test_a_planted_empty_name_is_caught() -> None:
    assert name_faults(Path("kft/data/utils.py")) == ["kft/data/utils.py: `utils`"]
    assert name_faults(Path("kft/common/rows.py")) == ["kft/common/rows.py: `common`"]
    assert name_faults(Path("kft/data/_helpers.py")) == ["kft/data/_helpers.py: `helpers`"]
    assert name_faults(Path("kft/data/baseline.py")) == []
