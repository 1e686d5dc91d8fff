"""On a CUDA device: the precisions of a GPU, 4-bit kernels, and that all of it is verified."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

import kft
from kft.api.observer import Silent
from kft.ops.attention import Attention, Documents, attend_documents, attend_masked
from kft.ops.lora import lora_product, plain_lora_linear
from kft.train.update import update

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


@pytest.mark.parametrize(
    "keys",
    [
        {"adapter.method": "qlora", "train.precision": "bfloat16"},
        {"adapter.lora_dropout": 0.1, "train.precision": "float16"},  # with its scaler
    ],
)
def test_a_stopped_run_goes_on_as_if_it_had_not_been(
    keys: dict[str, Any],
    tiny_llama: Path,
    recipe_file: RecipeFile,
    korean_rows: Rows,
    tmp_path: Path,
) -> None:
    steps = {"train.max_steps": 6, "train.save_steps": 3, "export.merge": False}
    path = recipe_file(tiny_llama, korean_rows, steps | keys)
    straight = kft.finetune(path, {"output_dir": str(tmp_path / "straight")})

    class Leaves(Silent):
        def step(self, record: Any, total_steps: int) -> None:  # noqa: ARG002
            if record["step"] == 4:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kft.finetune(path, observer=Leaves())
    resumed = kft.finetune(path, resume=True)
    assert resumed.metrics["step"].tolist() == straight.metrics["step"].tolist()
    assert resumed.metrics["loss"].tolist() == pytest.approx(
        straight.metrics["loss"].tolist(), abs=1e-3
    )
    one, other = (
        load_file(run.folder / "adapter" / "adapter_model.safetensors")
        for run in (straight, resumed)
    )
    for name, weight in one.items():
        torch.testing.assert_close(other[name], weight, atol=1e-3, rtol=1e-2)


def test_a_step_whose_gradient_overflows_is_left_out_and_the_scale_lowered() -> None:
    accelerator = Accelerator(mixed_precision="fp16")
    layer = torch.nn.Linear(4, 1, bias=False)
    layer, optimizer = accelerator.prepare(layer, torch.optim.SGD(layer.parameters(), lr=1.0))
    before, scale = layer.weight.detach().clone(), accelerator.scaler.get_scale()
    for rows, is_taken in ((torch.full((1, 4), 6e4), False), (torch.ones(1, 4), True)):
        with accelerator.autocast():
            loss = layer(rows.cuda()).float().sum()
        accelerator.backward(loss)
        norm, taken = update(layer, optimizer, accelerator, loss.new_zeros(()), 0.0)
        assert taken  # the scaler decides by itself
        assert bool(torch.isfinite(norm)) is is_taken
        assert torch.equal(layer.weight, before) is not is_taken
    assert accelerator.scaler.get_scale() < scale


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_4_bit_layer_with_its_update_is_the_plain_one(dtype: torch.dtype) -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes")
    torch.manual_seed(0)
    layer = bitsandbytes.nn.Linear4bit(
        128, 96, bias=False, compute_dtype=dtype, quant_type="nf4"
    ).cuda()  # fmt: skip
    layer.requires_grad_(False)

    def weight() -> torch.Tensor:
        state = layer.weight.quant_state
        whole: torch.Tensor = bitsandbytes.functional.dequantize_4bit(layer.weight.data, state)
        return whole.to(dtype)

    x, down, up = (
        torch.randn(shape, device="cuda", dtype=dtype, requires_grad=True)
        for shape in ((2, 33, 128), (8, 128), (96, 8))
    )
    fast = lora_product(x, layer, weight, down, up, 2.0)
    plain = plain_lora_linear(x, weight().T, None, down, up, 2.0)
    torch.testing.assert_close(fast, plain, atol=0.3, rtol=3e-2)
    upstream = torch.randn_like(plain)
    pairs = zip(
        torch.autograd.grad(fast, (x, down, up), upstream),
        torch.autograd.grad(plain, (x, down, up), upstream),
        strict=True,
    )
    for one, other in pairs:
        assert (one - other).norm() <= 2e-2 * other.norm()


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
