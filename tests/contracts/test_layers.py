"""The table of layers: who may import whom. The table itself stands in CONTRIBUTING.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "kft"

LAYERS = {
    "errors": 0,
    "recipe": 1,
    "ops": 1,
    "tasks": 2,
    "data": 3,
    "models": 3,
    "train": 4,
    "evaluation": 5,
    "export": 5,
    "reporting": 5,
    "bench": 5,
    "api": 6,
    "cli": 7,
}
"""A room imports itself and rooms of lower layers: never one beside it, never one above."""

NARROWER = {"cli": {"api", "errors"}}
"""Rooms that may import less than their layer allows."""

HOLDS_A_RECIPE = {"recipe", "api"}
"""Every other room gets its own section, or plain values."""

Import = tuple[int, str, str]
"""Line, module and imported name (`""` for `import module`)."""


def room_of(path: Path, package: Path) -> str:
    """`data` for `kft/data/rows.py`, `errors` for `kft/errors.py`, `__init__` for the door."""
    return path.relative_to(package).parts[0].removesuffix(".py")


def kft_imports(tree: ast.AST) -> Iterator[Import]:
    """Every import of kft anywhere in a file: in functions and under TYPE_CHECKING as well."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = [(node.lineno, alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            found = [(node.lineno, module, alias.name) for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            named = [word for word in node.args[:1] if isinstance(word, ast.Constant)]
            found = [(node.lineno, str(word.value), "") for word in named]
        else:
            continue
        yield from (entry for entry in found if re.match(r"\.|kft(\.|$)", entry[1]))


def fault(room: str, module: str, name: str) -> str | None:
    """What is wrong when a file of `room` imports `name` from `module`, or `None`."""
    if module.startswith("."):
        return "a relative import"
    if module == "kft":
        if name == "__version__":
            return None
        if name not in LAYERS:
            return f"`{name or 'kft'}` from the public door instead of its own module"
        module = f"kft.{name}"
    other = module.split(".")[1]
    if other not in LAYERS:
        return f"`{other}`, which is no room of the table"
    if name == "Recipe" and room not in HOLDS_A_RECIPE:
        return "a whole `Recipe`"
    if other == room:
        return None
    if other not in NARROWER.get(room, LAYERS) or LAYERS[other] >= LAYERS[room]:
        return f"`{other}` (layer {LAYERS[other]}) from `{room}` (layer {LAYERS[room]})"
    return None


def door_faults(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """`kft/__init__.py` imports kft for type checkers only: the names are resolved when used."""
    checked = {
        id(inner)
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom) and id(node) not in checked:
            for _, module, _ in kft_imports(ast.Module([node], [])):
                yield node.lineno, f"`{module}` when kft is imported"


def layer_faults(package: Path) -> tuple[list[str], int]:
    """The faults in every file below `package`, and how many files were read."""
    faults, files = [], 0
    for path in sorted(package.rglob("*.py")):
        files += 1
        tree = ast.parse(path.read_text(encoding="utf-8"))
        room = room_of(path, package)
        if path.name == "__init__.py" and room != "__init__" and tree.body:
            found = [(1, "something, where a room's `__init__.py` is empty")]
        elif room == "__init__":
            found = list(door_faults(tree))
        elif room == "__main__":
            entries = [entry for entry in kft_imports(tree) if entry[1] != "kft.cli.main"]
            found = [(line, f"`{module}` instead of `kft.cli.main`") for line, module, _ in entries]
        elif room not in LAYERS:
            found = [(1, f"`{room}` is no room of the table: its file")]
        else:
            judged = [(line, fault(room, *what)) for line, *what in kft_imports(tree)]
            found = [(line, text) for line, text in judged if text is not None]
        faults += [
            f"{path.relative_to(package.parent)}:{line} imports {text}" for line, text in found
        ]
    return faults, files


def test_every_import_points_down() -> None:
    faults, files = layer_faults(PACKAGE)
    assert faults == []
    assert files >= 20


def test_every_room_of_the_package_is_in_the_table() -> None:
    rooms = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    assert rooms
    assert rooms <= set(LAYERS)


def test_contributing_shows_this_table() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    shown = {
        room: int(layer)
        for layer, rooms in re.findall(r"^\| (\d) \| ([^|]+) \|", page, flags=re.MULTILINE)
        for room in re.findall(r"`(\w+)`", rooms)
    }
    assert shown == LAYERS


@pytest.mark.parametrize(
    ("file", "line", "expected"),
    [
        ("errors.py", "import kft.recipe.schema", "`recipe` (layer 1) from `errors`"),
        ("ops/losses.py", "from kft.recipe.schema import Method", "`recipe` (layer 1) from `ops`"),
        ("recipe/reader.py", "from kft.ops import losses", "`ops` (layer 1) from `recipe`"),
        ("tasks/task.py", "from kft.data.rows import read", "`data` (layer 3) from `tasks`"),
        ("data/rows.py", "from kft.models.loader import load", "`models` (layer 3) from `data`"),
        ("models/loader.py", "import kft.data.rows", "`data` (layer 3) from `models`"),
        ("train/loop.py", "from kft.api.run import Run", "`api` (layer 6) from `train`"),
        ("export/merge.py", "from kft.evaluation import score", "`evaluation` (layer 5) from"),
        ("cli/main.py", "from kft.recipe.reader import read", "`recipe` (layer 1) from `cli`"),
        ("train/loop.py", "def f():\n    from kft.cli.main import cli", ":2 imports `cli`"),
        (
            "data/rows.py",
            "if TYPE_CHECKING:\n    from kft.train.loop import x",
            ":2 imports `train`",
        ),
        ("data/rows.py", "importlib.import_module('kft.api.run')", "`api` (layer 6) from `data`"),
        ("data/rows.py", "from kft import api", "`api` (layer 6) from `data`"),
        ("data/rows.py", "from kft import load_run", "the public door"),
        ("data/rows.py", "from .packing import pack", "a relative import"),
        ("data/rows.py", "from kft.misc import x", "no room of the table"),
        ("train/loop.py", "from kft.recipe.schema import Recipe", "a whole `Recipe`"),
        ("tools/words.py", "x = 1", "`tools` is no room"),
        ("data/__init__.py", "from kft.data.rows import read", "`__init__.py` is empty"),
        ("__init__.py", "from kft.errors import KftError", "`kft.errors` when kft is imported"),
        ("__main__.py", "from kft.api.run import Run", "instead of `kft.cli.main`"),
    ],
)
def test_a_planted_import_is_caught(tmp_path: Path, file: str, line: str, expected: str) -> None:
    path = tmp_path / "kft" / file
    path.parent.mkdir(parents=True)
    path.write_text(line + "\n", encoding="utf-8")
    faults, files = layer_faults(tmp_path / "kft")
    assert files == 1
    assert len(faults) == 1
    assert expected in faults[0]


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("data/batches.py", "from kft.data.rows import read\nfrom kft.tasks.task import Batch"),
        ("cli/main.py", "from kft.api.check import check\nfrom kft import __version__"),
        ("__init__.py", "if TYPE_CHECKING:\n    from kft.api.run import Run"),
        ("api/run.py", "import kfte\nfrom kft.recipe.schema import Recipe"),
    ],
)
def test_a_right_import_is_not(tmp_path: Path, file: str, line: str) -> None:
    path = tmp_path / "kft" / file
    path.parent.mkdir(parents=True)
    path.write_text(line + "\n", encoding="utf-8")
    assert layer_faults(tmp_path / "kft") == ([], 1)
