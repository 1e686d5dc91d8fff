"""`kft resume-check`: the same bits with a stop between, and a planted fault that is caught."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import kft
from kft.train.same_bits import compare_steps

if TYPE_CHECKING:
    from conftest import RecipeFile

# A random state that isn't put back: with dropout, the steps after the stop are others.
FORGETS = "import torch\ntorch.set_rng_state = lambda state: None\n"


@pytest.fixture
def run(tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: Any) -> kft.Run:
    keys = {"train.max_steps": 4, "train.save_steps": 4, "export.merge": False}
    return kft.finetune(recipe_file(tiny_gpt, korean_rows, keys | {"adapter.lora_dropout": 0.2}))


def command(*words: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    paths = [str(path)] if path else []
    paths += [str(Path(kft.__file__).parents[1])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    words = (sys.executable, "-m", "kft", "resume-check", *words)
    return subprocess.run(words, capture_output=True, text=True, env=environment)


@pytest.mark.slow
def test_the_same_bits_and_a_planted_fault(run: kft.Run, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
    done = command(str(run.folder), "--steps", "4", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert (told["passed"], told["steps"], told["stopped_after"]) == (True, 4, 2)
    assert {one["name"]: one["values"] for one in told["compared"]}["loss"] == 4
    assert {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")} == before

    (tmp_path / "forgets").mkdir()
    (tmp_path / "forgets" / "sitecustomize.py").write_text(FORGETS)
    done = command(str(run.folder), "--steps", "4", path=tmp_path / "forgets")
    assert done.returncode == 1
    assert "random states  " in done.stdout
    assert "learning_rate         4  the same bits" in done.stdout
    assert "error: A stop after step 2 changes the run: other trained weights" in done.stderr


@pytest.mark.slow
def test_what_the_run_is_refused_with_is_told(run: kft.Run, tmp_path: Path) -> None:
    rows = tmp_path / "recipe.jsonl"
    rows.write_text(rows.read_text("utf-8") * 2, encoding="utf-8")
    done = command(str(run.folder))
    assert done.returncode == 2
    assert "error: The data has changed since the run was started" in done.stderr
    assert command(str(tmp_path)).returncode == 2


def weight(folder: Path) -> None:
    path = folder / "checkpoints" / "step-00000004" / "weights.safetensors"
    weights = load_file(path)
    next(iter(weights.values())).view(-1)[:1].mul_(-1.0)
    save_file(weights, path)


def moment(folder: Path) -> None:
    path = folder / "checkpoints" / "step-00000004" / "optimizer.pt"
    state = torch.load(path, weights_only=True)
    state["optimizer"]["state"][1]["exp_avg"][0, 0] *= -1
    torch.save(state, path)


def loss(folder: Path) -> None:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    lines[2] = json.dumps(json.loads(lines[2]) | {"loss": 1.0})
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")


def length(folder: Path) -> None:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    (folder / "metrics.jsonl").write_text("\n".join(lines[:-2]) + "\n")


def test_each_kind_of_difference_is_found(run: kft.Run, tmp_path: Path) -> None:
    def differences() -> dict[str, str | None]:
        compared = compare_steps(run.folder, copy, 4)
        return {one.name: one.first_difference for one in compared}

    for change, name, said in [
        (weight, "trained weights", "1 of "),
        (moment, "optimizer", "optimizer.state.1.exp_avg: 1 of "),
        (loss, "loss", "step 3: "),
        (length, "loss", "step 4: only one of the runs has it"),
    ]:
        copy = shutil.copytree(run.folder, tmp_path / change.__name__)
        assert set(differences().values()) == {None}
        change(copy)
        assert said in (differences()[name] or "")
