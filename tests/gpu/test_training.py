"""On a CUDA device: the precisions of a GPU, 4-bit kernels, and that all of it is verified."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

import kft

if TYPE_CHECKING:
    from conftest import RecipeFile

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

Rows = list[dict[str, str]]


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("method", ["lora", "qlora", "full"])
def test_it_learns_and_the_merged_model_is_proven(
    method: str, precision: str, tiny_llama: Path, recipe_file: RecipeFile, korean_rows: Rows
) -> None:
    keys = {"adapter.method": method, "train.precision": precision, "train.max_steps": 8}
    run = kft.finetune(recipe_file(tiny_llama, korean_rows, keys))
    assert run.result["tuned"]["eval_loss"] < run.result["base"]["eval_loss"]
    assert run.result["verification"]["passed"]
    assert run.result["peak_memory_bytes"] > 0


def test_the_gpu_takes_the_cpu_s_steps(
    tiny_gpt: Path,
    recipe_file: RecipeFile,
    korean_rows: Rows,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    path = recipe_file(tiny_gpt, korean_rows, {"export.merge": False})
    on_gpu = kft.finetune(path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    on_cpu = kft.finetune(path, {"output_dir": str(tmp_path / "cpu")})
    assert on_gpu.metrics["loss"].tolist() == pytest.approx(
        on_cpu.metrics["loss"].tolist(), abs=1e-3
    )
