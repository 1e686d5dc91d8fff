"""The commands: their words, and which function of the api each one calls.

A command imports what it needs when it is called, so that help and a misspelt word answer at
once. Whatever a library prints meanwhile goes to stderr: stdout is for data.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from kft import __version__
from kft.api.launched import launched_rank
from kft.cli.launch import observer_of, recipe_of, require_one_process
from kft.cli.messages import AtLeast, as_json, error_text, tell, wants_color
from kft.errors import Finding, RecipeError, UsageError

Command = TypeVar("Command", bound=Callable[..., Any])


class CommandGroup(click.Group):
    """Commands in the order in which a person needs them; they stand in several files."""

    ORDER = (
        *("finetune", "check", "evaluate", "generate", "merge", "verify", "export", "push"),
        *("report", "sweep", "schema", "presets", "init", "bench", "resume-check"),
    )

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 -- click's signature
        """Their names."""
        return sorted(self.commands, key=self.ORDER.index)


def takes_traceback(command: Command) -> Command:
    """Let a command take ``--traceback``; :func:`main` looks for the word itself."""
    option = click.option(
        "--traceback",
        is_flag=True,
        expose_value=False,
        help="Show the Python traceback of an error.",
    )
    return option(command)


def takes_json(command: Command) -> Command:
    """Let a command take ``--json``."""
    return click.option("--json", "wants_json", is_flag=True, help="Print JSON.")(command)


def takes_recipe(command: Command) -> Command:
    """Let a command take a recipe and overrides."""
    overrides = click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
    return click.argument("recipe")(overrides(command))


@click.group(
    cls=CommandGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, message="kft %(version)s")
@takes_traceback
@click.pass_context
def cli(context: click.Context) -> None:
    """Fine-tune Korean GPT and BERT checkpoints, and prove what came out."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
    elif context.invoked_subcommand != "finetune":
        require_one_process(context.invoked_subcommand)


@cli.command()
@takes_recipe
@click.option("--resume", is_flag=True, help="Go on from the run's last checkpoint.")
@takes_json
@takes_traceback
def finetune(recipe: str, overrides: Sequence[str], resume: bool, wants_json: bool) -> None:
    """Fine-tune a checkpoint by a recipe; prints the run folder."""
    settings = recipe_of(recipe, overrides)  # a wrong key answers before torch is loaded
    observer = observer_of(settings)
    with contextlib.redirect_stdout(sys.stderr), contextlib.closing(observer):
        observer.stage("starting")
        from kft.api.begun import has_begun
        from kft.api.finetune import finetune as run_recipe

        folder = Path(settings.output_dir)
        if resume and not has_begun(folder) and not launched_rank():
            what = f"`{folder}` holds no run to go on with: one is begun there"
            observer.finding(Finding("note", what))
        run = run_recipe(settings, observer=observer, resume=resume)
    if not launched_rank():
        click.echo(as_json(run.result) if wants_json else run.folder)


@cli.command()
@takes_recipe
@click.option("--show-rows", type=AtLeast(0), default=0, help="Show rows as the model sees them.")
@click.option("--fix", metavar="DIR", help="Write a mended copy of the data into a new folder.")
@takes_json
@takes_traceback
def check(
    recipe: str, overrides: Sequence[str], show_rows: int, fix: str | None, wants_json: bool
) -> None:
    """Check recipe, data and tokenizer; trains nothing."""
    settings = _read_or_tell_all(recipe, overrides)
    with contextlib.redirect_stdout(sys.stderr):
        from kft.api.check import check as check_recipe
        from kft.cli.check_tables import check_text, copy_text

        checked = check_recipe(
            settings, show_rows=show_rows, fix=fix, on_fixed=lambda copy: tell(copy_text(copy))
        )
    if wants_json:
        click.echo(as_json(checked.as_dict()))
    else:
        colored, ascii_only = wants_color(sys.stdout), not _shows_unicode()
        width = stdout_width()
        text = check_text(checked, width=width, colored=colored, ascii_only=ascii_only)
        click.echo(text, color=colored)
    if checked.has_errors:
        raise click.exceptions.Exit(2)


@cli.command()
@click.argument("place", metavar="RUN|MODEL")
@click.option("--prompt", metavar="TEXT", help="Answer this; else a chat, or each line of stdin.")
@click.option("--system", metavar="TEXT", help="What the model is told first.")
@click.option("--max-new-tokens", type=AtLeast(1), help="Tokens per answer at most; else 256.")
@click.option("--json", "wants_json", is_flag=True, help="Print a JSON object a line.")
@takes_traceback
def generate(
    place: str, prompt: str | None, system: str | None, max_new_tokens: int | None, wants_json: bool
) -> None:
    """Ask a run or a model.

    One that writes text answers. One that labels texts prints a line for each: the likeliest
    label, a tab, its probability, and the others after it; where several labels may hold, those
    above 0.5; a number; or entities, each after its type. A tab separates the texts of a pair.
    """
    from kft.cli.piped import as_text, stdin_lines

    prompt = None if prompt is None else as_text(prompt, "`--prompt`")
    system = None if system is None else as_text(system, "`--system`")
    with contextlib.redirect_stdout(sys.stderr):
        from kft.api.generate import open_asked

        asked = open_asked(place)
    if not asked.writes_text:
        from kft.cli.predictions import ask_for_labels

        ask_for_labels(asked, prompt, (system, max_new_tokens), wants_json=wants_json)
        return
    from kft.cli.chat import Conversation, answer_lines, answer_once, converse

    conversation = Conversation(asked, system, max_new_tokens or 256)
    if prompt is not None:
        answer_once(conversation, prompt, wants_json=wants_json)
    elif not sys.stdin.isatty():
        answer_lines(conversation, stdin_lines(), wants_json=wants_json)
    elif wants_json:
        raise UsageError("A chat prints no JSON", expected="`--prompt TEXT`, or lines from stdin")
    else:
        converse(conversation)


@cli.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option(
    "--output",
    metavar="FILE",
    help="Else RUN/report.html, or comparison.html here under a free name.",
)
@takes_traceback
def report(runs: Sequence[str], output: str | None) -> None:
    """Write a page about a run, or a comparison of several."""
    with contextlib.redirect_stdout(sys.stderr):
        from kft.api.report import report as report_runs

        file = report_runs(list(runs), output=output)
    click.echo(file)


@cli.command()
@takes_json
@takes_traceback
def schema(wants_json: bool) -> None:
    """Print every key of a recipe with its meaning and default."""
    from kft.api.schema import schema_json, schema_text

    click.echo(as_json(schema_json()) if wants_json else schema_text(), nl=wants_json)


@cli.command()
@click.argument("name", required=False)
@takes_json
@takes_traceback
def presets(name: str | None, wants_json: bool) -> None:
    """List Korean checkpoints: licence and memory, or show one."""
    from kft.cli.presets import show

    click.echo(show(name, wants_json=wants_json, width=stdout_width()))


@cli.command()
@click.argument("file", default="recipe.yaml", metavar="[FILE]")
@click.option("--preset", metavar="NAME", help="A checkpoint that `kft presets` lists.")
@click.option("--model", metavar="PATH", help="Any checkpoint: a folder, or a name on the hub.")
@click.option("--data", metavar="FILE", help="The rows.")
@click.option("--columns", metavar="ROLE=COLUMN,...", help="As `text=의견,label=만족`.")
@click.option("--task", metavar="NAME", help="What is learned; else the checkpoint's usual task.")
@click.option("--output", metavar="DIR", help="The run folder.")
@click.option("--method", metavar="lora|qlora|full", help="Else QLoRA where LoRA doesn't fit.")
@click.option("--device", metavar="cpu|cuda|24GB", help="What to plan for; else this machine.")
@takes_traceback
def init(file: str, **options: str | None) -> None:
    """Write a commented recipe for a checkpoint and rows."""
    from kft.cli.init import Given, write_recipe

    write_recipe(file, Given(**options))
    click.echo(file)


def _read_or_tell_all(path: str, overrides: Sequence[str]) -> Any:
    """The recipe; or everything that is wrong with it, on stderr."""
    from kft.api.schema import find_problems, read_recipe

    try:
        return read_recipe(path, overrides)
    except RecipeError:
        problems = find_problems(path, overrides)
        if len(problems) < 2:
            raise
    text = "\n\n".join(error_text(problem) for problem in problems)
    tell(text, colored=wants_color(sys.stderr))
    raise click.exceptions.Exit(2)


def _shows_unicode() -> bool:
    """Whether stdout takes the signs that kft adds to a text."""
    try:
        "⟦⟧┊▁█".encode(sys.stdout.encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def stdout_width() -> int:
    """Cells of the terminal; 80 when stdout is a file or a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 80
