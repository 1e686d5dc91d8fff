"""What a run shows: in a log, on a narrow terminal, on a wide one."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

import pytest
from rich.cells import cell_len
from rich.console import Console

from kft.api.observer import Observer, Sample
from kft.cli.display import StderrConsole, TerminalObserver
from kft.cli.progress import Smoothed, StageDisplay, Training
from kft.errors import Finding

SAMPLE = Sample(
    prompt="대한민국의 수도는 어디인가요? 자세히 설명해 주세요.",
    reference="서울입니다.",
    base="수도는 수도는 \x1b[31m수도는",
    tuned="대한민국의 수도는 서울특별시입니다.\n한강이 흐릅니다.",
)
RESULT = {
    "base": {"eval_loss": 3.2, "num_rows": 9},
    "tuned": {"eval_loss": 2.1, "num_rows": 9},
    "intervals": {"eval_loss": {"difference": -1.1, "low": -1.3, "high": -0.9}},
    "samples": [],
}


def ticking(seconds: float = 1.0) -> Callable[[], float]:
    """A clock that goes on by so many seconds each time it is read."""
    now = [-seconds]

    def read() -> float:
        now[0] += seconds
        return now[0]

    return read


def console(width: int, *, is_terminal: bool) -> Console:
    return Console(
        file=io.StringIO(),
        width=width,
        force_terminal=is_terminal,
        color_system="standard" if is_terminal else None,
        highlight=False,
        markup=False,
        legacy_windows=False,
        _environ={"TERM": "xterm"},
    )


def written(shown: Console) -> str:
    file = shown.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def record(step: int, loss: float = 2.0) -> dict[str, float]:
    return {
        "step": step,
        "loss": loss,
        "learning_rate": 1.8e-4,
        "grad_norm": 1.0,
        "num_targets": 100,
        "tokens_per_second": 1234.4,
        "peak_memory_bytes": 3_435_973_837,
    }


def play(observer: Observer) -> None:
    observer.stage("reading data")
    observer.finding(Finding("warning", "Rows are cut", "rows.jsonl:3", "Raise it.", 2))
    observer.facts({"model": "gpt2", "형식": "messages"})
    observer.stage("measuring the base model")
    observer.evaluation("base", {"eval_loss": 3.2, "num_rows": 9, "label_counts": [1]})
    observer.stage("training")
    for step in range(1, 26):
        observer.step(record(step, loss=4 / step), 25)
        if step == 12:
            observer.evaluation("step 12", {"eval_loss": 2.5})
    observer.evaluation("tuned", RESULT)
    observer.samples([SAMPLE])
    observer.close()


LOG = """\
reading data
warning: Rows are cut (2 times)
  --> rows.jsonl:3
  hint: Raise it.
model  gpt2
형식   messages
measuring the base model
base: eval_loss 3.2000, num_rows 9
training
step 1/25  loss 4.0000  1,234 tokens/s  learning rate 1.80e-04  3.2 GiB
step 10/25  loss 0.4000  1,234 tokens/s  learning rate 1.80e-04  3.2 GiB  0:15 left
step 12: eval_loss 2.5000
step 20/25  loss 0.2000  1,234 tokens/s  learning rate 1.80e-04  3.2 GiB  5.0 s left
step 25/25  loss 0.1600  1,234 tokens/s  learning rate 1.80e-04  3.2 GiB

             base   tuned  difference       95 % interval
eval_loss  3.2000  2.1000     -1.1000  -1.3000 to -0.9000

sample 1 of 1
  prompt     대한민국의 수도는 어디인가요? 자세히 설명해 주세요.
  reference  서울입니다.
  before     수도는 수도는 \\x1b[31m수도는
  after      대한민국의 수도는 서울특별시입니다.
             한강이 흐릅니다.

"""


def stripped(text: str) -> str:
    """The text without escape sequences and spaces at the ends of lines."""
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)
    return "".join(f"{line.rstrip()}\n" for line in plain.splitlines())


def test_a_log_has_plain_lines() -> None:
    shown = console(80, is_terminal=False)
    play(TerminalObserver(shown, clock=ticking()))
    assert written(shown) == LOG


def test_a_log_is_not_wrapped() -> None:
    shown = console(40, is_terminal=False)
    observer = TerminalObserver(shown, logging_steps=1, clock=ticking())
    observer.step(record(7), 600)
    observer.close()
    assert written(shown) == (
        "training\nstep 7/600  loss 2.0000  1,234 tokens/s  learning rate 1.80e-04  3.2 GiB\n"
    )


@pytest.mark.parametrize(
    ("width", "lines"),
    [
        (
            40,
            [
                "⠋ training ━━━╺━━━━━━ 200/600  6:40 left",
                "  loss 2.0000 · 1,234 tokens/s",
            ],
        ),
        (
            100,
            [
                f"⠋ training {'━' * 23}╺{'━' * 46} 200/600  6:40 left",
                "  loss 2.0000 · 1,234 tokens/s · learning rate 1.80e-04 · 3.2 GiB",
            ],
        ),
        (22, ["⠋ training", "  loss 2.0000"]),
    ],
)
def test_the_training_lines_fit(width: int, lines: list[str]) -> None:
    shown = console(width, is_terminal=True)
    stage = StageDisplay("training", clock=lambda: 0.0)
    stage.training = Training(ticking(100.0))
    for step in (100, 200):
        stage.training.add(record(step), 600)
    stage.training.seconds_left = 400.0
    shown.print(stage)
    assert stripped(written(shown)).splitlines() == lines
    assert max(map(cell_len, lines)) <= width


def test_a_stage_with_a_long_korean_title_is_cut() -> None:
    shown = console(20, is_terminal=True)
    shown.print(StageDisplay("모델을 불러오는 중입니다 잠시만요", clock=lambda: 0.0))
    assert written(shown) == "⠋ 모델을 불러오는  …\n"


@pytest.mark.parametrize("width", [40, 100])
def test_a_terminal_keeps_what_scrolled_past(width: int) -> None:
    shown = console(width, is_terminal=True)
    observer = TerminalObserver(shown, clock=ticking(0.1), auto_refresh=False)
    play(observer)
    observer.close()  # a second time
    lines = stripped(written(shown).replace("\r", "\n")).splitlines()
    assert max(map(cell_len, lines)) <= width
    for line in (
        "warning: Rows are cut (2 times)",
        "형식   messages",
        "base: eval_loss 3.2000, num_rows 9",
        "step 12: eval_loss 2.5000",
        "sample 1 of 1",
    ):
        assert lines.count(line) == 1
    assert sum(line.startswith("training  25/25 steps  loss 0.") for line in lines) == 1
    assert not any(line.startswith("step 10/25") for line in lines)


def test_samples_stand_side_by_side_when_there_is_room() -> None:
    shown = console(100, is_terminal=True)
    TerminalObserver(shown).samples([SAMPLE])
    assert stripped(written(shown)) == (
        "sample 1 of 1\n"
        "  prompt:                                         reference:\n"
        "  대한민국의 수도는 어디인가요? 자세히 설명해     서울입니다.\n"
        "  주세요.\n"
        "  before:                                         after:\n"
        "  수도는 수도는 \\x1b[31m수도는                    대한민국의 수도는 서울특별시입니다.\n"
        "                                                  한강이 흐릅니다.\n"
        "\n"
    )


def test_samples_wrap_by_cells_on_a_narrow_terminal() -> None:
    shown = console(40, is_terminal=True)
    TerminalObserver(shown).samples([SAMPLE])
    assert stripped(written(shown)) == (
        "sample 1 of 1\n"
        "  prompt     대한민국의 수도는\n"
        "             어디인가요? 자세히 설명해\n"
        "             주세요.\n"
        "  reference  서울입니다.\n"
        "  before     수도는 수도는\n"
        "             \\x1b[31m수도는\n"
        "  after      대한민국의 수도는\n"
        "             서울특별시입니다.\n"
        "             한강이 흐릅니다.\n"
        "\n"
    )


def test_samples_without_an_answer_after_training_are_not_shown_yet() -> None:
    shown = console(80, is_terminal=False)
    TerminalObserver(shown).samples([Sample("질문", "답", "전")])
    assert written(shown) == ""


def test_a_run_outlives_its_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:  # noqa: ARG002 -- the stream's signature
            raise BrokenPipeError

    monkeypatch.setattr("sys.stderr", Closed())
    play(TerminalObserver(StderrConsole()))


def test_smoothing_by_hand() -> None:
    loss = Smoothed(0.9)
    # (0.9 * 0.1 * 4 + 0.1 * 2) / (0.9 * 0.1 + 0.1) = 0.56 / 0.19
    assert [loss.add(4.0), loss.add(2.0)] == pytest.approx([4.0, 0.56 / 0.19])


def test_smoothing_leaves_a_constant_alone() -> None:
    loss = Smoothed(0.99)
    assert [loss.add(2.5) for _ in range(100)] == pytest.approx([2.5] * 100)


def test_time_left_counts_from_the_first_step_seen() -> None:
    training = Training(ticking(2.0))
    training.add(record(201), 210)  # a resumed run
    assert training.time_left == ""
    training.add(record(202), 210)
    assert training.seconds_left == 16.0
    training.add(record(203), 210)
    assert training.time_left == "0:14 left"
