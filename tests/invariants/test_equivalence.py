"""Runs that must agree: kft against a plain loop, and one split into micro-batches with another."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import kft

if TYPE_CHECKING:
    from conftest import RecipeFile

STEPS = 20
LEARNING_RATE = 3e-3
WARMUP = 4
ROWS = 8
SEED = 7


def plain_loop(checkpoint: Path, rows: list[dict[str, str]]) -> tuple[list[float], dict[str, Any]]:
    """LoRA in transformers + peft + torch, one row at a time: 40 lines without kft."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    torch.manual_seed(SEED)
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    targets = {"gpt2": ["c_attn", "c_fc", "c_proj"]}.get(
        model.config.model_type,
        ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    )
    config = LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=targets,
        task_type="CAUSAL_LM",
        fan_in_fan_out=model.config.model_type == "gpt2",
    )
    torch.manual_seed(SEED)
    model = get_peft_model(model, config)
    model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, weight_decay=0.0)
    losses = []
    windows = math.ceil(len(rows) / ROWS)
    for step in range(STEPS):
        epoch, position = divmod(step, windows)
        order = np.random.default_rng([SEED, epoch]).permutation(len(rows))
        total, count = 0.0, 0
        for index in order[position * ROWS : (position + 1) * ROWS]:
            prompt = tokenizer(rows[index]["prompt"]).input_ids
            whole = tokenizer(rows[index]["prompt"] + rows[index]["completion"]).input_ids
            if whole[: len(prompt)] != prompt:
                whole = prompt + tokenizer(rows[index]["completion"]).input_ids
            ids = torch.tensor([[*whole, tokenizer.eos_token_id]])
            logits = model(input_ids=ids).logits[0, len(prompt) - 1 : -1].float()
            total = total + torch.nn.functional.cross_entropy(
                logits, ids[0, len(prompt) :], reduction="sum"
            )
            count += ids.shape[1] - len(prompt)
        loss = total / count
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        for group in optimizer.param_groups:
            warm = min(1.0, (step + 1) / WARMUP)
            decay = max(0.0, (step + 1 - WARMUP) / (STEPS + 1 - WARMUP))
            group["lr"] = LEARNING_RATE * warm * 0.5 * (1 + math.cos(math.pi * decay))
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    state = {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}
    return losses, {name.replace(".default", ""): weight for name, weight in state.items()}


def run(
    recipe_file: RecipeFile,
    checkpoint: Path,
    rows: list[dict[str, str]],
    split: tuple[int, int] = (ROWS, 1),
    overrides: dict[str, Any] | None = None,
) -> tuple[list[float], list[float], dict[str, Any]]:
    """Losses, gradient norms and adapter of 20 kft steps; ``split`` is rows x micro-batches."""
    path = recipe_file(
        checkpoint,
        rows,
        {
            "data.template": "plain",
            "data.eval_fraction": 0.0,
            "train.max_steps": STEPS,
            "train.per_device_train_batch_size": split[0],
            "train.gradient_accumulation_steps": split[1],
            "train.learning_rate": LEARNING_RATE,
            "train.warmup_ratio": WARMUP / STEPS,
            "train.seed": SEED,
            "export.merge": False,
            "output_dir": str(Path(str(checkpoint.name)) / "unused"),
            **(overrides or {}),
        },
        name=f"split{split[0]}-{len(str(overrides))}.yaml",
    )
    done = kft.finetune(path, {"output_dir": str(path.with_suffix(""))})
    metrics = done.metrics
    weights = load_file(done.folder / "adapter" / "adapter_model.safetensors")
    return metrics["loss"].tolist(), metrics["grad_norm"].tolist(), weights


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("family", ["tiny_gpt", "tiny_llama"])
def test_kft_takes_the_steps_of_a_plain_loop(
    family: str,
    fast: bool,
    request: pytest.FixtureRequest,
    recipe_file: RecipeFile,
    korean_rows: list[dict[str, str]],
) -> None:
    checkpoint = request.getfixturevalue(family)
    expected, expected_weights = plain_loop(checkpoint, korean_rows)
    way = {"train.fast_paths": fast}
    losses, _, weights = run(recipe_file, checkpoint, korean_rows, overrides=way)
    assert losses == pytest.approx(expected, abs=1e-5)
    assert (
        expected[-1] < expected[0] - 0.1
    )  # it learned something, so there is something to agree on
    assert weights.keys() == expected_weights.keys()
    for name, weight in weights.items():
        torch.testing.assert_close(weight, expected_weights[name], atol=1e-5, rtol=0)
    assert any(weight.abs().max() > 1e-3 for name, weight in weights.items() if "lora_B" in name)


def test_a_window_takes_the_same_step_however_it_is_cut(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: list[dict[str, str]]
) -> None:
    whole = run(recipe_file, tiny_gpt, korean_rows, (8, 1))
    for split in ((4, 2), (1, 8)):
        other = run(recipe_file, tiny_gpt, korean_rows, split)
        assert other[0] == pytest.approx(whole[0], abs=1e-5)
        assert other[1] == pytest.approx(whole[1], rel=1e-4)
        differences = np.array(other[0]) - np.array(whole[0])
        # A one-sided drift would stay inside the tolerance and still be wrong.
        assert (differences >= 0).any()
        assert (differences <= 0).any()
        for name, weight in whole[2].items():
            torch.testing.assert_close(other[2][name], weight, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("family", "fast"),
    [
        ("tiny_gpt", True),
        pytest.param("tiny_gpt", False, marks=pytest.mark.slow),
        ("tiny_bert", True),
        pytest.param("tiny_llama", True, marks=pytest.mark.slow),
        pytest.param("tiny_neox", True, marks=pytest.mark.slow),
        pytest.param("tiny_bert", False, marks=pytest.mark.slow),
    ],
)
def test_packed_rows_take_the_steps_of_single_ones(
    family: str,
    fast: bool,
    request: pytest.FixtureRequest,
    recipe_file: RecipeFile,
    korean_rows: list[dict[str, str]],
) -> None:
    """A window of all rows is the same step, whether they share packed rows or not."""
    checkpoint = request.getfixturevalue(family)
    if family == "tiny_bert":
        korean_rows = [
            {"prompt": "하늘이", "completion": " ".join(["높고 바람이 선선하다"] * (1 + n % 4))}
            for n in range(24)
        ]
    single = run(recipe_file, checkpoint, korean_rows, (24, 1), {"train.fast_paths": False})
    packed = {"train.fast_paths": fast, "data.packing": True}
    other = run(recipe_file, checkpoint, korean_rows, (2, 12), packed)
    assert other[0] == pytest.approx(single[0], abs=1e-5)
    assert other[1] == pytest.approx(single[1], rel=1e-4)
    for name, weight in single[2].items():
        torch.testing.assert_close(other[2][name], weight, atol=1e-5, rtol=0)


@pytest.mark.parametrize("layout", ["text", pytest.param("train_on all", marks=pytest.mark.slow)])
def test_packed_texts_take_the_steps_of_single_ones(
    layout: str, tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: list[dict[str, str]]
) -> None:
    """Where a row's first token is a label too, it is no target of the row before it."""
    rows, keys = korean_rows, {"data.train_on": "all"}
    if layout == "text":
        rows, keys = [{"text": row["completion"]} for row in korean_rows], {"data.template": "auto"}
    single = run(recipe_file, tiny_gpt, rows, (24, 1), {"train.fast_paths": False, **keys})
    other = run(recipe_file, tiny_gpt, rows, (2, 12), {"data.packing": True, **keys})
    assert other[0] == pytest.approx(single[0], abs=1e-5)
    assert other[1] == pytest.approx(single[1], rel=1e-4)
    for name, weight in single[2].items():
        torch.testing.assert_close(other[2][name], weight, atol=1e-5, rtol=0)


def test_a_fresh_lora_is_the_base_model(tiny_gpt: Path, korean_rows: list[dict[str, str]]) -> None:
    from kft.models.adapters import add_adapter
    from kft.models.loader import load_model
    from kft.recipe.schema import AdapterSection, ModelSection

    section = ModelSection(name_or_path=str(tiny_gpt))
    device = torch.device("cpu")
    base = load_model(
        section, auto_class="AutoModelForCausalLM", dtype=torch.float32, device=device
    )
    ids = torch.tensor(
        [AutoTokenizer.from_pretrained(tiny_gpt)(korean_rows[0]["prompt"]).input_ids]
    )
    before = base(input_ids=ids).logits
    adapted = add_adapter(base, AdapterSection(), "causal_lm")
    assert torch.equal(adapted(input_ids=ids).logits, before)
