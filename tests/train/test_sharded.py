"""Weights that ranks hold parts of (FSDP2 on CPUs, gloo): the steps and files of one process.

Sharded by torch's `fully_shard` itself, and by accelerate's preparation, which it does by itself
only where there are GPUs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from kft.train.checkpoint import complete_checkpoints

ROOT = Path(__file__).resolve().parents[2]
STEPS = 20
PROGRAM = """
import json, os, sys
from pathlib import Path
import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from kft.data.batches import Share, WindowPlan, make_windows
from kft.models.adapters import add_adapter
from kft.models.blocks import blocks
from kft.models.loader import load_model
from kft.models.logits import logits_from
from kft.models.saved_adapter import save_adapter
from kft.recipe.schema import AdapterSection, ModelSection
from kft.recipe.train_section import TrainSection
from kft.tasks.causal_lm import CausalLM
from kft.tasks.task import Example
from kft.train.checkpoint import put_back, read_checkpoint, save_checkpoint, state_of
from kft.train.layer_norms import LayerNorms
from kft.train.loop import train
from kft.train.optimizer import make_optimizer
from kft.train.runlog import step_record
from kft.train.weights import is_sharded, whole_weights

said = json.loads(sys.argv[1])
accelerator = Accelerator(cpu=True)
rank, ranks = accelerator.process_index, accelerator.num_processes
section = ModelSection(name_or_path=said["model"])
model = load_model(
    section, auto_class="AutoModelForCausalLM", dtype=torch.float32, device=torch.device("cpu")
)
if said["method"] == "lora":
    torch.manual_seed(5)
    model = add_adapter(model, AdapterSection(r=4), "causal_lm")
else:
    model.requires_grad_(True)
layers = list(blocks(model))
module = CausalLM().with_loss(model, logits_from=logits_from(model, fast=said["fast"]))
keys = TrainSection(learning_rate=1e-3, max_grad_norm=0.5, weight_decay=0.1)
if said["sharded"] == "accelerate":  # as it does by itself where there are GPUs
    for state in (PartialState(), accelerator.state):
        state.distributed_type = DistributedType.FSDP
    accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2, auto_wrap_policy="transformer_based_wrap",
        transformer_cls_names_to_wrap=["GPT2Block"], cpu_ram_efficient_loading=False,
    )
    module, optimizer = accelerator.prepare(module, make_optimizer(module, keys))
    assert accelerator.is_fsdp2
elif said["sharded"]:
    mesh = init_device_mesh("cpu", (ranks,))
    for _, block in layers:
        fully_shard(block, mesh=mesh)
    fully_shard(module, mesh=mesh)
    optimizer = accelerator.prepare(make_optimizer(module, keys))
else:
    optimizer = accelerator.prepare(make_optimizer(module, keys))
assert is_sharded(module) == bool(said["sharded"])
norms = LayerNorms(
    optimizer,
    {name: [p for p in block.parameters() if p.requires_grad] for name, block in layers},
    every=1, first_step=said["first"],
)
root = Path(said["folder"])
if said["first"] > 1:
    mine = rank == 0 or not said["sharded"]
    state = read_checkpoint(Path(said["from"]), module) if mine else None
    put_back(state, module, optimizer, None)
draw = torch.Generator().manual_seed(3)
rows = []
for number in range(24):
    ids = torch.randint(4, 500, (3 + 2 * number,), generator=draw).tolist()
    rows.append(Example(ids, ids, f"rows:{number}", ""))
plan = WindowPlan(len(rows), 2, 4, 100.0, said["last"], seed=7)  # 4 micro-batches of 2 rows
windows = make_windows(
    rows, plan, lambda part: CausalLM().collate(part, 0), said["first"], Share(rank, ranks)
)
lines = []
for stats in train(
    module, optimizer, lambda step: 1e-3 / step, windows, accelerator, max_grad_norm=0.5,
    first_step=said["first"],
):
    record = step_record(stats, accelerator)
    lines.append({**record, "layers": norms.of(stats.step, record["grad_norm"])})
    if stats.step in said["saves"]:
        state = state_of(module, optimizer, None)
        assert bool(state.weights) == (rank == 0 or not said["sharded"])
        if rank == 0:
            save_checkpoint(root / "checkpoints", stats.step, state, keep=9, progress={})
whole = whole_weights(module)
if rank == 0:
    (root / "lines.json").write_text(json.dumps(lines))
    if said["method"] == "lora":
        save_adapter(model, root / "adapter", whole)
accelerator.end_training()
"""


def trained(folder: Path, model: Path, ranks: int, **said: Any) -> Path:
    """The folder of a training of the program above, by so many ranks."""
    folder.mkdir()
    program = folder / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    told = {"model": str(model), "folder": str(folder), "method": "lora", "fast": True, "first": 1}
    told |= {"sharded": None, "last": STEPS, "saves": [10, STEPS], **said}
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    done = subprocess.run(
        [sys.executable, *(launcher if ranks > 1 or told["sharded"] else []), str(program),
         json.dumps(told)],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[:3000]
    return folder


@pytest.fixture(scope="module")
def runs(tiny_gpt: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`runs(ranks, sharded, method, fast)`: the folder of 20 steps, trained once."""
    return cache(
        lambda ranks, way, method, fast: trained(
            tmp_path_factory.mktemp("runs") / "run", tiny_gpt, ranks,
            sharded=way, method=method, fast=fast,
        )
    )  # fmt: skip


def lines_of(folder: Path) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = json.loads((folder / "lines.json").read_text("utf-8"))
    return lines


def require_close(one: torch.Tensor, other: torch.Tensor, limit: float = 1e-6) -> None:
    assert float((one - other).norm() / other.norm()) <= limit


def require_same_steps(folder: Path, other: Path, method: str) -> None:
    """Losses, norms, weights and optimizer states agree, as ||difference|| / ||value||.

    Weights with all of them trained: some gradients are zero but for rounding (a bias of keys
    changes no attention), and AdamW divides them by their own size.
    """
    lines, expected = lines_of(folder), lines_of(other)
    expected = expected[-len(lines) :]
    assert [line["step"] for line in lines] == [line["step"] for line in expected]
    for key in ("loss", "grad_norm", "num_targets"):
        pair = [torch.tensor([line[key] for line in run]).double() for run in (lines, expected)]
        require_close(*pair)
    for line, wanted in zip(lines, expected, strict=True):
        assert line["layers"] == pytest.approx(wanted["layers"], rel=1e-4)
    kept, right_kept = (run / "checkpoints" / f"step-{STEPS:08d}" for run in (folder, other))
    weights, right_weights = (load_file(at / "weights.safetensors") for at in (kept, right_kept))
    assert list(weights) == list(right_weights)
    names = sorted(weights)
    flat, right = (torch.cat([run[n].flatten() for n in names]) for run in (weights, right_weights))
    require_close(flat, right, 1e-6 if method == "lora" else 1e-5)
    states = [torch.load(at / "optimizer.pt", weights_only=True) for at in (kept, right_kept)]
    state, right_state = (held["optimizer"] for held in states)
    assert [group["params"] for group in state["param_groups"]] == [
        group["params"] for group in right_state["param_groups"]
    ]
    assert state["state"].keys() == right_state["state"].keys()
    for name in ("exp_avg", "exp_avg_sq", "step"):
        pair = [
            torch.cat([held["state"][n][name].flatten().float() for n in sorted(held["state"])])
            for held in (state, right_state)
        ]
        require_close(pair[0], pair[1], 1e-5 if method == "lora" else 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "fast", "way"),
    [
        ("lora", True, "torch"),
        ("full", True, "torch"),
        ("full", False, "torch"),
        ("lora", True, "accelerate"),
        ("full", True, "accelerate"),
    ],
)
def test_two_ranks_with_half_of_the_weights_each_take_the_steps_of_one(
    method: str, fast: bool, way: str, runs: Callable[..., Path]
) -> None:
    one, two = runs(1, None, method, fast), runs(2, way, method, fast)
    require_same_steps(two, one, method)
    found = list(complete_checkpoints(two / "checkpoints"))
    assert [step for _, step in found] == [STEPS, 10]  # whole, and each written once
    if method == "lora":
        saved = [load_file(run / "adapter" / "adapter_model.safetensors") for run in (two, one)]
        assert saved[0].keys() == saved[1].keys()
        for name, weight in saved[1].items():
            require_close(saved[0][name], weight, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((2, "torch"), (1, None)),
        ((2, "accelerate"), (1, "accelerate")),
        ((1, None), (2, "torch")),
        ((2, "torch"), (4, "accelerate")),
    ],
)
def test_it_goes_on_on_another_number_of_ranks(
    before: tuple[int, str | None],
    after: tuple[int, str | None],
    method: str,
    tiny_gpt: Path,
    runs: Callable[..., Path],
    tmp_path: Path,
) -> None:
    """The first half of a run, kept by some ranks, and the other half on more or fewer."""
    half = runs(*before, method, True)
    start = {"first": 11, "from": str(half / "checkpoints" / "step-00000010")}
    ways = {"sharded": after[1], "method": method, **start}
    rest = trained(tmp_path / "rest", tiny_gpt, after[0], **ways)
    require_same_steps(rest, runs(1, None, method, True), method)
