"""How long a run will take, from its products and what the device multiplies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

import kft
from kft.api import duration

if TYPE_CHECKING:
    from conftest import RecipeFile


def test_the_expected_time_by_hand(
    tiny_gpt: Path,
    recipe_file: RecipeFile,
    korean_rows: list[dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(duration, "matmul_peak", lambda *_: 1e9)
    monkeypatch.setattr(duration, "UTILIZATION", {"cpu": 0.5, "cuda": 0.5})
    monkeypatch.setattr(duration, "small_step_seconds", lambda: 1e-4)
    path = recipe_file(
        tiny_gpt, korean_rows, {"train.num_train_epochs": 2, "train.max_steps": None}
    )
    found = kft.check(path).sections
    tokens, training = found["tokens"], found["training"]
    width, blocks, words = 32, 2, 500
    per_token = 4 * blocks * 12 * width * width  # LoRA: the frozen weights, forwards and backwards
    flop = per_token * tokens["tokens"] + 4 * words * width * tokens["targets"]
    epochs = training["total_steps"] / training["steps_per_epoch"]
    batches, rows = training["steps_per_epoch"], found["rows"]["train"]
    assert training["micro_batches_per_epoch"] == batches
    starting = blocks * (47 * batches + 6 * rows) * 1e-4
    seconds = flop / 0.5e9 + starting
    assert training["train_seconds"] == pytest.approx(epochs * seconds)
    assert training["tokens_per_second"] == pytest.approx(tokens["tokens"] / seconds)
    # Each micro-batch is started by itself; padded rows are attended to together.
    alone = kft.check(path, {"train.fast_paths": False, "train.gradient_accumulation_steps": 2})
    again = alone.sections["training"]
    batches = again["micro_batches_per_epoch"]
    assert batches == training["micro_batches_per_epoch"]  # however many make a step
    epochs = again["total_steps"] / again["steps_per_epoch"]
    expected = epochs * (flop / 0.5e9 + blocks * 47 * batches * 1e-4)
    assert again["train_seconds"] == pytest.approx(expected)
    # Half precision: what isn't a product takes 0.3 of their time in float32 besides.
    monkeypatch.setattr(
        duration, "matmul_peak", lambda _, dtype, __: 4e9 if dtype == torch.bfloat16 else 1e9
    )
    found = kft.check(path, {"train.precision": "bfloat16"}).sections["training"]
    epochs = found["total_steps"] / found["steps_per_epoch"]
    expected = epochs * (flop * (1 / 2e9 + 0.3 / 1e9) + starting)
    assert found["train_seconds"] == pytest.approx(expected)


def test_quantized_weights_have_no_estimate(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: list[dict[str, str]]
) -> None:
    path = recipe_file(tiny_gpt, korean_rows, {"adapter.method": "qlora"})
    assert "train_seconds" not in kft.check(path).sections["training"]
