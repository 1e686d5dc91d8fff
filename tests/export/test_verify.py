"""The proof itself: its numbers by hand, its limits, and faults that it must catch."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kft.errors import ExportError
from kft.export.differences import worst_layer
from kft.export.merge import fold_adapter, load_adapter, merge_adapter, plain_base, save_merged
from kft.export.rounding import Limits, rounding_limits
from kft.export.verify import (
    Verification,
    compare,
    require,
    save_verification,
    verify_folder,
)
from kft.models.loader import load_model
from kft.recipe.schema import ModelSection
from kft.tasks.task import Batch

AUTO = "AutoModelForCausalLM"
FLOAT32 = Limits(1e-3, 1e-6, "float32", "fixed for float32")
Trained = Callable[..., Any]


def verify(
    run: Any,
    folder: Path,
    held_out: list[Any],
    dtype: torch.dtype,
    fault: Callable[[Any], None] | None = None,
) -> Verification:
    """The whole way, with a fault planted into the merged weights before they are saved."""
    adapted = load_adapter(plain_base(run.section, AUTO, run.base), run.folder)
    limits = rounding_limits(adapted, held_out, dtype)
    merged = fold_adapter(adapted)
    if fault is not None:
        fault(merged)
    part = save_merged(merged, run.tokenizer, folder / "merged", dtype, "5GB")
    return verify_folder(run.reference, part, AUTO, held_out, limits)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("checkpoint", ["tiny_gpt", "tiny_llama", "tiny_neox"])
def test_half_precision_is_within_its_limits(
    checkpoint: str,
    dtype: torch.dtype,
    trained: Trained,
    held_out: list[Any],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    run = trained(request.getfixturevalue(checkpoint))
    seen = verify(run, tmp_path, held_out, dtype)
    assert seen.passed
    assert seen.worst_layer is None
    # The limits are of the size of what happens: neither at the edge nor a barn door.
    assert 2 < seen.limit_kl / seen.kl_nats < 20
    assert 1.5 < seen.limit_logits / seen.max_logit_difference < 30
    assert seen.mean_logit_difference < seen.max_logit_difference
    assert seen.num_rows == 8
    assert seen.num_positions == sum(batch.num_tokens for batch in held_out)
    assert seen.loss_difference == pytest.approx(seen.merged_loss - seen.reference_loss, abs=1e-9)


@pytest.mark.parametrize("quantization", ["none", "nf4"])
@pytest.mark.parametrize(
    "dtype",
    [torch.float32, torch.float16, pytest.param(torch.bfloat16, marks=pytest.mark.slow)],
)
def test_transposed_c_proj_is_caught_and_named(
    dtype: torch.dtype,
    quantization: str,
    trained: Trained,
    tiny_gpt: Path,
    held_out: list[Any],
    tmp_path: Path,
) -> None:
    def transpose(merged: Any) -> None:
        weight = merged.transformer.h[1].attn.c_proj.weight
        assert weight.shape == (32, 32)  # no shape check can notice
        weight.data = weight.data.T.contiguous()

    run = trained(tiny_gpt, model={"quantization": quantization})
    seen = verify(run, tmp_path, held_out, dtype, transpose)
    assert not seen.passed
    assert seen.worst_layer == "transformer.h.1.attn.c_proj"
    assert seen.worst_layer_difference is not None
    assert seen.worst_layer_difference > 0.5
    with pytest.raises(ExportError) as caught:
        require(seen, tmp_path / "merged")
    assert caught.value.where is not None
    assert "transformer.h.1.attn.c_proj" in caught.value.where
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_scale_off_by_a_tenth_is_caught(
    dtype: torch.dtype, trained: Trained, tiny_llama: Path, held_out: list[Any], tmp_path: Path
) -> None:
    run = trained(tiny_llama)
    limits = rounding_limits(
        load_adapter(plain_base(run.section, AUTO), run.folder), held_out, dtype
    )
    path = run.folder / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, "lora_alpha": 1.1 * config["lora_alpha"]}))
    merged = merge_adapter(plain_base(run.section, AUTO), run.folder)
    part = save_merged(merged, run.tokenizer, tmp_path / "merged", dtype, "5GB")
    seen = verify_folder(run.reference, part, AUTO, held_out, limits)
    assert not seen.passed
    assert seen.kl_nats > 2 * seen.limit_kl


def test_forgotten_adapter_and_changed_norm_are_caught(
    trained: Trained, tiny_neox: Path, held_out: list[Any]
) -> None:
    run = trained(tiny_neox)
    assert not compare(run.reference, run.base, held_out, FLOAT32).passed
    merged = merge_adapter(plain_base(run.section, AUTO), run.folder)
    assert compare(run.reference, merged, held_out, FLOAT32).passed
    merged.gpt_neox.layers[0].post_attention_layernorm.weight.data *= 1.05
    seen = compare(run.reference, merged, held_out, FLOAT32)
    assert not seen.passed
    assert seen.worst_layer == "gpt_neox.layers.0.post_attention_layernorm"


def test_original_base_shows_what_the_usual_way_costs(
    trained: Trained, tiny_llama: Path, held_out: list[Any]
) -> None:
    run = trained(tiny_llama, model={"quantization": "nf4"})
    adapted = load_adapter(plain_base(run.section, AUTO, run.base), run.folder)
    limits = rounding_limits(adapted, held_out, torch.bfloat16)
    ours = compare(run.reference, fold_adapter(adapted), held_out, limits)
    usual_merged = merge_adapter(plain_base(run.section, AUTO), run.folder)
    usual = compare(run.reference, usual_merged, held_out, limits)
    assert ours.passed
    assert not usual.passed
    assert usual.kl_nats > 100 * limits.kl_nats
    assert usual.top1_agreement < ours.top1_agreement == 1.0
    assert abs(usual.loss_difference) > 100 * abs(ours.loss_difference)


def test_full_model_is_compared_the_same_way(
    tiny_gpt: Path, held_out: list[Any], tmp_path: Path
) -> None:
    section = ModelSection(name_or_path=str(tiny_gpt))
    cpu = torch.device("cpu")
    model = load_model(section, auto_class=AUTO, dtype=torch.float32, device=cpu)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.03)
    tokenizer = SimpleNamespace(save_pretrained=lambda _: None)
    limits = rounding_limits(model, held_out, torch.bfloat16)
    part = save_merged(model, tokenizer, tmp_path / "model", torch.bfloat16, "5GB")
    assert verify_folder(model, part, AUTO, held_out, limits).passed
    assert not verify_folder(model, tiny_gpt, AUTO, held_out, limits).passed


def test_folder_without_a_weight_is_refused(
    trained: Trained, tiny_llama: Path, held_out: list[Any], tmp_path: Path
) -> None:
    run = trained(tiny_llama)
    merged = merge_adapter(plain_base(run.section, AUTO), run.folder)
    part = save_merged(merged, run.tokenizer, tmp_path / "merged", torch.float32, "5GB")
    weights = load_file(part / "model.safetensors")
    del weights["model.layers.0.mlp.up_proj.weight"]
    save_file(weights, part / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ExportError, match=r"first `model\.layers\.0\.mlp\.up_proj\.weight`"):
        verify_folder(run.reference, part, AUTO, held_out, FLOAT32)


def test_limits_leave_the_model_alone_and_repeat(
    trained: Trained, tiny_gpt: Path, held_out: list[Any]
) -> None:
    run = trained(tiny_gpt)
    adapted = load_adapter(plain_base(run.section, AUTO), run.folder)
    before = copy.deepcopy(adapted.state_dict())
    limits = {
        dtype: rounding_limits(adapted, held_out[:1], dtype)
        for dtype in (torch.float32, torch.float16, torch.bfloat16)
    }
    assert all(torch.equal(value, before[key]) for key, value in adapted.state_dict().items())
    assert limits[torch.float32] == FLOAT32
    assert limits[torch.float16] == rounding_limits(adapted, held_out[:1], torch.float16)
    # 8 times the unit: 8 times the logits, 64 times the divergence.
    coarse, fine = limits[torch.bfloat16], limits[torch.float16]
    assert coarse.logits / fine.logits == pytest.approx(8, rel=0.5)
    assert coarse.kl_nats / fine.kl_nats == pytest.approx(64, rel=0.6)
    assert coarse.origin == "4 x the largest of 3 random roundings of base + adapter to bfloat16"


class Spoken(nn.Module):
    """Says the logits it was given, row by row in the order of the first token id."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)  # (rows, T, V)

    def forward(self, input_ids: Tensor, **_: Any) -> Any:
        row = self.logits[input_ids[0, 0]]
        return SimpleNamespace(logits=row[None, : input_ids.shape[1]])


def two_rows() -> Batch:
    """Row 0 has two tokens, row 1 one and a padding."""
    return Batch(
        input_ids=torch.tensor([[0, 1], [1, 0]]),
        labels=torch.tensor([[0, 1], [1, -100]]),
        attention_mask=torch.tensor([[1, 1], [1, 0]]),
        position_ids=None,
        num_tokens=3,
        num_counted=1,
    )


def test_numbers_by_hand() -> None:
    even, odds = [0.0, 0.0], [math.log(3.0), 0.0]  # probabilities 1/2, 1/2 and 3/4, 1/4
    here = Spoken(torch.tensor([[even, odds], [odds, even]]))
    there = Spoken(torch.tensor([[odds, odds], [odds, [99.0, -99.0]]]))  # 99 stands on padding
    seen = compare(here, there, [two_rows()], Limits(2.0, 1.0, "float32", "by hand"))
    assert seen.num_rows == 2
    assert seen.num_positions == 3
    assert seen.max_logit_difference == pytest.approx(math.log(3.0))
    assert seen.mean_logit_difference == pytest.approx(math.log(3.0) / 6)
    # KL(1/2, 1/2 || 3/4, 1/4) = 1/2 log(2/3) + 1/2 log 2 at one position of three
    assert seen.kl_nats == pytest.approx(0.5 * math.log(4 / 3) / 3)
    assert seen.top1_agreement == pytest.approx(1.0)  # a tie goes to the first token
    assert seen.reference_loss == pytest.approx(math.log(2.0))  # one target, probability 1/2
    assert seen.merged_loss == pytest.approx(math.log(4.0))
    assert seen.loss_difference == pytest.approx(math.log(2.0))
    assert seen.passed


def test_nan_never_passes(tmp_path: Path) -> None:
    here = Spoken(torch.zeros(2, 2, 2))
    there = Spoken(torch.full((2, 2, 2), torch.nan))
    limits = Limits(math.inf, math.inf, "float32", "by hand")
    with pytest.raises(ExportError, match="no text to compare"):
        compare(here, there, [], limits)
    seen = compare(here, there, [two_rows()], limits)
    assert not seen.passed
    assert seen.worst_layer is None  # there are no layers to look into
    text = save_verification(seen, tmp_path).read_text(encoding="utf-8")
    assert json.loads(text)["kl_nats"] is None
    assert "NaN" not in text


def test_worst_layer_is_the_fault_not_what_is_behind_it(
    trained: Trained, tiny_llama: Path, held_out: list[Any]
) -> None:
    run = trained(tiny_llama)
    merged = merge_adapter(plain_base(run.section, AUTO), run.folder)
    assert worst_layer(run.reference, merged, held_out[0])[1] < 1e-5
    for name in ("model.embed_tokens", "model.layers.0.self_attn.k_proj", "lm_head"):
        faulty = copy.deepcopy(merged)
        faulty.get_submodule(name).weight.data[5] += 0.5
        faulty.get_submodule(name).weight.data *= 1.02
        assert worst_layer(run.reference, faulty, held_out[0])[0] == name
    assert not any(module._forward_hooks for module in run.reference.modules())


def test_the_error_reads_well() -> None:
    seen = Verification(
        max_logit_difference=0.41234,
        mean_logit_difference=0.01,
        kl_nats=0.0123,
        top1_agreement=0.9,
        reference_loss=2.0,
        merged_loss=2.1,
        loss_difference=0.1,
        num_rows=8,
        num_positions=100,
        limit_logits=0.0201,
        limit_kl=1.5e-5,
        limits_from="4 x the largest of 3 random roundings of base + adapter to bfloat16",
        dtype="bfloat16",
        passed=False,
        worst_layer="transformer.h.7.mlp.c_proj",
        worst_layer_difference=1.3,
    )
    with pytest.raises(ExportError) as caught:
        require(seen, Path("runs/ko_gpt/merged"))
    assert str(caught.value) == (
        "error: The merged model for `runs/ko_gpt/merged` doesn't agree with the trained one\n"
        "  --> layer `transformer.h.7.mlp.c_proj`: largest difference of logits 0.41, "
        "KL 0.012 nats\n"
        "  expected: at most 0.02 and 1.5e-05 nats for bfloat16"
    )
