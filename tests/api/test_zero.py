"""`kft finetune` where DeepSpeed shares the run's state (ZeRO), on CPUs: one process's run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from shared_runs import FULL, HALF, KEYS, cut, require_same

import kft
from kft.api.zero import zero_plugin
from kft.errors import UsageError
from kft.recipe.reader import read_recipe

if TYPE_CHECKING:
    from conftest import RecipeFile

Rows = list[dict[str, str]]
ROOT = Path(__file__).resolve().parents[2]
ASKED = {"ACCELERATE_USE_DEEPSPEED": "true"}
LAUNCHED = {
    **ASKED,
    "WORLD_SIZE": "2",
    "RANK": "0",
    "LOCAL_RANK": "0",
    "MASTER_ADDR": "localhost",
    "MASTER_PORT": "29500",
}
"""What a launcher tells the first of two processes."""


def share(
    recipe: Path, folder: Path, *words: str, stage: int, ranks: int = 2, code: int = 0,
    config: Path | None = None,
) -> tuple[str, str]:  # fmt: skip
    """Run `kft finetune` on so many ranks under a stage of ZeRO; its stdout and stderr."""
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    said = ["-m", "kft", "finetune", str(recipe), f"output_dir={folder}", *words]
    told = {"PYTHONPATH": str(ROOT), "ACCELERATE_DEEPSPEED_ZERO_STAGE": str(stage), **ASKED}
    told |= {"ACCELERATE_DEEPSPEED_CONFIG_FILE": str(config)} if config else {}
    done = subprocess.run(
        [sys.executable, "-m", *launcher, *said],
        env={**os.environ, **told}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert (done.returncode != 0) == (code != 0), done.stderr[:3000]
    return done.stdout, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "checkpoint", "keys", "limit"),
    [
        (1, "tiny_gpt", {"adapter.method": "lora", "data.packing": False}, 1e-5),
        (2, "tiny_gpt", {"train.load_best_model_at_end": True, **FULL}, 1e-4),
        (2, "tiny_llama", {"adapter.method": "qlora"}, 1e-4),
        (3, "tiny_gpt", {"adapter.method": "lora", "train.gradient_checkpointing": True}, 1e-5),
        (3, "tiny_llama", {"adapter.method": "lora", "train.fast_paths": False}, 1e-4),
        (3, "tiny_gpt", {"train.load_best_model_at_end": True, **FULL}, 1e-4),
        (3, "tiny_bert", {"task": "sequence_classification", "adapter.method": "lora"}, 1e-4),
        (2, "tiny_bert", {"task": "sequence_classification", **FULL}, 1e-4),
    ],
)
def test_a_run_is_that_of_one_process(
    stage: int,
    checkpoint: str,
    keys: dict[str, Any],
    limit: float,
    request: pytest.FixtureRequest,
    recipe_file: RecipeFile,
    korean_rows: Rows,
    tmp_path: Path,
) -> None:
    rows = korean_rows
    if "task" in keys:
        texts = [row["completion"] for row in korean_rows]
        rows = [{"text": text, "label": "길다" if len(text) > 60 else "짧다"} for text in texts]
    path = recipe_file(request.getfixturevalue(checkpoint), rows, KEYS | keys)
    one = kft.finetune(path)
    said, told = share(path, tmp_path / "two", HALF, stage=stage)
    assert said.splitlines() == [str(tmp_path / "two")]  # DeepSpeed's own lines are not ours
    assert told.count("reading data") == 1  # one voice
    assert f"2 x CPU (x86_64, 1 thread), float32, ZeRO, stage {stage}" in told
    assert "Warning" not in told
    require_same(tmp_path / "two", one.folder, weights=limit)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "checkpoint", "method"),
    [
        (1, "tiny_gpt", "full"),
        (2, "tiny_gpt", "lora"),
        (3, "tiny_gpt", "lora"),
        (3, "tiny_llama", "full"),
    ],
)
def test_it_goes_on_with_and_without_zero(
    stage: int, checkpoint: str, method: str, request: pytest.FixtureRequest,
    recipe_file: RecipeFile, korean_rows: Rows, tmp_path: Path,
) -> None:  # fmt: skip
    """On three ranks too, of which few weights are a multiple."""
    folder = request.getfixturevalue(checkpoint)
    path = recipe_file(folder, korean_rows, KEYS | (FULL if method == "full" else {}))
    whole = kft.finetune(path).folder
    share(path, tmp_path / "shared", HALF, stage=stage)
    limit = 1e-5 if method == "lora" else 1e-4
    alone = cut(tmp_path / "shared")
    told = {"output_dir": str(alone), "train.gradient_accumulation_steps": 2}
    kft.finetune(path, told, resume=True)
    require_same(alone, whole, weights=limit)
    together = cut(whole)
    share(path, together, "--resume", stage=stage, ranks=3)
    require_same(together, whole, weights=limit)


@pytest.mark.slow
def test_weights_that_come_and_go_at_each_pass(
    tiny_bert: Path, recipe_file: RecipeFile, korean_rows: Rows, tmp_path: Path
) -> None:
    """As those of a large model do; tiny ones are small enough to stay. A head of three rows."""
    texts = [row["completion"] for row in korean_rows]
    rows = [{"text": text, "label": "가나다"[len(text) % 3]} for text in texts]
    keys = {"task": "sequence_classification", "train.load_best_model_at_end": True, **KEYS}
    asked = {"stage": 3, "stage3_param_persistence_threshold": 0}
    config = tmp_path / "ds.json"
    config.write_text(json.dumps({"zero_optimization": asked}), encoding="utf-8")
    path = recipe_file(tiny_bert, rows, keys)
    whole = kft.finetune(path).folder
    share(path, tmp_path / "two", HALF, stage=3, config=config)
    require_same(tmp_path / "two", whole, weights=1e-4)
    together = cut(whole)
    share(path, together, "--resume", stage=3, ranks=3, config=config)
    require_same(together, whole, weights=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [2, 3])
def test_a_weight_that_is_no_number_is_named(
    stage: int, tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: Rows, tmp_path: Path
) -> None:
    """On the other rank's part of it, where the main one sees none."""
    broken = tmp_path / "broken"
    shutil.copytree(tiny_gpt, broken)
    weights = load_file(broken / "model.safetensors")
    weights["transformer.h.1.mlp.c_fc.weight"][-1, -1] = float("nan")
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    path = recipe_file(
        broken, korean_rows, KEYS | {"data.eval_fraction": 0.0, "evaluate.eval_steps": None}
    )
    _, told = share(path, tmp_path / "two", HALF, stage=stage, code=1)
    assert told.count("error: The loss is") == 1
    assert ".transformer.h.1.mlp.c_fc.base_layer.weight` holds others" in told


@pytest.mark.slow
@pytest.mark.parametrize("stage", [2, 3])
def test_numbers_that_are_not_finite_are_told_once_and_never_stepped_with(
    stage: int, tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: Rows, tmp_path: Path
) -> None:
    path = recipe_file(tiny_gpt, korean_rows, KEYS | {"train.learning_rate": 1e30})
    _, told = share(path, tmp_path / "two", HALF, stage=stage, code=1)
    assert told.count("error: The loss is") == 1
    assert "The step was not taken" in told


def test_who_asks_for_nothing_gets_nothing(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: Rows
) -> None:
    recipe = read_recipe(recipe_file(tiny_gpt, korean_rows, KEYS))
    assert zero_plugin(recipe, torch.float32) is None


def test_the_recipe_says_what_is_its_own(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: Rows, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    recipe = read_recipe(recipe_file(tiny_gpt, korean_rows, KEYS))
    asked = {
        "train_batch_size": "auto",
        "gradient_clipping": "auto",
        "bf16": {"enabled": "auto"},
        "zero_optimization": {"stage": 3, "overlap_comm": True, "reduce_bucket_size": "auto"},
    }
    (tmp_path / "ds.json").write_text(json.dumps(asked), encoding="utf-8")
    for name, value in LAUNCHED.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_CONFIG_FILE", str(tmp_path / "ds.json"))
    monkeypatch.setenv("ACCELERATE_CONFIG_DS_FIELDS", "mixed_precision")  # of `accelerate config`
    plugin = zero_plugin(recipe, torch.bfloat16)
    assert plugin is not None
    assert plugin.zero_stage == 3
    config = plugin.deepspeed_config
    assert config["gradient_clipping"] == recipe.train.max_grad_norm
    assert config["gradient_accumulation_steps"] == 1
    zero = config["zero_optimization"]
    assert (zero["stage"], zero["overlap_comm"]) == (3, True)
    assert "auto" not in json.dumps(config)
    assert not {"bf16", "fp16", "optimizer", "scheduler"} & config.keys()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"bf16": {"enabled": True}}, "`bf16: .*`train.precision` says it"),
        ({"gradient_clipping": 5.0}, "`gradient_clipping: 5.0`.*`train.max_grad_norm`"),
        ({"optimizer": {"type": "Adam"}}, "`train.optim` says it"),
        ({"flops_profiler": {"enabled": True}}, "asks for `flops_profiler`"),
        ({"zero_optimization": {"stage": 0}}, "stage 0 was asked for"),
        (
            {"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}}},
            "asked for `offload_optimizer`",
        ),
        ({"zero_optimization": {"stage": 2, "cpu_offload": True}}, "says `cpu_offload: True`"),
        (
            {"zero_optimization": {"stage": 2, "round_robin_gradients": True}},
            "says `round_robin_gradients: True`",
        ),
        ({"zero_optimization": None}, "says nothing of ZeRO"),
        (None, "can't be read"),
    ],
)
def test_what_its_configuration_may_not_say_is_refused(
    asked: dict[str, Any] | None, said: str, tiny_gpt: Path, recipe_file: RecipeFile,
    korean_rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    recipe = read_recipe(recipe_file(tiny_gpt, korean_rows, KEYS))
    text = "{" if asked is None else json.dumps({"zero_optimization": {"stage": 2}, **asked})
    (tmp_path / "ds.json").write_text(text, encoding="utf-8")
    for name, value in LAUNCHED.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_CONFIG_FILE", str(tmp_path / "ds.json"))
    with pytest.raises(UsageError, match=f"(?s){said}"):
        zero_plugin(recipe, torch.float32)


@pytest.mark.parametrize(
    ("environment", "keys", "said"),
    [
        ({"WORLD_SIZE": "1"}, {}, "isn't in force: this process shares with no other"),
        ({"ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE": "cpu"}, {}, "asked for `offload_param`"),
        ({}, {"adapter.method": "qlora", "model.quantization": "int8"}, "quantization: int8"),
        (
            {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"},
            {"adapter.method": "qlora"},
            "quantization: nf4` isn't done with ZeRO's stage 3",
        ),
        ({}, {"train.optim": "adamw_8bit"}, "train.optim: adamw_8bit` isn't done with DeepSpeed"),
        ({}, {"train.torch_compile": True}, "train.torch_compile: true"),
        ({}, {"train.activation_offloading": True}, "train.activation_offloading: true"),
    ],
)
def test_what_is_not_done_with_it_is_refused(
    environment: dict[str, str],
    keys: dict[str, Any],
    said: str,
    tiny_gpt: Path,
    recipe_file: RecipeFile,
    korean_rows: Rows,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    for name, value in {**LAUNCHED, **environment}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=said):
        kft.finetune(recipe_file(tiny_gpt, korean_rows, KEYS | keys))
    assert not (tmp_path / "run").exists()


def test_float16_is_refused(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = read_recipe(recipe_file(tiny_gpt, korean_rows, KEYS))
    for name, value in LAUNCHED.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="float16"):
        zero_plugin(recipe, torch.float16)


def test_without_the_package_it_is_named(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = read_recipe(recipe_file(tiny_gpt, korean_rows, KEYS))
    for name, value in LAUNCHED.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("kft.api.zero.is_deepspeed_available", lambda: False)
    with pytest.raises(UsageError, match="isn't installed"):
        zero_plugin(recipe, torch.float32)
