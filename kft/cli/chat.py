"""The three ways to ask a model: one prompt, a prompt on each line of stdin, a conversation."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from kft.cli.messages import error_text, tell, visible, wants_color
from kft.errors import KftError, name_list, nearest_name

if TYPE_CHECKING:
    from kft.api.generate import Chat

_COMMANDS = ["/reset", "/system", "/quit"]
_COMMAND = re.compile(r"/[a-z]+\Z")

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

    def ask(self, prompt: str) -> str:
        """The model's answer, which becomes part of the conversation."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        turns = [*self.turns, {"role": "user", "content": prompt}]
        answer = self.chat.answer([*system, *turns], self.max_new_tokens)
        self.turns = [*turns, {"role": "assistant", "content": answer}]
        return answer

    def reset(self) -> None:
        """Forget what was said; the system text stays."""
        self.turns = []


def answer_once(conversation: Conversation, prompt: str) -> None:
    """Print the answer to one prompt, without what was said before."""
    conversation.reset()
    answer = conversation.ask(prompt)
    click.echo(visible(answer, "\n\t") if sys.stdout.isatty() else answer)


def answer_lines(conversation: Conversation, lines: Iterable[str]) -> None:
    """Print an answer for each line that isn't empty; lines know nothing of each other."""
    for line in lines:
        if line.strip():
            answer_once(conversation, line.rstrip("\r\n"))


def converse(conversation: Conversation) -> None:
    """Talk at a terminal until `/quit` or the end of input."""
    with contextlib.suppress(ImportError):  # Windows has none
        import readline  # noqa: F401 -- gives `input` a history, and keys that edit
    tell("`/reset` forgets what was said, `/system TEXT` sets the system text, `/quit` ends.")
    while (line := _read_line()) is not None:
        word, _, rest = line.strip().partition(" ")
        if word == "/quit":
            return
        if word == "/reset":
            conversation.reset()
            tell("Nothing was said.")
        elif word == "/system":
            conversation.system = rest.strip() or None
            tell("The system text is set." if conversation.system else "No system text.")
        elif _COMMAND.match(word):
            nearest = nearest_name(word, _COMMANDS)
            hint = f"Did you mean `{nearest}`?" if nearest else None
            _show(
                KftError(
                    f"Unknown command `{word}`",
                    expected=f"one of {name_list(_COMMANDS)}",
                    hint=hint,
                )
            )
        elif word:
            _reply(conversation, line.strip())


def _reply(conversation: Conversation, prompt: str) -> None:
    try:
        answer = conversation.ask(prompt)
    except KftError as error:
        _show(error)
    else:
        click.echo(visible(answer, "\n\t"))


def _show(error: KftError) -> None:
    tell(error_text(error), colored=wants_color(sys.stderr))


def _read_line() -> str | None:
    """A line from the terminal, or ``None`` at its end (Ctrl-D)."""
    try:
        if sys.stdout.isatty():
            return input("> ")
        click.echo("> ", err=True, nl=False)
        return input()
    except EOFError:
        tell("")
        return None
