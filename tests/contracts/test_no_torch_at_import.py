"""`kft --help` and a misspelt key answer at once: nothing on that way imports torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIGHT = (
    "__init__.py",
    "__main__.py",
    "errors.py",
    "recipe",
    "cli",
    # A command's own file is imported when it is called; these are imported before.
    "api/__init__.py",
    "api/observer.py",
    "api/schema.py",
    "api/run.py",
)
HEAVY = {
    "torch",
    "accelerate",
    "bitsandbytes",
    "datasets",
    "evaluate",
    "matplotlib",
    "pandas",
    "peft",
    "transformers",
}
"""torch, what imports it, and what takes as long."""


def imported_at_once(statements: list[ast.stmt]) -> Iterator[tuple[int, str]]:
    """Line and package of the imports that run with the module: not those in functions."""
    for node in statements:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.split(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, (node.module or "").split(".")[0]
        elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            yield from imported_at_once(node.orelse)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for part in ("body", "orelse", "finalbody", "handlers"):
                inner = getattr(node, part, [])
                for child in inner:
                    below = child.body if isinstance(child, ast.ExceptHandler) else [child]
                    yield from imported_at_once(below)


def heavy_imports(path: Path) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [
        f"{path}:{line} {package}"
        for line, package in imported_at_once(tree.body)
        if package in HEAVY
    ]


def test_light_rooms_import_nothing_heavy() -> None:
    files = []
    for name in LIGHT:
        place = ROOT / "kft" / name
        found = [place] if place.is_file() else sorted(place.rglob("*.py"))
        assert found, name
        files += found
    assert len(files) >= 8
    assert [fault for path in files for fault in heavy_imports(path)] == []


@pytest.mark.parametrize(
    ("code", "faults"),
    [
        ("import torch", 1),
        ("import torch.nn.functional as F", 1),
        ("from transformers import AutoConfig", 1),
        ("try:\n    import torch\nexcept ImportError:\n    import peft", 2),
        ("class Run:\n    import torch", 1),
        ("if TYPE_CHECKING:\n    import torch", 0),
        ("if TYPE_CHECKING:\n    import json\nelse:\n    import torch", 1),
        ("def run():\n    import torch", 0),
        ("import torchlike", 0),
    ],
)
def test_a_planted_import_is_caught(tmp_path: Path, code: str, faults: int) -> None:
    path = tmp_path / "reader.py"
    path.write_text(code + "\n", encoding="utf-8")
    assert len(heavy_imports(path)) == faults


def loaded_by(code: str) -> set[str]:
    """Packages that a fresh Python has loaded after `code`."""
    report = "import sys; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; {report}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_the_command_line_starts_without_torch() -> None:
    loaded = loaded_by("import kft, kft.cli.main")
    assert {"kft", "click"} <= loaded
    assert loaded & HEAVY == set()


def test_reading_a_recipe_needs_no_torch() -> None:
    loaded = loaded_by("import kft; kft.read_recipe; kft.Recipe; kft.KftError")
    assert {"kft", "pydantic"} <= loaded
    assert loaded & HEAVY == set()
