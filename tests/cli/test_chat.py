"""A conversation at a terminal."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kft.cli.chat import Conversation, converse, side_by_side
from kft.cli.predictions import ask_for_labels
from kft.errors import DataError, UsageError

Messages = list[dict[str, str]]


class FakeChat:
    """Answers with everything it was told; refuses one prompt, is interrupted at another."""

    def answer(self, messages: Messages, max_new_tokens: int) -> str:
        if messages[-1]["content"] == "too long":
            raise DataError("The conversation is too long")
        said = " ".join(f"{turn['role'][0]}:{turn['content']}" for turn in messages)
        return f"<{said}\x1b>"[:max_new_tokens]

    def stream(
        self, messages: Messages, max_new_tokens: int, on_text: Callable[[str], None]
    ) -> str:
        answer = self.answer(messages, max_new_tokens)
        for at, character in enumerate(answer):
            if messages[-1]["content"] == "slow" and at == 3:
                raise KeyboardInterrupt
            on_text(character)
        return answer

    def base_answer(self, messages: Messages, max_new_tokens: int) -> str:
        return f"base of {len(messages)}"[:max_new_tokens]


def talk(lines: list[Any], monkeypatch: pytest.MonkeyPatch) -> Conversation:
    typed: Iterator[Any] = iter(lines)

    def read(prompt: str = "") -> str:
        try:
            line = next(typed)
        except StopIteration:
            raise EOFError from None
        if line is KeyboardInterrupt:
            raise KeyboardInterrupt
        return str(line)

    monkeypatch.setattr("builtins.input", read)
    conversation = Conversation(FakeChat(), None, 99)  # type: ignore[arg-type]
    converse(conversation)
    return conversation


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
        "`/help` shows what else can be typed, `/quit` ends.\n"
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
        "  expected: one of `/system`, `/reset`, `/compare`, `/save`, `/help`, `/quit`",
        "",
        "hint: Did you mean `/quit`?",
        "> > ",
    ]


def test_an_interrupt_ends_the_answer_and_keeps_what_was_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    talk(["slow", KeyboardInterrupt, "b"], monkeypatch)
    out, err = capsys.readouterr()
    assert out == "<u:\n<u:slow a:<u: u:b\\x1b>\n"
    assert err.splitlines()[1:] == ["> Stopped.", "> ", "`/quit` or Ctrl-D ends.", "> > "]


def test_base_and_tuned_stand_side_by_side_and_are_not_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    talked = talk(["/compare", "a", "/compare", "/compare b", "/help"], monkeypatch)
    out, err = capsys.readouterr()
    assert out.splitlines()[1:] == [
        "base" + " " * 36 + "tuned",
        "base of 1" + " " * 31 + "<u:a\\x1b>",  # the last question, without its own answer
        "base" + " " * 36 + "tuned",
        "base of 3" + " " * 31 + "<u:a a:<u:a\\x1b> u:b\\x1b>",
    ]
    assert "error: Nothing was asked yet\n  expected: `/compare TEXT`" in err
    assert all(f"\n{word} " in err or f"> {word} " in err for word in ("/save", "/quit", "/reset"))
    assert [turn["content"] for turn in talked.turns] == ["a", "<u:a\x1b>"]


def test_columns_count_syllables_twice_and_a_narrow_terminal_has_none() -> None:
    lines = side_by_side("가" * 30, "나다\n라", 64).splitlines()
    assert lines == ["base" + " " * 28 + "tuned", "가" * 15 + "  나다", "가" * 15 + "  라"]
    assert side_by_side("가", "나", 40) == "base\n가\n\ntuned\n나"


def test_saved_conversations_are_rows_or_text(tmp_path: Path) -> None:
    conversation = Conversation(FakeChat(), "곰", 9)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="Nothing was said yet"):
        conversation.save(tmp_path / "a.jsonl")
    conversation.ask("하나")
    rows, text = tmp_path / "a.jsonl", tmp_path / "a.txt"
    conversation.save(rows)
    conversation.ask("둘")
    conversation.save(rows)
    conversation.save(text)
    first, second = (json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines())
    assert [turn["role"] for turn in first["messages"]] == ["system", "user", "assistant"]
    assert second["messages"][:3] == first["messages"]
    assert second["messages"][3]["content"] == "둘"
    assert text.read_text(encoding="utf-8").startswith("system: 곰\n\nuser: 하나\n\nassistant: <s:")
    with pytest.raises(UsageError, match="is there already"):
        conversation.save(text)
    with pytest.raises(UsageError, match="can't be written"):
        conversation.save(tmp_path / "none" / "a.txt")


SLOW_CHAT = """
import sys, time, types

class Chat:
    writes_text = True

    def stream(self, messages, max_new_tokens, on_text):
        if messages[-1]["content"] == "slow":
            on_text("begun")
            for _ in range(600):  # a signal just before one long sleep would wait for its end
                time.sleep(0.1)
        on_text(f"heard {len(messages)}")
        return f"heard {len(messages)}"

fake = types.ModuleType("kft.api.generate")
fake.open_asked = lambda place: Chat()
sys.modules["kft.api.generate"] = fake
from kft.cli.main import main
main(["generate", "runs/one"])
"""


def _at_its_own_terminal() -> None:
    os.close(os.open(os.ttyname(0), os.O_RDWR))
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore it


def test_ctrl_c_at_a_real_terminal_stops_the_answer_alone() -> None:
    mine, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_CHAT],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=_at_its_own_terminal,
        env={**os.environ, "TERM": "dumb"},
    )
    os.close(theirs)
    seen = ""

    def wait_for(text: str) -> None:
        nonlocal seen
        until = time.monotonic() + 30
        while text not in seen:
            assert time.monotonic() < until, seen
            if select.select([mine], [], [], 0.2)[0]:
                seen += os.read(mine, 4096).decode("utf-8", "replace")
        seen = seen.partition(text)[2]

    try:
        wait_for("> ")
        os.write(mine, b"slow\n")
        wait_for("begun")
        os.write(mine, b"\x03")
        wait_for("Stopped.")
        os.write(mine, b"more\n")
        wait_for("heard 3")
        os.write(mine, b"/quit\n")
        assert process.wait(30) == 0
    finally:  # a process that is left would be another test's warning
        process.kill()
        process.wait()
        os.close(mine)


class Labels:
    """Says how many characters a text has, in place of a classifier."""

    writes_text = False
    takes_pairs = False

    def predict(self, texts: list[str], first: int) -> list[Any]:
        from kft.api.predict import Prediction

        assert first == 1
        return [Prediction(float(len(text))) for text in texts]


def test_a_terminal_asks_for_labels_line_by_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = iter(["하나", "", "/compare", "/ 둘", "/quit", "never read"])
    monkeypatch.setattr("kft.cli.chat.read_line", lambda: next(typed))
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    ask_for_labels(Labels(), None, (None, None), wants_json=False)
    said = capsys.readouterr()
    assert said.out == "2.0000\n3.0000\n"
    assert "error: A model that labels texts knows no `/compare`" in said.err
    assert next(typed) == "never read"
