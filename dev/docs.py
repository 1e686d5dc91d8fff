"""Write the reference pages from the program: `python dev/docs.py`, or `--check` that they agree.

    docs/reference/recipe.md             every key of a recipe
    docs/reference/recipe.schema.json    the same as JSON Schema, for editors
    docs/reference/commands.md           every command with its help
    docs/reference/python.md             every public name with its docstring

Nobody edits these pages by hand; `make docs` rewrites them and `make check` compares them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # started as a file

from dev.api_page import python_page
from kft.cli.main import cli
from kft.recipe.describe import schema_json, schema_markdown

ROOT = Path(__file__).resolve().parents[1]
HELP_COLUMNS = 90  # fixed, so that the page doesn't depend on the width of a terminal


def command_helps(
    command: click.Command, name: str, parent: click.Context | None = None
) -> Iterator[tuple[str, str]]:
    """``(command path, help)`` of a command and of everything below it, in its own order."""
    with click.Context(
        command,
        info_name=name,
        parent=parent,
        terminal_width=HELP_COLUMNS,
        **command.context_settings,
    ) as context:
        yield context.command_path, command.get_help(context)
        if isinstance(command, click.Group):
            for word in command.list_commands(context):
                below = command.get_command(context, word)
                if below is not None and not below.hidden:
                    yield from command_helps(below, word, context)


def commands_page() -> str:
    """The help of every command, as Markdown."""
    parts = ["# Commands\n\nWritten by `make docs` from the program's own help.\n"]
    for path, text in command_helps(cli, "kft"):
        lines = "\n".join(line.rstrip() for line in text.strip().splitlines())
        parts.append(f"\n## `{path}`\n\n```text\n{lines}\n```\n")
    return "".join(parts)


def schema_page() -> str:
    """The schema of a recipe, as indented JSON."""
    return json.dumps(schema_json(), indent=2, ensure_ascii=False)


PAGES: dict[str, Callable[[], str]] = {
    "docs/reference/recipe.md": schema_markdown,
    "docs/reference/recipe.schema.json": schema_page,
    "docs/reference/commands.md": commands_page,
    "docs/reference/python.md": python_page,
}


def content(make: Callable[[], str]) -> str:
    """A page's text with exactly one newline at its end."""
    return make().rstrip("\n") + "\n"


def write_pages(root: Path) -> None:
    """Write every page below ``root``."""
    for name, make in PAGES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content(make), encoding="utf-8")


def stale_pages(root: Path) -> list[str]:
    """Names of the pages below ``root`` that are missing or say something else."""
    return [
        name
        for name, make in PAGES.items()
        if not (root / name).is_file() or (root / name).read_text(encoding="utf-8") != content(make)
    ]


def main() -> int:
    """Write the pages, or compare them; the exit code is 1 when one is stale."""
    parser = argparse.ArgumentParser(description="Write the reference pages from the program.")
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 when stale")
    if not parser.parse_args().check:
        write_pages(ROOT)
        return 0
    stale = stale_pages(ROOT)
    for name in stale:
        sys.stderr.write(f"{name} is stale; `make docs` rewrites it\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
