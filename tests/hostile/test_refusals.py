"""What comes from outside cannot harm: a test for each thing that is refused or made harmless.

Members of archives, real pickles of weights, health findings and the report's escaping have more
tests where their rooms are: tests/data/test_sources.py, tests/test_wrong_input.py,
tests/test_faults.py, tests/reporting/test_pages.py.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import kft
from kft.api.observer import Silent
from kft.cli.messages import error_text, finding_text, tell
from kft.data.files import resolve_files
from kft.errors import DataError, Finding, KftError, ModelError, RecipeError, without_secrets
from kft.train.checkpoint import complete_checkpoints

if TYPE_CHECKING:
    from conftest import RecipeFile

Rows = list[dict[str, str]]
TOKEN = "hf_" + "Secret" * 5
KEYS = {"train.max_steps": 2, "train.save_steps": 1, "export.merge": False}


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (f"touch {self.target}",))


# Recipes

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("content", "said"),
    ids=["tag", "anchor bomb", "ten megabytes", "nesting", "remote code"],
    argvalues=[
        ("model: !!python/object/apply:os.system [touch ran]\n", "isn't part of a recipe"),
        (BOMB, "Anchors and aliases"),
        ("# " + "x" * 10_000_000, "too large for a recipe"),
        ("[" * 100_000, "nested too deeply"),
        (
            "model: {name_or_path: m, trust_remote_code: true, revision: main}\n"
            "data: {train: a.jsonl}\noutput_dir: run\n",
            "needs a pinned revision",
        ),
    ],
)
def test_a_recipe(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(content, encoding="utf-8")
    started = time.process_time()
    with pytest.raises(RecipeError, match=said):
        kft.read_recipe(path)
    assert time.process_time() - started < 2


def test_remote_code_is_told_before_it_is_run(
    tmp_path: Path, recipe_file: RecipeFile, tiny_gpt: Path, korean_rows: Rows
) -> None:
    class Told(Silent):
        def finding(self, finding: Finding) -> None:
            told.append(finding.what)

    told: list[str] = []
    keys = {"model.trust_remote_code": True, "model.revision": "a1" * 20}
    kft.finetune(recipe_file(tiny_gpt, korean_rows, KEYS | keys), observer=Told())
    assert any("Python code of" in what and "a1a1" in what for what in told)


# Checkpoints and adapters


def test_an_adapter_that_is_a_pickle(
    tmp_path: Path, recipe_file: RecipeFile, tiny_gpt: Path, korean_rows: Rows
) -> None:
    run = kft.finetune(recipe_file(tiny_gpt, korean_rows, KEYS))
    adapter = run.folder / "adapter"
    (adapter / "adapter_model.safetensors").unlink()
    content = pickle.dumps({"weight": Hostile(tmp_path / "ran")}, protocol=2)
    (adapter / "adapter_model.bin").write_bytes(content)
    again = {"adapter.start_from": str(adapter), "output_dir": str(tmp_path / "again")}
    with pytest.raises(ModelError, match=r"would call `posix.system`"):
        kft.finetune(tmp_path / "recipe.yaml", again)
    assert not (tmp_path / "ran").exists()


def test_an_adapter_that_names_another_base(
    tmp_path: Path,
    recipe_file: RecipeFile,
    tiny_gpt: Path,
    korean_rows: Rows,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Trained on, it is put on the recipe's base, whatever it says; opened alone, it is refused."""
    from kft.api.opened import open_model

    run = kft.finetune(recipe_file(tiny_gpt, korean_rows, KEYS))
    adapter = run.folder / "adapter"
    config = json.loads((adapter / "adapter_config.json").read_text("utf-8"))
    config["base_model_name_or_path"] = "somebody/elses"
    (adapter / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    tried = connections(monkeypatch)
    again = {"adapter.start_from": str(adapter), "output_dir": str(tmp_path / "again")}
    assert kft.finetune(tmp_path / "recipe.yaml", again).result["steps"] == 2

    other = shutil.copytree(tiny_gpt, tmp_path / "other")
    weights = other / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    record = json.loads((adapter / "kft_base.json").read_text("utf-8"))
    record["name_or_path"] = str(other)
    (adapter / "kft_base.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(ModelError, match="was trained on another base"):
        open_model(str(adapter))
    assert tried == []


def test_a_checkpoint_that_leads_elsewhere(
    tmp_path: Path, recipe_file: RecipeFile, tiny_gpt: Path, korean_rows: Rows
) -> None:
    """A manifest that was edited is damaged; a link among checkpoints takes nothing with it."""
    path = recipe_file(tiny_gpt, korean_rows, KEYS)
    run = kft.finetune(path)
    root = run.folder / "checkpoints"
    manifest = root / "step-00000002" / "manifest.json"
    content = json.loads(manifest.read_text("utf-8"))
    content["files"]["../../../recipe.yaml"] = "0" * 64
    manifest.write_text(json.dumps(content), encoding="utf-8")
    damaged, whole = complete_checkpoints(root)
    assert isinstance(damaged, Finding)
    assert isinstance(whole, tuple)
    assert whole[1] == 1

    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mine.txt").write_text("mine", encoding="utf-8")
    (root / "step-00000000").symlink_to(outside)
    kft.finetune(path, {"train.max_steps": 4}, resume=True)
    assert (outside / "mine.txt").read_text("utf-8") == "mine"


# Data


def test_an_archive_that_leads_out_of_itself(tmp_path: Path) -> None:
    path = tmp_path / "rows.zip"
    for name in ("../rows.jsonl", "/rows.jsonl", "C:\\rows.jsonl", "a/../../rows.jsonl"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, '{"text": "안녕"}\n')
        with pytest.raises(DataError, match="a name that leads out of it"):
            resolve_files(str(path), "data.train")


def test_a_link_to_nothing_and_a_ring_of_links(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").symlink_to(tmp_path / "nothing.jsonl")
    (tmp_path / "b.jsonl").symlink_to(tmp_path / "b.jsonl")
    for name in ("a.jsonl", "b.jsonl", "."):
        with pytest.raises(DataError):
            resolve_files(str(tmp_path / name), "data.train")


ANSWER = "{% for message in messages %}{{ message.content }}{% endfor %}"


@pytest.mark.parametrize(
    ("template", "said"),
    ids=["python", "attribute", "range", "memory", "long", "loop"],
    argvalues=[
        ("{{ messages.__class__.__mro__[1].__subclasses__() }}", "access to attribute"),
        ("{% do messages.append(1) %}{{ messages }}", "The template can't be read"),
        ("{% for i in range(1000000000) %}x{% endfor %}", "Range too big"),
        ("{{ 'x' * 20000000000 }}" + ANSWER, "The template makes too much of this row"),
        ("{{ 'x' * 2000000 }}" + ANSWER, "The template makes too much of this row"),
        (
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
            + ANSWER,
            "it takes longer than",
        ),
    ],
)
def test_a_template(
    template: str,
    said: str,
    tmp_path: Path,
    recipe_file: RecipeFile,
    tiny_gpt: Path,
    korean_rows: Rows,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kft.data.render_limits.SECONDS", 0.5)
    path = tmp_path / "own.jinja"
    path.write_text(template, encoding="utf-8")
    with pytest.raises(KftError) as told:
        kft.check(recipe_file(tiny_gpt, korean_rows, {"data.template": str(path)}))
    assert told.value.exit_code == 2
    assert said in told.value.what


# What people read


def test_a_terminal_never_obeys_data() -> None:
    evil = "안녕\x1b]0;title\x07\x1b[2J\x9b31m\u202e\r"
    error = KftError(evil, where=evil, expected=evil, hint=evil)
    finding = Finding("warning", evil, where=evil, hint=evil)
    for text in (error_text(error), finding_text(finding)):
        assert not {"\x1b", "\x07", "\x9b", "\u202e", "\r"} & set(text)
        assert "\\x1b[2J" in text


def test_the_report_escapes_and_loads_nothing() -> None:
    """The template engine itself: everything that isn't markup is escaped."""
    from kft.reporting.render import _environment

    page = _environment().from_string("<p>{{ text }}</p>")
    assert "<script>" not in page.render(text="<script>alert(1)</script>")


def test_tokens_are_never_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("WANDB_API_KEY", "not-the-hubs-form")
    other = "hf_" + "Other" * 6
    tell(error_text(KftError(f"401 for {TOKEN} and not-the-hubs-form, {other}")))
    told = capsys.readouterr().err + finding_text(Finding("note", TOKEN, hint=other))
    assert told.count("[hidden]") == 5
    for secret in (TOKEN, "not-the-hubs-form", other):
        assert secret not in told
        assert secret not in without_secrets(secret)


# The network

CUT = """
import os, socket
def cut(self, address, *rest):
    if self.family != socket.AF_UNIX:
        with open(os.environ["TRIED"], "a") as file:
            file.write(repr(address) + "\\n")
        raise OSError("the network is cut")
socket.socket.connect = socket.socket.connect_ex = cut
def unknown(host, *rest, **more):
    with open(os.environ["TRIED"], "a") as file:
        file.write(repr(host) + "\\n")
    raise socket.gaierror("the network is cut")
socket.getaddrinfo = unknown
"""


def connections(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    tried: list[Any] = []

    def cut(host: Any, *_: Any, **__: Any) -> None:
        tried.append(host)
        raise OSError("the network is cut")

    monkeypatch.setattr("socket.getaddrinfo", cut)
    return tried


@pytest.fixture
def cut_off(tmp_path: Path) -> Callable[..., tuple[subprocess.CompletedProcess[str], Path]]:
    """Runs `kft` with a network that is cut, a token, and no word of being offline."""

    def run(*words: str) -> tuple[subprocess.CompletedProcess[str], Path]:
        (tmp_path / "cut").mkdir(exist_ok=True)
        (tmp_path / "cut" / "sitecustomize.py").write_text(CUT, encoding="utf-8")
        offline = ("HF_HUB_OFFLINE", "HF_UPDATE_DOWNLOAD_COUNTS", "DISABLE_SAFETENSORS_CONVERSION")
        environment = {name: value for name, value in os.environ.items() if name not in offline}
        paths = [str(tmp_path / "cut"), str(Path(kft.__file__).parents[1])]
        environment |= {
            "PYTHONPATH": os.pathsep.join(paths),
            "TRIED": str(tmp_path / "tried"),
            "HF_TOKEN": TOKEN,
            "HF_HOME": str(tmp_path / "home"),
        }
        command = [sys.executable, "-m", "kft", *words]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        return done, tmp_path / "tried"

    return run


def test_nothing_leaves_the_machine(
    cut_off: Any, tmp_path: Path, recipe_file: RecipeFile, tiny_gpt: Path, korean_rows: Rows
) -> None:
    """A whole run, with its merged model, its measures and its report, tries no connection."""
    path = recipe_file(tiny_gpt, korean_rows, {"evaluate.generate": 1, "train.max_steps": 2})
    done, tried = cut_off("finetune", str(path))
    assert done.returncode == 0, done.stderr
    assert not tried.exists()
    run = tmp_path / "run"
    assert (run / "merged" / "verification.json").is_file()
    files = [file for file in run.rglob("*") if file.is_file()]
    assert len(files) > 10
    assert not [file for file in files if TOKEN.encode() in file.read_bytes()]
    assert TOKEN not in done.stdout + done.stderr


@pytest.mark.slow
def test_what_would_leave_it_is_noticed_and_tells_no_token(
    cut_off: Any, recipe_file: RecipeFile, korean_rows: Rows
) -> None:
    done, tried = cut_off("check", str(recipe_file("somebody/something", korean_rows)))
    assert done.returncode == 2
    assert "huggingface.co" in tried.read_text("utf-8")
    assert "hint: `hf download somebody/something` fetches it" in done.stderr
    assert TOKEN not in done.stdout + done.stderr
