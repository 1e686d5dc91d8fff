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
    path = recipe_file(
        tiny_gpt, korean_rows, {"train.num_train_epochs": 2, "train.max_steps": None}
    )
    found = kft.check(path).sections
    tokens, training = found["tokens"], found["training"]
    width, blocks, words = 32, 2, 500
    per_token = 4 * blocks * 12 * width * width  # LoRA: the frozen weights, forwards and backwards
    flop = per_token * tokens["tokens"] + 4 * words * width * tokens["targets"]
    epochs = training["total_steps"] / training["steps_per_epoch"]
    assert training["train_seconds"] == pytest.approx(epochs * flop / 0.5e9)
    assert training["tokens_per_second"] == pytest.approx(tokens["tokens"] * 0.5e9 / flop)
    # Half precision: what isn't a product takes 0.4 of their time in float32 besides.
    monkeypatch.setattr(
        duration, "matmul_peak", lambda _, dtype, __: 4e9 if dtype == torch.bfloat16 else 1e9
    )
    found = kft.check(path, {"train.precision": "bfloat16"}).sections["training"]
    assert found["train_seconds"] == pytest.approx(epochs * flop * (1 / 2e9 + 0.4 / 1e9))


def test_quantized_weights_have_no_estimate(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: list[dict[str, str]]
) -> None:
    path = recipe_file(tiny_gpt, korean_rows, {"adapter.method": "qlora"})
    assert "train_seconds" not in kft.check(path).sections["training"]
