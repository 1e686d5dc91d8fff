"""`kft bench`: what it counts, what it times, and that it leaves nothing behind."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from kft.api.bench import bench
from kft.bench import ProductWeights, matmul_peak, product_weights
from kft.cli.bench import bench_text
from kft.cli.main import run_words
from kft.errors import UsageError
from kft.models.adapters import add_adapter
from kft.recipe.schema import AdapterSection

if TYPE_CHECKING:
    from conftest import RecipeFile

Rows = list[dict[str, str]]


def test_weights_in_products_are_counted_by_hand(tiny_gpt: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_gpt)
    model = add_adapter(model, AdapterSection(r=4), "causal_lm")
    # two blocks: 32 x 96, 32 x 32, 32 x 128, 128 x 32; the head 500 x 32
    blocks = 2 * (32 * 96 + 32 * 32 + 2 * 32 * 128)
    lora = 2 * 4 * ((32 + 96) + (32 + 32) + 2 * (32 + 128))
    found = product_weights(model)
    assert found == ProductWeights(blocks, lora, 500 * 32, 0)
    assert found.flop(10, 3) == 10 * (4 * blocks + 6 * lora) + 3 * 4 * 500 * 32


def test_all_weights_are_counted_where_all_are_trained(tiny_llama: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_llama)
    blocks = 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64)
    assert product_weights(model) == ProductWeights(0, blocks, 0, 500 * 32)


def test_a_peak_is_reached() -> None:
    assert matmul_peak(torch.device("cpu"), torch.float32, seconds=0.05) > 1e8


def test_the_peak_of_a_precision_that_the_hardware_lacks_is_found_in_a_moment() -> None:
    began = time.process_time()
    assert matmul_peak(torch.device("cpu"), torch.bfloat16, seconds=0.2) > 1e6
    assert time.process_time() - began < 3


def test_steps_are_timed_and_nothing_is_written(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: Rows, tmp_path: Path
) -> None:
    before = sorted(tmp_path.iterdir())
    path = recipe_file(tiny_gpt, korean_rows, {"train.gradient_accumulation_steps": 2})
    measured = bench(path, steps=2)
    assert sorted(tmp_path.iterdir()) == sorted([*before, path, path.with_suffix(".jsonl")])
    seconds = measured.seconds
    assert list(seconds) == ["data", "forward", "backward", "optimizer", "loading"]
    assert all(value > 0 for value in seconds.values())
    assert measured.steps == 2
    assert measured.tokens_per_second > measured.targets_per_second > 0
    assert 0 < measured.utilization < 1
    assert measured.utilization == measured.flop_per_second / measured.peak_flop_per_second


def test_a_run_that_is_too_short_is_refused(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: Rows
) -> None:
    with pytest.raises(UsageError, match="4 steps, and 6 are needed"):
        bench(recipe_file(tiny_gpt, korean_rows))


def test_the_command_prints_json(
    tiny_gpt: Path,
    recipe_file: RecipeFile,
    korean_rows: Rows,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = recipe_file(tiny_gpt, korean_rows)
    assert run_words(["bench", str(path), "--steps", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 1


def test_the_table() -> None:
    measured: dict[str, Any] = {
        "device": "CPU", "precision": "float32", "steps": 5, "tokens_per_second": 1234.5,
        "targets_per_second": 321.0, "flop_per_second": 5e10, "peak_flop_per_second": 1e11,
        "utilization": 0.5, "peak_memory_bytes": 2**30,
        "seconds": {"data": 0.1, "forward": 0.3, "backward": 0.5, "optimizer": 0.1, "loading": 4.0},
    }  # fmt: skip
    assert bench_text(measured).splitlines() == [
        "device       CPU, float32",
        "tokens/s     1,234",
        "targets/s    321",
        "products     50.0 GFLOP/s, 50% of the 100.0 that a large one reached here",
        "peak memory  1.0 GiB",
        "loading      4.0 s",
        "a step       1.000 s, median of 5",
        "  data       0.100 s (10%)",
        "  forward    0.300 s (30%)",
        "  backward   0.500 s (50%)",
        "  optimizer  0.100 s (10%)",
    ]
