"""The best evaluation: kept, stopped for, saved when asked, and the same after a resume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file

import kft
from kft.api.measuring import measure_rows
from kft.api.observer import Silent
from kft.errors import RecipeError, TrainError
from kft.train.best import Best
from kft.train.checkpoint import checkpoint_progress, drop_other_bests

if TYPE_CHECKING:
    from conftest import RecipeFile

Rows = list[dict[str, str]]
KEYS = {
    "train.max_steps": 12,
    "train.save_steps": 2,
    "train.lr_scheduler_type": "constant",
    "train.warmup_ratio": 0.0,
    "evaluate.eval_steps": 1,
    "export.merge": False,
}
PATIENT = {**KEYS, "train.early_stopping_patience": 2, "train.learning_rate": 0.1}


class Told(Silent):
    def __init__(self) -> None:
        self.findings: list[str] = []

    def finding(self, finding: Any) -> None:
        self.findings.append(str(finding))


def adapter(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter" / "adapter_model.safetensors")


def kept(folder: Path) -> set[str]:
    return {path.name for path in (folder / "checkpoints").iterdir()}


@pytest.fixture
def stopped(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: Rows
) -> tuple[Path, kft.Run, Told]:
    """A run at a learning rate that overshoots: it is soon at its best, and stops."""
    told = Told()
    path = recipe_file(tiny_gpt, korean_rows, PATIENT)
    return path, kft.finetune(path, observer=told), told


def test_a_run_stops_early_and_saves_its_best_weights(
    stopped: tuple[Path, kft.Run, Told],
) -> None:
    _, run, told = stopped
    losses = run.metrics.dropna(subset=["eval_loss"]).set_index("step")["eval_loss"]
    best, steps = run.result["best"], run.result["steps"]
    assert steps == best["step"] + 2 < 12
    assert losses.idxmin() == best["step"]
    assert best == {
        "metric": "eval_loss",
        "step": best["step"],
        "value": losses.min(),
        "is_saved": True,
    }
    assert run.result["tuned"]["eval_loss"] == pytest.approx(losses.min())
    assert f"Stopped early after step {steps} of 12" in told.findings[-1]
    saved = load_file(
        run.folder / "checkpoints" / f"best-{best['step']:08d}" / "weights.safetensors"
    )
    written = adapter(run.folder)
    assert len(saved) == len(written)
    total = sum(float(weight.double().sum()) for weight in written.values())
    assert sum(float(weight.double().sum()) for weight in saved.values()) == pytest.approx(total)
    assert run.result["fit"]["best_step"] == best["step"]


def test_going_on_with_a_run_that_stopped_takes_no_further_step(
    stopped: tuple[Path, kft.Run, Told],
) -> None:
    path, run, _ = stopped
    before, log = adapter(run.folder), run.metrics["step"].tolist()
    again = kft.finetune(path, resume=True)
    assert again.result["steps"] == run.result["steps"]
    assert again.result["best"] == run.result["best"]
    assert again.result["train_seconds"] > 0.5 * run.result["train_seconds"]  # not of this time
    assert again.metrics["step"].tolist() == log
    assert all(torch.equal(before[name], weight) for name, weight in adapter(run.folder).items())


@pytest.mark.parametrize("at", [1, 3, 4])
def test_a_run_that_was_cut_off_stops_at_the_same_step(
    stopped: tuple[Path, kft.Run, Told], tmp_path: Path, at: int
) -> None:
    path, straight, _ = stopped
    folder = tmp_path / "cut"
    for stats in kft.steps(path, {"output_dir": str(folder)}):
        if stats.step == at:
            break  # as if it had been killed: between checkpoints for an odd step
    resumed = kft.finetune(path, {"output_dir": str(folder)}, resume=True)
    for key in ("steps", "best"):
        assert resumed.result[key] == straight.result[key]
    for column in ("step", "loss", "eval_loss"):
        expected = straight.metrics[column].dropna().tolist()
        assert resumed.metrics[column].dropna().tolist() == expected
    weights = adapter(straight.folder)
    assert all(torch.equal(weights[name], other) for name, other in adapter(folder).items())
    assert kept(folder) == kept(straight.folder)


def test_the_last_weights_are_saved_unless_the_best_are_asked_for(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: Rows
) -> None:
    keys = {**KEYS, "train.max_steps": 6, "train.learning_rate": 0.1}
    path = recipe_file(tiny_gpt, korean_rows, keys)
    last = kft.finetune(path)
    best = last.result["best"]
    assert best["step"] < 6
    assert best["is_saved"] is False
    assert last.result["tuned"]["eval_loss"] > best["value"]
    # The best weights are still there, so asking for them afterwards costs no training.
    chosen = kft.finetune(path, {"train.load_best_model_at_end": True}, resume=True)
    assert chosen.result["best"]["is_saved"] is True
    assert chosen.result["tuned"]["eval_loss"] == pytest.approx(best["value"])
    folder = last.folder / "checkpoints" / f"best-{best['step']:08d}"
    (folder / "weights.safetensors").unlink()
    folder.joinpath("manifest.json").unlink()
    folder.rmdir()
    with pytest.raises(TrainError, match="best evaluation"):
        kft.finetune(path, {"train.load_best_model_at_end": True}, resume=True)


def test_the_best_may_be_told_by_another_metric(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: Rows
) -> None:
    keys = {**KEYS, "train.max_steps": 3, "train.metric_for_best_model": "bits_per_byte"}
    run = kft.finetune(recipe_file(tiny_gpt, korean_rows, keys))
    best = run.result["best"]
    assert best["metric"] == "bits_per_byte"
    assert best["value"] == run.metrics["bits_per_byte"].min()


def test_a_metric_that_the_rows_do_not_have_is_refused_before_training(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: Rows, tmp_path: Path
) -> None:
    path = recipe_file(tiny_gpt, korean_rows, {"evaluate.metrics": ["accuracy"]})
    with pytest.raises(RecipeError, match="can't be computed from these rows"):
        kft.finetune(path)
    assert not (tmp_path / "run").exists()


def test_bests_that_a_checkpoint_refers_to_stay(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        (tmp_path / f"best-{step:08d}").mkdir()
    checkpoint = tmp_path / "step-00000015"
    checkpoint.mkdir()
    manifest = {"step": 15, "progress": {"value": 1.0, "step": 10, "since": 0}, "files": {}}
    (checkpoint / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    assert checkpoint_progress(checkpoint)["step"] == 10
    drop_other_bests(tmp_path, 30)
    assert {path.name[-2:] for path in tmp_path.glob("best-*")} == {"10", "30"}
    (checkpoint / "manifest.json").write_text("{", encoding="utf-8")
    assert checkpoint_progress(checkpoint) == {}


def test_a_number_that_is_none_is_never_the_best() -> None:
    best = Best(higher_is_better=True, patience=3)
    assert [best.see(step, value) for step, value in enumerate([float("nan"), 0.1, 0.2, 0.2])] == [
        False, True, True, False,
    ]  # fmt: skip
    assert best.state() == {"value": 0.2, "step": 2, "since": 1}
    again = Best(higher_is_better=True, patience=3)
    again.restore(best.state())
    assert again == best


def test_the_last_steps_weights_are_measured_once(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether they are the best or not. The base is measured too, and some training rows."""
    times: list[Rows] = []

    def counting(*args: Any) -> Any:
        times.append(korean_rows)
        return measure_rows(*args)

    monkeypatch.setattr("kft.api.before_after.measure_rows", counting)
    keys = {**PATIENT, "train.max_steps": 6, "train.early_stopping_patience": 6}
    path = recipe_file(tiny_gpt, korean_rows, {**keys, "train.load_best_model_at_end": False})
    run = kft.finetune(path)
    assert run.result["best"]["step"] < 6
    assert len(times) == 2 + 6
    assert run.result["tuned"]["eval_loss"] == run.metrics["eval_loss"].iloc[-1]
    times.clear()
    run = kft.finetune(path, {"train.load_best_model_at_end": True}, resume=True)
    assert len(times) == 2 + 1  # the best ones, which were put back
    assert run.result["tuned"]["eval_loss"] == pytest.approx(run.result["best"]["value"])
