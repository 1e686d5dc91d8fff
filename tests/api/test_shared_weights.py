"""`kft finetune` where ranks share the weights (FSDP2), on CPUs: the run that one process makes.

accelerate shares weights only where there are GPUs. Here it is told that there are, before kft
begins; all the rest is what `accelerate launch --use_fsdp --fsdp_version 2` runs.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from shared_runs import FULL, HALF, KEYS, cut, require_same

import kft
from kft.api.sharding import fsdp_plugin
from kft.api.training import save
from kft.errors import UsageError
from kft.recipe.reader import read_recipe

if TYPE_CHECKING:
    from conftest import RecipeFile

Rows = list[dict[str, str]]
ROOT = Path(__file__).resolve().parents[2]
FSDP = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
PROGRAM = """
import os, sys
import kft.api.training
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType
from kft.cli.main import main

made, prepare = AcceleratorState.__init__, kft.api.training.prepare_sharded

def as_on_gpus(self, *words, **named):
    made(self, *words, **named)
    if named.get("fsdp_plugin") is not None:
        for state in (PartialState(), self):
            state.distributed_type = DistributedType.FSDP
        self.fsdp_plugin = named["fsdp_plugin"]

def counted(accelerator, module, optimizer):
    module, optimizer = prepare(accelerator, module, optimizer)
    weights = list(module.parameters())
    here = sum(weight.to_local().numel() for weight in weights)
    print(f"holds {here / sum(weight.numel() for weight in weights):.2f}", file=sys.stderr)
    return module, optimizer

def unsummed(self, model):
    raise SystemError("the gradients of all weights would be whole on this rank")

Accelerator.no_sync = unsummed
AcceleratorState.__init__, kft.api.training.prepare_sharded = as_on_gpus, counted
odd = os.environ["ODD"] if os.environ["RANK"] == "1" else ""
main([*sys.argv[1:], *(["model.name_or_path=" + odd] if odd else [])])
"""


def share(
    recipe: Path, folder: Path, *words: str, ranks: int = 2, code: int = 0, odd: Path | None = None
) -> str:
    """Run `kft finetune` on so many ranks with their weights shared; what they said.

    `odd` is another checkpoint, which the second of them has.
    """
    program = recipe.with_name("shared.py")
    program.write_text(PROGRAM, encoding="utf-8")
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    said = [str(program), "finetune", str(recipe), f"output_dir={folder}", *words]
    done = subprocess.run(
        [sys.executable, "-m", *launcher, *said],
        env={**os.environ, "PYTHONPATH": str(ROOT), "ODD": str(odd or ""), **FSDP},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert (done.returncode != 0) == (code != 0), done.stderr[:3000]
    return done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("checkpoint", "keys", "limit"),
    [
        ("tiny_gpt", {"adapter.method": "lora", "train.gradient_checkpointing": True}, 1e-5),
        ("tiny_llama", {"adapter.method": "qlora"}, 1e-4),
        ("tiny_gpt", {"train.load_best_model_at_end": True, **FULL}, 1e-4),
        ("tiny_bert", {"task": "sequence_classification", "adapter.method": "lora"}, 1e-4),
        ("tiny_bert", {"task": "sequence_classification", **FULL}, 1e-4),
    ],
)
def test_a_run_is_that_of_one_process(
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
    said = share(path, tmp_path / "two", HALF)
    assert said.count("reading data") == 1  # one voice
    holds = [float(part) for part in re.findall(r"holds (\d\.\d\d)", said)]
    assert len(holds) == 2
    assert all(0.45 < part < 0.6 for part in holds)
    require_same(tmp_path / "two", one.folder, weights=limit)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "full"])
def test_it_goes_on_with_and_without_sharing(
    method: str, tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: Rows, tmp_path: Path
) -> None:
    path = recipe_file(tiny_gpt, korean_rows, KEYS | (FULL if method == "full" else {}))
    whole = kft.finetune(path).folder
    share(path, tmp_path / "shared", HALF)

    alone = cut(tmp_path / "shared")
    told = {"output_dir": str(alone), "train.gradient_accumulation_steps": 2}
    kft.finetune(path, told, resume=True)
    limit = 1e-5 if method == "lora" else 1e-4
    require_same(alone, whole, weights=limit)
    for ranks in (2, 3):
        together = cut(whole)
        share(path, together, "--resume", ranks=ranks)
        require_same(together, whole, weights=limit)
        shutil.rmtree(together)


@pytest.mark.slow
def test_other_weights_on_one_rank_are_refused(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: Rows, tmp_path: Path
) -> None:
    """DDP sends the first rank's; here each takes its part of its own."""
    odd = tmp_path / "odd"
    shutil.copytree(tiny_gpt, odd)
    weights = load_file(odd / "model.safetensors")
    weights["transformer.h.1.ln_2.bias"][3] += 1
    save_file(weights, odd / "model.safetensors", {"format": "pt"})
    path = recipe_file(tiny_gpt, korean_rows, KEYS)
    said = share(path, tmp_path / "two", HALF, code=2, odd=odd)
    assert said.count("The ranks have different weights") == 1
    assert not (tmp_path / "two").exists()


@pytest.mark.slow
def test_numbers_that_are_not_finite_are_told_once(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: Rows, tmp_path: Path
) -> None:
    path = recipe_file(tiny_gpt, korean_rows, KEYS | {"train.learning_rate": 1e30})
    said = share(path, tmp_path / "two", HALF, code=1)
    assert said.count("error: The loss is") == 1
    assert "the first other output is that of `" in said or "the weight `" in said


@pytest.mark.slow
def test_a_refusal_is_told_once(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: Rows, tmp_path: Path
) -> None:
    path = recipe_file(tiny_gpt, korean_rows, KEYS | {"train.optim": "adamw_8bit"})
    assert share(path, tmp_path / "two", code=2).count("error: ") == 1


def test_no_rank_leaves_before_a_checkpoint_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """On another rank than the main one: its part is gathered, then it waits for the writing."""
    told: list[str] = []
    monkeypatch.setattr("kft.api.training.state_of", lambda *_: told.append("gathered") or {})
    monkeypatch.setattr("kft.api.training.save_checkpoint", lambda *_, **__: told.append("written"))
    ranks = SimpleNamespace(sharing=True, by_main=lambda _: told.append("waited"))
    loaded = SimpleNamespace(ranks=ranks, accelerator=SimpleNamespace(scaler=None))
    training = SimpleNamespace(bare=None, optimizer=None)
    steps: Any = SimpleNamespace(loaded=loaded, training=training)
    watch: Any = SimpleNamespace()
    save(steps, watch, 5, None)
    assert told == ["gathered", "waited"]


def test_float16_is_refused(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = read_recipe(recipe_file(tiny_gpt, korean_rows, KEYS))
    assert fsdp_plugin(recipe, torch.float16) is None  # nobody asked
    for name, value in FSDP.items():
        monkeypatch.setenv(name, value)
    assert fsdp_plugin(recipe, torch.bfloat16) is not None
    with pytest.raises(UsageError, match="float16"):
        fsdp_plugin(recipe, torch.float16)


@pytest.mark.parametrize(
    ("environment", "keys", "said"),
    [
        ({}, {}, "isn't in force: 1 process on cpu"),
        ({"FSDP_VERSION": "1"}, {}, "its first version"),
        ({"FSDP_OFFLOAD_PARAMS": "true"}, {}, "the CPU's memory"),
        ({"FSDP_ACTIVATION_CHECKPOINTING": "true"}, {}, "compute activations again"),
        ({}, {"adapter.method": "qlora", "model.quantization": "int8"}, "quantization: int8"),
        ({}, {"train.optim": "adamw_8bit"}, "train.optim: adamw_8bit"),
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
    for name, value in {**FSDP, **environment}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=said):
        kft.finetune(recipe_file(tiny_gpt, korean_rows, KEYS | keys))
    assert not (tmp_path / "run").exists()
