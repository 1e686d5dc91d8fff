"""On a CUDA device: the precisions of a GPU, 4-bit kernels, and that all of it is verified."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

import kft
from kft.ops.attention import Attention, Documents, attend_documents, attend_masked

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


@pytest.mark.parametrize("kind", [Attention(True), Attention(False), Attention(True, window=16)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_documents_are_attended_to_as_with_a_mask(dtype: torch.dtype, kind: Attention) -> None:
    documents = Documents((70, 33, 33, 5))
    generator = torch.Generator(device="cuda").manual_seed(0)
    tensors = [
        torch.randn((1, heads, 141, 64), generator=generator, device="cuda", dtype=dtype)
        for heads in (8, 4, 4)
    ]
    for tensor in tensors:
        tensor.requires_grad_()
    fast = attend_documents(*tensors, documents, kind)
    plain = attend_masked(*tensors, documents, kind)
    torch.testing.assert_close(fast, plain, atol=2e-2, rtol=2e-2)
    upstream = torch.randn_like(plain)
    pairs = zip(
        torch.autograd.grad(fast, tensors, upstream),
        torch.autograd.grad(plain, tensors, upstream),
        strict=True,
    )
    for one, other in pairs:
        torch.testing.assert_close(one, other, atol=5e-2, rtol=5e-2)
