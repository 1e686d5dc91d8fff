"""A conversation at a terminal."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kft.cli.chat import Conversation, converse
from kft.errors import DataError


class FakeChat:
    """Answers with everything it was told; refuses one prompt."""

    def answer(self, messages: list[dict[str, str]], max_new_tokens: int) -> str:
        if messages[-1]["content"] == "too long":
            raise DataError("The conversation is too long")
        said = " ".join(f"{turn['role'][0]}:{turn['content']}" for turn in messages)
        return f"<{said}\x1b>"[:max_new_tokens]


def talk(lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    typed: Iterator[str] = iter(lines)

    def read(prompt: str = "") -> str:
        try:
            return next(typed)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", read)
    converse(Conversation(FakeChat(), None, 99))  # type: ignore[arg-type]


def test_it_remembers_until_reset(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    talk(["a", "", "b", "/reset", "/system 곰", "c", "/system", "d", "/quit", "e"], monkeypatch)
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "<u:a\\x1b>",
        "<u:a a:<u:a\\x1b> u:b\\x1b>",
        "<s:곰 u:c\\x1b>",
        "<u:c a:<s:곰 u:c\\x1b> u:d\\x1b>",
    ]
    assert err == (
        "`/reset` forgets what was said, `/system TEXT` sets the system text, `/quit` ends.\n"
        "> > > > Nothing was said.\n"
        "> The system text is set.\n"
        "> > No system text.\n"
        "> > "
    )


def test_an_error_and_a_misspelt_command_end_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    talk(["too long", "/quite", "/etc/hosts는 뭐야?"], monkeypatch)
    out, err = capsys.readouterr()
    assert out == "<u:/etc/hosts는 뭐야?\\x1b>\n"
    assert err.splitlines()[1:] == [
        "> error: The conversation is too long",
        "> error: Unknown command `/quite`",
        "  expected: one of `/reset`, `/system`, `/quit`",
        "",
        "hint: Did you mean `/quit`?",
        "> > ",
    ]
