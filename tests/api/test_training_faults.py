"""Faults while training: numbers that aren't finite, no memory, a loss that diverges."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import kft
from kft.api.observer import Silent
from kft.errors import TrainError
from kft.tasks.language_loss import LanguageLoss
from kft.train.checkpoint import checkpoint_progress
from kft.train.divergence import FIRST, RECENT, Divergence

if TYPE_CHECKING:
    from conftest import RecipeFile

Rows = list[dict[str, str]]
KEYS = {"train.save_steps": 1, "export.merge": False, "data.eval_fraction": 0}


class Findings(Silent):
    def __init__(self) -> None:
        self.told: list[str] = []

    def finding(self, finding: Any) -> None:
        self.told.append(str(finding))


def weights(run: kft.Run) -> dict[str, torch.Tensor]:
    return load_file(run.folder / "adapter" / "adapter_model.safetensors")


def test_a_loss_that_is_not_finite_stops_before_the_step(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: Rows, tmp_path: Path
) -> None:
    keys = {"train.learning_rate": 1e30, "train.lr_scheduler_type": "constant"}
    with pytest.raises(TrainError) as told:
        kft.finetune(recipe_file(tiny_gpt, korean_rows, KEYS | keys))
    error = told.value
    assert error.exit_code == 1
    assert error.what.startswith("The loss is ")
    assert (error.where or "").startswith("step 2, learning rate 1e+30, rows ")
    assert (error.where or "").count("recipe.jsonl:") == 4
    assert "the first other output is that of `base_model.model.transformer.h." in str(error)
    assert error.hint == "`train.learning_rate=1e+29` is ten times smaller."
    run = tmp_path / "run"
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-00000001"]
    lines = (run / "metrics.jsonl").read_text("utf-8").splitlines()
    step, saved = map(json.loads, lines)
    assert step["step"] == saved["step"] == 1
    size = sum(path.stat().st_size for path in (run / "checkpoints/step-00000001").iterdir())
    assert saved["checkpoint_bytes"] == size
    assert 0 < saved["checkpoint_seconds"] < 60


@pytest.mark.parametrize("task", ["sequence_regression", "sequence_classification"])
def test_in_half_precision_the_learning_rate_is_blamed_too(
    task: str, tiny_bert: Path, recipe_file: RecipeFile, korean_rows: Rows
) -> None:
    """A head whose weights are float32 is asked again under autocast, as it was in the step."""
    texts = [row["completion"] for row in korean_rows]
    rows = [{"text": text, "label": number % 2} for number, text in enumerate(texts)]
    keys = KEYS | {"train.learning_rate": 1e30, "train.lr_scheduler_type": "constant"}
    keys |= {"task": task, "train.precision": "bfloat16"}
    keys |= {"train.warmup_ratio": 0.5, "train.max_steps": 6}  # the recipe's rate, not the step's
    if task == "sequence_classification":
        keys["data.labels"] = ["a", "b"]
    with pytest.raises(TrainError) as told:
        kft.finetune(recipe_file(tiny_bert, rows, keys))
    assert (told.value.where or "").startswith("step 2, learning rate 6.67e+29, ")
    assert told.value.hint == "`train.learning_rate=1e+29` is ten times smaller."


def test_before_any_weight_moved_no_learning_rate_is_blamed(
    tiny_gpt: Path,
    recipe_file: RecipeFile,
    korean_rows: Rows,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    forward = LanguageLoss.forward
    path = recipe_file(tiny_gpt, korean_rows, KEYS)

    def broken(self: LanguageLoss, batch: Any) -> Any:
        total = forward(self, batch)
        return replace(total, total=total.total * float("inf"))

    monkeypatch.setattr(LanguageLoss, "forward", broken)
    for precision, hint in (("bfloat16", "train.precision=float32"), ("float32", "fast_paths")):
        keys = {"train.precision": precision, "output_dir": str(tmp_path / precision)}
        with pytest.raises(TrainError) as told:
            kft.finetune(path, keys)
        assert hint in (told.value.hint or "")


@pytest.mark.parametrize("keys", [{}, {"data.packing": True}, {"train.fast_paths": False}])
def test_the_row_and_the_weight_are_named(
    keys: dict[str, Any], tiny_llama: Path, recipe_file: RecipeFile, tmp_path: Path
) -> None:
    """One token's embedding is broken, and one row of twelve has that token."""
    from transformers import AutoTokenizer

    folder = shutil.copytree(tiny_llama, tmp_path / "llama")
    (token,) = AutoTokenizer.from_pretrained(folder)("Z", add_special_tokens=False).input_ids
    tensors = load_file(folder / "model.safetensors")
    tensors["model.embed_tokens.weight"][token, 3] = float("nan")
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    rows = [{"prompt": "안녕" * number, "completion": "네"} for number in range(1, 13)]
    rows[6]["prompt"] += "Z"
    step = {"train.max_steps": 1, "train.per_device_train_batch_size": 12}
    with pytest.raises(TrainError) as told:
        kft.finetune(recipe_file(folder, rows, KEYS | step | keys))
    place = tmp_path / "recipe.jsonl"
    assert (told.value.where or "").endswith(f"rows {place}:7")
    assert "the weight `base_model.model.model.embed_tokens.weight` holds" in str(told.value)
    assert told.value.hint == "Copy or download the checkpoint again."


def no_memory_for(monkeypatch: pytest.MonkeyPatch, most: int) -> list[int]:
    """A device on which more rows than ``most`` do not fit; the sizes that were tried."""
    forward, tried = LanguageLoss.forward, []

    def limited(self: LanguageLoss, batch: Any) -> Any:
        rows = len(batch.documents.lengths) if batch.documents else len(batch.input_ids)
        tried.append(rows)
        total = forward(self, batch)
        if rows > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
        return total

    monkeypatch.setattr(LanguageLoss, "forward", limited)
    return tried


def test_without_memory_the_window_is_cut_smaller_and_the_steps_are_the_same(
    tiny_gpt: Path,
    recipe_file: RecipeFile,
    korean_rows: Rows,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keys = KEYS | {"train.fast_paths": False, "train.per_device_train_batch_size": 7}
    path = recipe_file(tiny_gpt, korean_rows, keys | {"train.gradient_accumulation_steps": 2})
    straight = kft.finetune(path, {"output_dir": str(tmp_path / "straight")})
    tried = no_memory_for(monkeypatch, 3)
    observer = Findings()
    run = kft.finetune(path, observer=observer)
    assert tried[:3] == [7, 3, 3]
    assert max(tried[1:]) == 3
    told = [one for one in observer.told if "Out of memory" in one]
    assert len(told) == 1
    assert "at step 1 with micro-batches of 7 rows" in told[0]
    assert told[0] in run.result["findings"]
    for key in ("loss", "grad_norm", "num_targets"):
        assert run.metrics[key].tolist() == pytest.approx(straight.metrics[key].tolist(), rel=1e-5)
    for name, weight in weights(straight).items():
        assert torch.linalg.norm(weights(run)[name] - weight) <= 1e-4 * torch.linalg.norm(weight)
    kept = sorted((run.folder / "checkpoints").iterdir())[-1]
    assert checkpoint_progress(kept)["micro_batch_rows"] == 3
    tried.clear()
    kft.finetune(path, {"train.max_steps": 5}, resume=True)
    assert max(tried) == 3


def test_one_row_that_is_too_much_ends_the_run(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = no_memory_for(monkeypatch, 0)
    with pytest.raises(TrainError, match="no memory for a single row: CUDA out of memory") as told:
        kft.finetune(recipe_file(tiny_gpt, korean_rows, KEYS | {"train.fast_paths": False}))
    assert tried == [4, 2, 1]
    assert "room for a micro-batch of 1 row; the plan was" in str(told.value.expected)


def test_a_step_that_was_begun_is_not_repeated(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begun(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("torch.optim.AdamW.step", begun)
    with pytest.raises(TrainError, match="the optimizer's state: CUDA"):
        kft.finetune(recipe_file(tiny_gpt, korean_rows, KEYS))


def test_a_loss_that_diverges_is_told_once(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, calls = LanguageLoss.forward, []

    def grows(self: LanguageLoss, batch: Any) -> Any:
        calls.append(batch)
        part = forward(self, batch)
        return replace(part, total=part.total * (1 + len(calls) / 10))

    monkeypatch.setattr(LanguageLoss, "forward", grows)
    observer = Findings()
    keys = {"train.max_steps": 28, "train.learning_rate": 1e-5, "train.save_steps": None}
    run = kft.finetune(recipe_file(tiny_gpt, korean_rows, KEYS | keys), observer=observer)
    told = [one for one in observer.told if "The training loss diverges" in one]
    assert len(told) == 1
    assert "`train.learning_rate=1e-06` is ten times smaller" in told[0]
    assert told[0] in run.result["findings"]


def test_a_loss_that_only_jumps_does_not_diverge() -> None:
    watch = Divergence()
    noisy = [2.0, 2.6, 1.5, 3.0, 1.2] * 20
    assert not any(watch.see(loss) for loss in noisy)
    assert not any(Divergence().see(loss) for loss in [3.0] * FIRST + [40.0] * (RECENT - 1))
