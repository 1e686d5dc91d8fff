"""The command ``kft``: what it prints where, and its exit codes."""

from __future__ import annotations

import gc
import io
import json
import resource
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from kft.cli.main import main, run_words
from kft.errors import Finding, ModelError, TrainError

RECIPE = """\
model:
  name_or_path: some/checkpoint
adapter:
  r: 4
data:
  train: rows.jsonl
output_dir: runs/one
"""

HELP = """\
Usage: kft [OPTIONS] [COMMAND] [ARGS]...

  Fine-tune Korean GPT and BERT checkpoints, and prove what came out.

Options:
  --version    Show the version and exit.
  --traceback  Show the Python traceback of an error.
  -h, --help   Show this message and exit.

Commands:
  finetune      Fine-tune a checkpoint by a recipe; prints the run folder.
  check         Check recipe, data and tokenizer; trains nothing.
  evaluate      Measure runs and models on the same rows.
  generate      Ask a run or a model.
  merge         Merge an adapter and verify it; prints the folder.
  verify        Compare a merged model with the run it came from.
  export        Write a run's model in another format and verify it.
  push          Send an adapter or a merged model to the hub.
  report        Write a page about a run, or a comparison of several.
  sweep         Run a recipe with several values of some keys.
  schema        Print every key of a recipe with its meaning and default.
  presets       List Korean checkpoints: licence and memory, or show one.
  init          Write a commented recipe for a checkpoint and rows.
  bench         Time a few steps of a recipe; writes nothing.
  resume-check  Prove that a run goes on to the same bits.
"""


def kft(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the real command."""
    return subprocess.run(
        [sys.executable, "-m", "kft", *words], capture_output=True, text=True, **options
    )


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "one.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`fake("finetune", function)` puts a function in the place of an api module's own."""

    def put(name: str, function: Any, called: str | None = None) -> None:
        module = ModuleType(f"kft.api.{name}")
        setattr(module, called or name, function)
        monkeypatch.setitem(sys.modules, module.__name__, module)

    return put


# The real command


@pytest.mark.parametrize("words", [["--help"], ["-h"], []])
def test_help(words: list[str]) -> None:
    done = kft(*words)
    assert (done.returncode, done.stdout, done.stderr) == (0, HELP, "")


def test_a_misspelt_command() -> None:
    done = kft("finetun", "one.yaml")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: Unknown command `finetun`\n"
        "  expected: one of `finetune`, `check`, `evaluate`, `generate`, `merge`, `verify`, "
        "`export`, `push`, `report`, `sweep`, `schema`, `presets`, `init`, `bench`, "
        "`resume-check`\n"
        "\n"
        "hint: Did you mean `kft finetune`?\n"
    )


def test_a_missing_recipe(recipe: Path) -> None:
    done = kft("finetune", "on.yaml", cwd=recipe.parent)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: There is no file `on.yaml`\n"
        "  --> on.yaml\n"
        "  expected: a recipe in YAML\n"
        "\n"
        "hint: Did you mean `one.yaml`?\n"
    )


@pytest.mark.parametrize("command", ["finetune", "check"])
def test_a_misspelt_key(recipe: Path, command: str) -> None:
    recipe.write_text(RECIPE.replace("  r:", "  lora_rank:"), encoding="utf-8")
    done = kft(command, "one.yaml", cwd=recipe.parent)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: Unknown key `adapter.lora_rank`\n"
        "  --> one.yaml:4\n"
        "  expected: one of `method`, `r`, `lora_alpha`, `lora_dropout`, `target_modules`, ...\n"
        "\n"
        "hint: Did you mean `r`?\n"
    )


def test_schema() -> None:
    done = kft("schema")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("A recipe is a YAML file.")
    assert done.stdout.endswith("\n")
    assert not done.stdout.endswith("\n\n")


def test_schema_as_json() -> None:
    done = kft("schema", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["title"] == "kft recipe"


def test_a_reader_that_leaves_early_is_no_error() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "kft", "schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_sigterm_is_143() -> None:
    code = (
        "import os, signal, sys, types\n"
        "fake = types.ModuleType('kft.api.generate')\n"
        "fake.open_asked = lambda place: os.kill(os.getpid(), signal.SIGTERM)\n"
        "sys.modules['kft.api.generate'] = fake\n"
        "from kft.cli.main import main\n"
        "main(['generate', 'runs/one', '--prompt', 'x'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGTERM, "", "")


NEEDED = "import click, yaml; from pydantic import BaseModel"
ALONE_SECONDS = 0.15
"""CPU time of what no command that reads a recipe can do without, on a core of its own."""


def cpu_seconds(*command: str) -> float:
    """CPU time of a Python command, the system's for it included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *command], capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def slowdown() -> float:
    """How much more CPU time an import takes now than alone: neighbours share core and cache."""
    return max(1.0, cpu_seconds("-c", NEEDED) / ALONE_SECONDS)


@pytest.mark.parametrize(
    "words",
    [["--help"], ["finetune", "one.yaml"], ["check", "one.yaml"], ["presets"], ["presets", "x"]],
)
def test_it_answers_at_once(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    recipe.write_text(RECIPE.replace("  r:", "  lora_rank:"), encoding="utf-8")
    monkeypatch.chdir(recipe.parent)
    tries = (cpu_seconds("-m", "kft", *words) / slowdown() for _ in range(10))
    assert any(seconds < 0.3 for seconds in tries)  # ends with the first that neighbours spared


# Usage


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            ["finetune"],
            "error: `RECIPE` is missing\n\nhint: `kft finetune --help` shows how it is used.\n",
        ),
        (
            ["finetune", "--resum", "one.yaml"],
            "error: Unknown option `--resum` of `kft finetune`\n"
            "  expected: one of `--resume`, `--json`, `--traceback`, `--help`\n"
            "\n"
            "hint: Did you mean `--resume`?\n",
        ),
        (
            ["finetune", "one.yaml", "--adapter.r=16"],
            "error: Unknown option `--adapter.r` of `kft finetune`\n"
            "  expected: one of `--resume`, `--json`, `--traceback`, `--help`\n"
            "\n"
            "hint: Keys of the recipe have no dashes: `adapter.r=VALUE`.\n",
        ),
        (
            ["check", "one.yaml", "--show-rows", "-1"],
            "error: Invalid value for `--show-rows` of `kft check`, got `-1`\n"
            "  expected: a whole number, at least 0\n",
        ),
        (
            ["merge", "runs/one", "--base", "orignal"],
            "error: Invalid value for `--base` of `kft merge`, got `orignal`\n"
            "  expected: one of `original`, `dequantized`\n"
            "\n"
            "hint: Did you mean `original`?\n",
        ),
        (
            ["schema", "all"],
            "error: Got unexpected extra argument `all`\n"
            "\n"
            "hint: `kft schema --help` shows how it is used.\n",
        ),
        (
            ["\x1b[2J"],
            "error: Unknown command `\\x1b[2J`\n"
            "  expected: one of `finetune`, `check`, `evaluate`, `generate`, `merge`, `verify`, "
            "`export`, `push`, `report`, `sweep`, `schema`, `presets`, `init`, `bench`, "
            "`resume-check`\n",
        ),
    ],
)
def test_wrong_usage(words: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_words(words) == 2
    assert capsys.readouterr() == ("", text)


def test_every_command_takes_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("finetune", "check", "evaluate", "generate", "merge", "verify", "schema"):
        assert run_words([command, "--help"]) == 0
        assert "--traceback" in capsys.readouterr().out


# What each command does with the api's answer


def test_finetune_prints_the_run_folder(
    recipe: Path, fake: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = {}

    def finetune(settings: Any, *, observer: Any, resume: bool) -> Any:
        seen.update(r=settings.adapter.r, steps=observer.logging_steps, resume=resume)
        observer.stage("training")
        print("a library talks")
        return SimpleNamespace(folder=Path("runs/one"), result={})

    fake("finetune", finetune)
    words = ["finetune", str(recipe), "adapter.r=16", "train.logging_steps=3", "--resume"]
    assert run_words(words) == 0
    assert seen == {"r": 16, "steps": 3, "resume": True}
    out, err = capsys.readouterr()
    assert out == "runs/one\n"
    begins, _, rest = err.partition("\n")
    assert begins == "starting"
    assert "holds no run to go on with" in rest
    assert rest.endswith("training\na library talks\n")
    assert run_words(words[:-1]) == 0
    assert capsys.readouterr().err == "starting\ntraining\na library talks\n"


def test_finetune_prints_the_result_as_json(
    recipe: Path, fake: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    result = {"base": {"perplexity": float("inf")}, "samples": [{"base": "네\x9b\n\u202e"}]}
    run = SimpleNamespace(folder=Path("runs/one"), result=result)
    fake("finetune", lambda *_, **__: run)
    assert run_words(["finetune", str(recipe), "--json"]) == 0
    out = capsys.readouterr().out
    assert "\x9b" not in out
    assert "\u202e" not in out
    assert json.loads(out) == {
        "base": {"perplexity": None},
        "samples": [{"base": "네\x9b\n\u202e"}],
    }


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (
            ModelError("No module matches\x1b[2J", where="line\n2"),
            2,
            "starting\nerror: No module matches\\x1b[2J\n  --> line\\n2\n",
        ),
        (TrainError("The loss is nan"), 1, "starting\nerror: The loss is nan\n"),
        (
            RuntimeError("first\x07\nsecond"),
            1,
            "starting\n"
            "error: kft met something unexpected: RuntimeError: first\\x07\n"
            "\n"
            "hint: `--traceback` on the same command shows where.\n",
        ),
        (KeyboardInterrupt(), 130, "starting\nInterrupted.\n"),
    ],
)
def test_errors(
    recipe: Path,
    fake: Any,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    text: str,
) -> None:
    def finetune(settings: Any, *, observer: Any, resume: bool) -> Any:
        raise error

    fake("finetune", finetune)
    assert run_words(["finetune", str(recipe)]) == code
    assert capsys.readouterr() == ("", text)


@pytest.mark.parametrize("words", [["--traceback", "finetune"], ["finetune", "--traceback"]])
def test_the_traceback_is_shown_when_asked_for(
    recipe: Path, fake: Any, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    fake("finetune", lambda *_, **__: 1 / 0)
    assert run_words([*words, str(recipe)]) == 1
    err = capsys.readouterr().err
    assert "Traceback (most recent call last)" in err
    assert err.endswith(
        "error: kft met something unexpected: ZeroDivisionError: division by zero\n"
    )


def test_errors_have_colours_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def said() -> str:
        monkeypatch.setattr(sys, "stderr", Terminal())
        assert run_words(["finetun"]) == 2
        return sys.stderr.getvalue()  # type: ignore[attr-defined,no-any-return]

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert said().startswith("\x1b[31m\x1b[1merror:\x1b[0m Unknown command")
    monkeypatch.setenv("NO_COLOR", "1")
    assert said().startswith("error: Unknown command")


def test_check_tells_every_wrong_key(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe.write_text(RECIPE.replace("  r: 4", "  rank: 4\n  alpha: 8"), encoding="utf-8")
    assert run_words(["check", str(recipe)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "error: Unknown key `adapter.rank`\n" in err
    assert "error: Unknown key `adapter.alpha`\n" in err


@pytest.mark.parametrize(("severity", "code"), [("error", 2), ("warning", 0)])
def test_check_fails_on_errors(
    recipe: Path,
    fake: Any,
    capsys: pytest.CaptureFixture[str],
    severity: Any,
    code: int,
) -> None:
    def check(settings: Any, *, show_rows: int, fix: str | None, on_fixed: Any) -> Any:
        assert (show_rows, fix) in {(2, None), (0, None)}
        return SimpleNamespace(
            sections={"training": {"total_steps": 9, "steps_per_epoch": 3}},
            findings=[Finding(severity, "Rows are empty", count=3)],
            shown=[],
            has_errors=severity == "error",
            as_dict=lambda: {"ready": False},
        )

    fake("check", check)
    assert run_words(["check", str(recipe), "--show-rows", "2"]) == code
    assert capsys.readouterr().out.startswith(
        f"training\n  steps  9, 3 an epoch\n\n{severity}: Rows are empty (3 times)\n"
    )
    assert run_words(["check", str(recipe), "--json"]) == code
    assert json.loads(capsys.readouterr().out) == {"ready": False}


def test_evaluate(fake: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def evaluate(places: Any, *, data: str | None, max_rows: int | None, on_finding: Any) -> Any:
        assert (data, max_rows) == ("rows.jsonl", 5)
        on_finding(Finding("warning", "Nobody trained the head", where="모델"))
        return {place: {"eval_loss": 2.5, "num_rows": 5} for place in places}

    fake("evaluate", evaluate)
    words = ["evaluate", "runs/one", "모델", "--data", "rows.jsonl", "--max-rows", "5"]
    assert run_words(words) == 0
    assert capsys.readouterr() == (
        "           runs/one    모델\neval_loss    2.5000  2.5000\nnum_rows          5       5\n",
        "warning: Nobody trained the head\n  --> 모델\n",
    )
    assert run_words([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["모델"] == {"eval_loss": 2.5, "num_rows": 5}


def test_merge(fake: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def merge(run: str, *, output: str | None, base: str | None, on_finding: Any) -> Any:
        assert (run, output, base) == ("runs/one", None, "original")
        on_finding(Finding("note", "before"))
        return Path("runs/one/merged"), {"passed": True, "kl": 1e-9}

    fake("merge", merge)
    assert run_words(["merge", "runs/one", "--base", "original"]) == 0
    told = "note: before\npassed  yes\nkl      1.0e-09\n"
    assert capsys.readouterr() == ("runs/one/merged\n", told)
    assert run_words(["merge", "runs/one", "--base", "original", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "folder": "runs/one/merged",
        "verification": {"passed": True, "kl": 1e-9},
    }


@pytest.mark.parametrize(
    ("passed", "code", "err"),
    [(True, 0, ""), (False, 1, "error: `merged` doesn't agree with `runs/one`\n")],
)
def test_verify(
    fake: Any, capsys: pytest.CaptureFixture[str], passed: bool, code: int, err: str
) -> None:
    fake("verify", lambda *_: {"passed": passed, "kl": 0.5})
    assert run_words(["verify", "runs/one", "merged"]) == code
    answer = "yes" if passed else "no"
    assert capsys.readouterr() == (f"passed  {answer}\nkl      0.5000\n", err)


class FakeChat:
    """Answers with everything it was told."""

    writes_text = True

    def answer(self, messages: list[dict[str, str]], max_new_tokens: int) -> str:
        said = " ".join(f"{turn['role'][0]}:{turn['content']}" for turn in messages)
        return f"{max_new_tokens}[{said}]"


def test_generate_answers_a_prompt(fake: Any, capsys: pytest.CaptureFixture[str]) -> None:
    fake("generate", lambda _: FakeChat(), "open_asked")
    words = ["generate", "runs/one", "--prompt", "안녕", "--system", "곰", "--max-new-tokens", "7"]
    assert run_words(words) == 0
    assert capsys.readouterr() == ("7[s:곰 u:안녕]\n", "")


def test_generate_answers_each_line_of_stdin(
    fake: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake("generate", lambda _: FakeChat(), "open_asked")
    monkeypatch.setattr(sys, "stdin", io.StringIO("하나\r\n\n둘"))
    assert run_words(["generate", "runs/one"]) == 0
    assert capsys.readouterr() == ("256[u:하나]\n256[u:둘]\n", "")


def test_the_command_lets_python_look_for_cycles_less_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[int, ...]] = []
    monkeypatch.setattr("gc.set_threshold", lambda *numbers: asked.append(numbers))
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code == 0
    assert asked == [(200_000, *gc.get_threshold()[1:])]
