"""The commands that make of a run what others use: merged, in other formats, on the hub."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kft.cli.commands import cli, takes_json, takes_traceback
from kft.cli.messages import OneOf, as_json, show_finding, tell, visible
from kft.errors import ExportError

if TYPE_CHECKING:
    from kft.api.push import Parcel


@cli.command()
@click.argument("run")
@click.option("--output", metavar="DIR", help="Folder to write; else the run's `merged`.")
@click.option(
    "--base",
    type=OneOf("original", "dequantized"),
    metavar="original|dequantized",
    help="What a 4-bit adapter is merged into; else as the recipe says.",
)
@takes_json
@takes_traceback
def merge(run: str, output: str | None, base: str | None, wants_json: bool) -> None:
    """Merge an adapter and verify it; prints the folder."""
    from kft.cli.tables import pairs

    try:
        with contextlib.redirect_stdout(sys.stderr):
            from kft.api.merge import merge as merge_run

            folder, numbers = merge_run(run, output=output, base=base, on_finding=show_finding)
    except ExportError as error:  # what was refused is worth knowing in numbers
        if error.numbers is not None and wants_json:
            click.echo(as_json({"folder": None, "verification": error.numbers}))
        elif error.numbers is not None:
            tell(pairs(error.numbers))
        raise
    _print_proven(folder, numbers, wants_json=wants_json)


@cli.command()
@click.argument("run")
@click.argument("model", required=False)
@takes_json
@takes_traceback
def verify(run: str, model: str | None, wants_json: bool) -> None:
    """Compare a merged model with the run it came from.

    Without MODEL it is the run's own, in `RUN/merged`.
    """
    model = model or str(Path(run) / "merged")
    with contextlib.redirect_stdout(sys.stderr):
        from kft.api.verify import verify as verify_model

        numbers = verify_model(run, model)
    if wants_json:
        click.echo(as_json(numbers))
    else:
        from kft.cli.tables import pairs

        click.echo(pairs(numbers))
    if not numbers["passed"]:
        raise ExportError(f"`{model}` doesn't agree with `{run}`")


@cli.command()
@click.argument("run")
@click.option(
    "--format",
    "to",
    type=OneOf("gguf", "onnx"),
    required=True,
    metavar="gguf|onnx",
    help="What to write.",
)
@click.option("--output", metavar="DIR", help="Folder to write; else `FORMAT` in the run folder.")
@click.option(
    "--dtype",
    type=OneOf("float16", "float32", "q8_0"),
    metavar="float16|float32|q8_0",
    help="Precision of a GGUF's matrices; else float16.",
)
@takes_json
@takes_traceback
def export(run: str, to: str, output: str | None, dtype: str | None, wants_json: bool) -> None:
    """Write a run's model in another format and verify it.

    Prints the folder. ONNX is for the tasks of encoders, GGUF (for llama.cpp and Ollama) for
    models that write text.
    """
    with contextlib.redirect_stdout(sys.stderr):
        from kft.api.export import export as export_run

        folder, numbers = export_run(
            run, to=to, output=output, dtype=dtype, on_finding=show_finding
        )
    _print_proven(folder, numbers, wants_json=wants_json)


def _print_proven(folder: Path, numbers: Mapping[str, Any], *, wants_json: bool) -> None:
    """The folder that was written, and the numbers that prove it."""
    from kft.cli.tables import pairs

    if wants_json:
        click.echo(as_json({"folder": str(folder), "verification": numbers}))
        return
    tell(pairs(numbers))
    click.echo(folder)


@cli.command()
@click.argument("run")
@click.argument("repo", metavar="OWNER/NAME")
@click.option("--merged", is_flag=True, help="Send the merged model, not the adapter.")
@click.option("--public", is_flag=True, help="Let everyone read it; else only its owner.")
@click.option("--base", metavar="OWNER/NAME", help="The adapter's base on the hub.")
@click.option("--dry-run", is_flag=True, help="Show what would go, and send nothing.")
@takes_traceback
def push(run: str, repo: str, merged: bool, public: bool, base: str | None, dry_run: bool) -> None:
    """Send an adapter or a merged model to the hub.

    Shows what goes, and prints its address there.
    """
    from kft.cli.tables import bytes_text, table

    def show(parcel: Parcel) -> bool:
        for finding in parcel.findings:
            show_finding(finding)
        rows = [
            [visible(name), bytes_text(size), "with the base's name on the hub"]
            if name in parcel.changed
            else [visible(name), bytes_text(size), ""]
            for name, size in parcel.files.items()
        ]
        rows.append(["together", bytes_text(sum(parcel.files.values())), ""])
        who = "only its owner sees it" if parcel.private else "everyone can read it"
        tell(f"{visible(str(parcel.folder))} to `{visible(parcel.repo)}`, {who}:")
        tell(table(["", "size", ""], rows, 10**4))
        return not dry_run

    with contextlib.redirect_stdout(sys.stderr):
        from kft.api.push import push as push_run

        address = push_run(run, repo, merged=merged, private=not public, base=base, on_parcel=show)
    if address is not None:
        click.echo(address)
