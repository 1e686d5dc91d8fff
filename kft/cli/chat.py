"""The three ways to ask a model: one prompt, a prompt on each line of stdin, a conversation."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kft.cli.messages import error_text, json_line, tell, visible, wants_color
from kft.errors import KftError, UsageError, name_list, nearest_name

if TYPE_CHECKING:
    from kft.api.generate import Chat

_HELP = {
    "/system TEXT": "sets what the model is told first; without TEXT nothing is",
    "/reset": "forgets what was said",
    "/compare TEXT": "shows base and tuned side by side, else asked the last question; not kept",
    "/save FILE": "writes the conversation: .jsonl gets a further training row, others text",
    "/help": "shows this",
    "/quit": "ends, and so does Ctrl-D; Ctrl-C stops an answer",
}
_COMMANDS = [word.split()[0] for word in _HELP]
COMMAND = re.compile(r"/[a-z]+\Z")
KEPT = "\n\t"
_NARROW = 60

Message = dict[str, str]


class Conversation:
    """What was said so far.

    Args:
        chat: The model; its ``answer`` takes messages and returns text.
        system: What the model is told first, if anything.
        max_new_tokens: Tokens of an answer at most.
    """

    def __init__(self, chat: Chat, system: str | None, max_new_tokens: int) -> None:
        self.chat = chat
        self.system = system
        self.max_new_tokens = max_new_tokens
        self.turns: list[Message] = []

    def ask(self, prompt: str, on_text: Callable[[str], None] | None = None) -> str:
        """The model's answer, which becomes part of the conversation.

        Args:
            prompt: What is asked.
            on_text: Called with each piece of the answer while it is made.

        Raises:
            KeyboardInterrupt: If the answer was interrupted; what was told of it is kept.
        """
        messages = self.messages(prompt)
        if on_text is None:
            answer = self.chat.answer(messages, self.max_new_tokens)
        else:
            told: list[str] = []

            def tell_piece(piece: str) -> None:
                told.append(piece)
                on_text(piece)

            try:
                answer = self.chat.stream(messages, self.max_new_tokens, tell_piece)
            except KeyboardInterrupt:
                self._keep(prompt, "".join(told))
                raise
        self._keep(prompt, answer)
        return answer

    def compare(self, prompt: str | None) -> tuple[str, str]:
        """The base's answer and the tuned model's, which the conversation doesn't keep.

        Args:
            prompt: What is asked; ``None`` asks the last question again, after what was said
                before it.

        Raises:
            UsageError: If there is no question, or the model has no base beside it.
        """
        turns = self.turns
        if prompt is None:
            if not turns:
                raise UsageError("Nothing was asked yet", expected="`/compare TEXT`")
            *turns, asked, _ = turns
            prompt = asked["content"]
        messages = self.messages(prompt, turns)
        base = self.chat.base_answer(messages, self.max_new_tokens)
        return base, self.chat.answer(messages, self.max_new_tokens)

    def messages(self, prompt: str, turns: list[Message] | None = None) -> list[Message]:
        """The system text, what was said, and a question."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        said = self.turns if turns is None else turns
        return [*system, *said, {"role": "user", "content": prompt}]

    def save(self, path: Path) -> None:
        """Write the conversation.

        Args:
            path: With the ending ``.jsonl``, a row of ``messages`` is put behind those that are
                there, as kft trains on them. Any other file is text, and must not exist.

        Raises:
            UsageError: If nothing was said or the file can't be written.
        """
        if not self.turns:
            raise UsageError("Nothing was said yet", where=str(path))
        messages = [*self.messages("")[:-1]]
        try:
            if path.suffix == ".jsonl":
                with path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")
                return
            with path.open("x", encoding="utf-8") as file:
                file.writelines(f"{turn['role']}: {turn['content']}\n\n" for turn in messages)
        except FileExistsError as cause:
            raise UsageError(
                f"`{path}` is there already",
                expected="a new file, or one that ends in `.jsonl`, which gets a further row",
            ) from cause
        except OSError as cause:
            raise UsageError(
                f"The conversation can't be written: {cause.strerror or cause}", where=str(path)
            ) from cause

    def reset(self) -> None:
        """Forget what was said; the system text stays."""
        self.turns = []

    def _keep(self, prompt: str, answer: str) -> None:
        asked, given = {"role": "user", "content": prompt}, {"role": "assistant", "content": answer}
        self.turns = [*self.turns, asked, given]


def answer_once(conversation: Conversation, prompt: str, *, wants_json: bool = False) -> None:
    """Print the answer to one prompt, without what was said before."""
    conversation.reset()
    answer = conversation.ask(prompt)
    if wants_json:
        click.echo(json_line({"answer": answer}))
    else:
        click.echo(visible(answer, KEPT) if sys.stdout.isatty() else answer)


def answer_lines(
    conversation: Conversation, lines: Iterable[str], *, wants_json: bool = False
) -> None:
    """Print an answer for each line that isn't empty; lines know nothing of each other."""
    for line in lines:
        if line.strip():
            answer_once(conversation, line.rstrip("\r\n"), wants_json=wants_json)


def converse(conversation: Conversation) -> None:
    """Talk at a terminal until `/quit` or the end of input."""

    def answer(line: str, word: str) -> None:
        if COMMAND.match(word):
            _obey(conversation, word, line.strip().partition(" ")[2].strip())
        else:
            conversation.ask(line.strip(), _print_piece)
            click.echo()

    answer_typed("`/help` shows what else can be typed, `/quit` ends.", answer)


def answer_typed(told: str, answer: Callable[[str, str], None]) -> None:
    """Answer what is typed at a terminal, until `/quit` or the end of input.

    Args:
        told: Said once, before the first line.
        answer: Takes a line, and its first word.
    """
    with contextlib.suppress(ImportError):  # Windows has none
        import readline  # noqa: F401 -- gives `input` a history, and keys that edit
    tell(told)
    while (line := read_line()) is not None:
        word = line.strip().partition(" ")[0]
        if word == "/quit":
            return
        if not word:
            continue
        try:
            answer(line, word)
        except KftError as error:
            tell(error_text(error), colored=wants_color(sys.stderr))
        except KeyboardInterrupt:
            click.echo()
            tell("Stopped.")


def _obey(conversation: Conversation, word: str, rest: str) -> None:
    """One of the commands that begin with a slash."""
    match word:
        case "/reset":
            conversation.reset()
            tell("Nothing was said.")
        case "/system":
            conversation.system = rest or None
            tell("The system text is set." if conversation.system else "No system text.")
        case "/compare":
            width = shutil.get_terminal_size().columns
            click.echo(side_by_side(*conversation.compare(rest or None), width))
        case "/save":
            if not rest:
                raise UsageError("No file is named", expected="`/save FILE`")
            conversation.save(Path(rest).expanduser())
            tell(f"Saved to {visible(rest)}.")
        case "/help":
            tell("\n".join(f"{name:15}{meaning}" for name, meaning in _HELP.items()))
        case _:
            nearest = nearest_name(word, _COMMANDS)
            raise UsageError(
                f"Unknown command `{word}`",
                expected=f"one of {name_list(_COMMANDS, limit=len(_COMMANDS))}",
                hint=f"Did you mean `{nearest}`?" if nearest else None,
            )


def side_by_side(base: str, tuned: str, width: int) -> str:
    """Two answers in columns, or below each other where a terminal is narrow.

    Args:
        base: The base model's.
        tuned: The tuned model's.
        width: Cells of the terminal.

    Example:
        >>> print(side_by_side("하나", "둘", 60))
        base                          tuned
        하나                          둘
    """
    from rich.cells import cell_len

    base, tuned = visible(base, KEPT), visible(tuned, KEPT)
    if width < _NARROW:
        return f"base\n{base}\n\ntuned\n{tuned}"
    column = width // 2 - 2
    left = ["base", *_wrapped(base, column)]
    right = ["tuned", *_wrapped(tuned, column)]
    left += [""] * (len(right) - len(left))
    right += [""] * (len(left) - len(right))
    return "\n".join(
        (here + " " * (width // 2 - cell_len(here)) + there).rstrip()
        for here, there in zip(left, right, strict=True)
    )


def _wrapped(text: str, width: int) -> list[str]:
    """Lines of at most so many cells; a syllable takes two."""
    from rich.console import Console
    from rich.text import Text

    lines = Text(text.expandtabs(4)).wrap(Console(), width)
    return [line.plain.rstrip() for line in lines]


def _print_piece(piece: str) -> None:
    click.echo(visible(piece, KEPT), nl=False)
    sys.stdout.flush()


def read_line() -> str | None:
    """A line from the terminal, or ``None`` at its end (Ctrl-D)."""
    while True:
        try:
            if sys.stdout.isatty():
                return input("> ")
            click.echo("> ", err=True, nl=False)
            return input()
        except EOFError:
            tell("")
            return None
        except KeyboardInterrupt:
            tell("\n`/quit` or Ctrl-D ends.")
