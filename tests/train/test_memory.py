"""The memory plan: each term worked out by hand, and what becomes of a recipe that doesn't fit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kft.models.kept import Kept
from kft.models.sizes import ModelSizes
from kft.train import batch_size, memory
from kft.train.free_memory import free_bytes
from kft.train.memory import MicroBatch, Setting, plan_memory
from kft.train.micro_batch import Lengths, largest_batch, packed_batch
from kft.train.sharing import Sharing

SIZES = ModelSizes(
    frozen=1000,
    quantized=0,
    trained=100,
    small_trained=100,
    adapted=600,
    file=1000,
    largest_layer=256,
    largest_block=200,
    beside_blocks=400,
    blocks=(Kept(10, 2, 1), Kept(10, 2, 1)),
    outside=Kept(stream=4, float32=2),
    width=4,
    inner=16,
    heads=2,
    vocabulary=50,
    head_is_cut=True,
    head_is_trained=False,
)
BATCH = MicroBatch(tokens=8, targets=3)
ALL = Sharing("FSDP2", weights=True, gradients=True, optimizer=True)


def test_every_term_of_a_small_model() -> None:
    plan = plan_memory(SIZES, BATCH, Setting(process_bytes=7, file_bytes=4000))
    assert (plan.process, plan.weights, plan.adapter, plan.gradients) == (7, 4000, 400, 400)
    assert plan.optimizer == 800
    assert plan.activations == 8 * 4 * (13 + 13 + 6)
    assert plan.logits == 3 * 50 * 4 + 2 * 3 * 4 * 4  # 3 targets are less than a chunk
    assert plan.backward == (16 + 3 * 4) * 8 * 4
    assert plan.allocator == memory.PROCESS_GROWTH + 256  # a quarter of the activations
    held = 7 + 4000 + 400 + 400 + 800
    assert plan.training == held + 1024 + 896 + plan.allocator  # backward is more than the logits
    assert plan.total == plan.training
    assert plan.phase == "training"


def test_half_precision_on_a_cpu_fills_rows_up_and_keeps_programs() -> None:
    half = Setting(computed_bytes=2)
    plan = plan_memory(SIZES, replace(BATCH, tokens=100), half)
    assert plan.activations == plan_memory(SIZES, replace(BATCH, tokens=104), half).activations
    assert plan.backward == 38 * 4 * 104  # attention's slopes are more than the MLP's
    assert plan.logits == 64 * 50 * 2 + 2 * 3 * 4 * 2  # three targets in a chunk of 64
    grown = memory.PROCESS_GROWTH + memory.PROGRAMS
    assert plan.allocator == grown + plan.activations // 4
    assert plan.loading == plan_memory(SIZES, BATCH, Setting()).loading  # before there are any


def test_ranks_share_what_is_held_and_gather_two_blocks_at_a_time() -> None:
    alone = plan_memory(SIZES, BATCH, Setting())
    shared = plan_memory(SIZES, BATCH, Setting(sharing=ALL, ranks=2))
    gathered = 4 * (400 + 2 * 200) + 2 * 100 * 4 // 2  # two of two blocks have the whole adapter
    assert shared.weights == alone.weights // 2 + gathered
    assert (shared.adapter, shared.gradients, shared.optimizer) == (200, 200, 400)
    assert (shared.activations, shared.logits) == (alone.activations, alone.logits)
    whole = replace(SIZES, frozen=0, trained=1000)
    plan = plan_memory(whole, BATCH, Setting(sharing=ALL, ranks=4))
    assert (plan.weights, plan.adapter, plan.optimizer) == (4 * 800, 1000, 2000)
    bits = replace(SIZES, frozen=600, quantized=400)
    nf4 = Setting(sharing=ALL, ranks=4, quantization="nf4", weight_bytes=2)
    plan = plan_memory(bits, BATCH, nf4)
    each = 0.5 + 1 / 64 + 4 / (64 * 256)
    assert plan.weights == -(-(1200 + round(400 * each)) // 4) + round(
        2 * 400 + 2 * 200 * each + 400
    )


def test_zero_shares_what_its_stage_says_and_steps_with_copies() -> None:
    alone = plan_memory(SIZES, BATCH, Setting())
    first = Sharing("ZeRO, stage 1", optimizer=True, is_zero=True, bucket=50)
    plan = plan_memory(SIZES, BATCH, Setting(sharing=first, ranks=2))
    assert (plan.weights, plan.adapter, plan.gradients) == (alone.weights, 400, 400 + 50 * 4)
    assert plan.optimizer == (800 + 400) // 2
    second = plan_memory(SIZES, BATCH, Setting(sharing=replace(first, gradients=True), ranks=2))
    assert (second.adapter, second.gradients, second.optimizer) == (400, 200 + 2 * 50 * 4, 600)


def test_zero_keeps_what_it_gathered_unless_activations_are_computed_again() -> None:
    third = Sharing("ZeRO, stage 3", weights=True, gradients=True, optimizer=True, is_zero=True)
    kept, again = (
        plan_memory(SIZES, BATCH, Setting(sharing=third, ranks=2, recomputes=recomputes))
        for recomputes in (False, True)
    )
    alone = plan_memory(SIZES, BATCH, Setting())
    assert kept.weights == alone.weights // 2 + alone.weights + 400
    fsdp = plan_memory(SIZES, BATCH, Setting(sharing=ALL, ranks=2, recomputes=True))
    assert again.weights == fsdp.weights


def test_mixed_precision_keeps_copies_and_a_wider_stream() -> None:
    mixed = Setting(weight_bytes=4, computed_bytes=2, stream_bytes=4)
    plan = plan_memory(SIZES, BATCH, mixed)
    per_token = 20 * 2 + (4 + 4) * 4 + (2 + 2) * 4
    assert plan.activations == 8 * per_token + 600 * 2


def test_large_arrays_leave_no_scattered_memory() -> None:
    tokens = 2**25 // (16 * 4)  # the widest array has pages of its own, the others don't
    plan = plan_memory(SIZES, MicroBatch(tokens, 3), Setting())
    assert plan.allocator == memory.PROCESS_GROWTH + plan.activations // 8
    assert plan_memory(SIZES, MicroBatch(4 * tokens, 3), Setting()).allocator == 20_000_000
    assert plan_memory(SIZES, BATCH, Setting(device="cuda")).allocator == 0


def test_checkpointing_keeps_the_blocks_inputs_and_one_block() -> None:
    plan = plan_memory(SIZES, BATCH, Setting(recomputes=True))
    assert plan.activations == 8 * 4 * (6 + 2 * 4 + 13)


@pytest.mark.parametrize(
    ("quantization", "double", "bits"),
    [("nf4", True, 4.126953125), ("fp4", False, 4.5), ("int8", True, 8.0)],
)
def test_bits_of_a_quantized_weight(quantization: str, double: bool, bits: float) -> None:
    sizes = replace(SIZES, frozen=0, quantized=1_000_000)
    setting = Setting(device="cuda", quantization=quantization, double_quant=double)
    assert plan_memory(sizes, BATCH, setting).weights == round(1_000_000 * bits / 8)


def test_a_quantized_model_keeps_the_pages_of_its_file_on_a_cpu() -> None:
    sizes = replace(SIZES, frozen=200, quantized=800)
    setting = Setting(quantization="nf4", file_bytes=4000)
    small = round(200 * 4 + 800 * 4.126953125 / 8)
    assert plan_memory(sizes, BATCH, setting).weights == small + 800 * 4
    converted = replace(setting, file_bytes=2000)  # a file of two bytes each is read and left
    plan = plan_memory(sizes, BATCH, converted)
    assert plan.weights == small
    assert plan.loading == small + 400 + memory.PROCESS_GROWTH + 2000


def test_small_tensors_keep_a_whole_optimizer_state() -> None:
    sizes = replace(SIZES, trained=100_000, small_trained=1000)
    expected = 1000 * 8 + round(99_000 * (2 + 8 / 256))
    assert memory.optimizer_bytes(sizes, "adamw_8bit") == expected
    assert memory.optimizer_bytes(sizes, "paged_adamw_8bit") == expected


def test_a_head_that_is_not_cut_holds_the_logits_of_every_position() -> None:
    whole = replace(SIZES, head_is_cut=False)
    assert memory.logit_bytes(whole, BATCH, Setting()) == 4 * 50 * (8 + 2 * 3)
    assert memory.logit_bytes(replace(SIZES, vocabulary=0), BATCH, Setting()) == 0


@pytest.mark.parametrize(
    ("device", "computed", "each"), [("cpu", 4, 4), ("cpu", 2, 2), ("cuda", 4, 4), ("cuda", 2, 6)]
)
def test_a_head_that_is_cut_holds_a_chunk_of_logits(device: str, computed: int, each: int) -> None:
    large = replace(SIZES, vocabulary=2**20)  # sixteen rows of it are a chunk
    setting: Any = Setting(device=device, computed_bytes=computed)
    chunk = 16 * 2**20 * each + 2 * 1000 * 4 * computed
    assert memory.logit_bytes(large, MicroBatch(2000, 1000), setting) == chunk


def test_auto_rows() -> None:
    rows = batch_size.automatic_rows
    assert rows(1000, 10**6, accumulation=1, epochs=1, max_steps=None) == batch_size.MOST_ROWS
    assert rows(7, 10**6, accumulation=1, epochs=1, max_steps=None) == 4
    assert rows(64, 400, accumulation=4, epochs=3, max_steps=None) == 2  # 1,200 / 4 / 100 = 3
    assert rows(64, 3, accumulation=1, epochs=1, max_steps=None) == 1
    assert rows(64, 20, accumulation=1, epochs=1, max_steps=5) == 16
    assert rows(0, 400, accumulation=1, epochs=3, max_steps=None) == 1


def test_the_largest_micro_batch_is_found_in_its_window() -> None:
    lengths = Lengths(np.array([5, 1, 9, 2]), np.array([1, 1, 4, 2]), np.array([3]))
    assert largest_batch(lengths, 2, 2, 0, padded=False) == MicroBatch(14, 5)
    assert largest_batch(lengths, 2, 2, 0, padded=True).tokens == 18
    assert largest_batch(lengths, 8, 1, 0, padded=False) == MicroBatch(17, 8)
    # A window has no more rows than there are, whatever number is asked for.
    for rows, accumulation in ((10**14, 1), (8, 10**12)):
        assert largest_batch(lengths, rows, accumulation, 0, padded=False) == MicroBatch(17, 8)
    assert packed_batch(lengths, 1, 9) == MicroBatch(9, round(9 * 8 / 17))
    assert packed_batch(lengths, 5, 9) == MicroBatch(17, 8)
    assert lengths.cut(4).targets.tolist() == [0, 1, 0, 2]


def test_the_limit_of_a_control_group_counts(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("5000\n")
    (tmp_path / "memory.current").write_text("4000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 500\n")
    assert free_bytes(torch.device("cpu"), tmp_path) == 1500
    (tmp_path / "memory.max").write_text("max\n")
    assert free_bytes(torch.device("cpu"), tmp_path) > 1500


def run_recipe(tiny_gpt: Path, tmp_path: Path, **more: Any) -> tuple[str, dict[str, Any]]:
    rows = tmp_path / "rows.jsonl"
    lines = [{"instruction": "하늘이 높고", "output": "바람이 선선하다"} for _ in range(40)]
    texts = [json.dumps(line | {"input": str(number)}) for number, line in enumerate(lines)]
    rows.write_text("\n".join(texts) + "\n", encoding="utf-8")
    recipe = tmp_path / "recipe.yaml"
    content: dict[str, Any] = {
        "model": {"name_or_path": str(tiny_gpt)},
        "data": {"train": str(rows), "max_length": 128, "packing": False},
        "evaluate": {"generate": 0},
        "output_dir": str(tmp_path / "run"),
    }
    recipe.write_text(json.dumps(content), encoding="utf-8")
    return str(recipe), {
        "train.max_steps": 2, "export.merge": False, **more
    }  # fmt: skip


def test_a_recipe_that_does_not_fit_is_refused(
    tiny_gpt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import kft
    from kft.api import memory as planned
    from kft.cli.check_tables import check_text
    from kft.errors import MemoryPlanError

    path, overrides = run_recipe(tiny_gpt, tmp_path)
    recipe = kft.read_recipe(path, overrides)
    checked = kft.check(recipe)
    ample = checked.sections["memory"]
    assert ample["fits"]
    shown = check_text(checked)
    assert f"{ample['needed_bytes'] / 2**30:.2f} of" in shown
    assert "8 in a micro-batch" in shown
    held = ample["process_bytes"]
    # Room for less than eight rows and for more than one.
    margin = (ample["needed_bytes"] - 20_000) / 0.9 - held
    monkeypatch.setattr(planned, "held_bytes", lambda _: held)
    monkeypatch.setattr(planned, "free_bytes", lambda _: int(margin))
    with pytest.raises(MemoryPlanError) as refused:
        kft.finetune(recipe)
    assert refused.value.exit_code == 2
    assert not (tmp_path / "run").exists()
    assert "train.per_device_train_batch_size=" in str(refused.value.hint)
    assert "train.gradient_accumulation_steps=" in str(refused.value.hint)
    checked = kft.check(recipe)
    assert checked.has_errors
    words = str(refused.value.hint).split("`")[1].split()
    mended = {word.partition("=")[0]: int(word.partition("=")[2]) for word in words}
    assert kft.check(kft.read_recipe(path, overrides | mended)).sections["memory"]["fits"]


def test_auto_is_resolved_told_and_kept(tiny_gpt: Path, tmp_path: Path) -> None:
    import kft

    path, overrides = run_recipe(
        tiny_gpt, tmp_path, **{"train.per_device_train_batch_size": "auto"}
    )
    run = kft.finetune(kft.read_recipe(path, overrides))
    environment = json.loads((run.folder / "environment.json").read_text(encoding="utf-8"))
    assert environment["auto"]["train.per_device_train_batch_size"] == "32"  # of 38 rows
    assert run.recipe.train.per_device_train_batch_size == "auto"
    assert run.result["predicted_memory_bytes"] > 0
    from kft.api.begun import begun

    assert begun(run.folder).rows == 32
