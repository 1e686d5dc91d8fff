"""Runs whose ranks hold parts of the state, compared with that of one process."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

KEYS: dict[str, Any] = {
    "data.eval_fraction": 0.25,
    "train.max_steps": 20,
    "train.per_device_train_batch_size": 3,  # windows of 12 rows are no even number of them
    "train.gradient_accumulation_steps": 4,
    "train.learning_rate": 3e-3,
    "train.save_steps": 5,
    "train.save_total_limit": 4,
    "evaluate.eval_steps": 6,
    "evaluate.generate": 2,
}
FULL: dict[str, Any] = {"adapter.method": "full", "train.learning_rate": 3e-4}
"""With all weights some gradients are zero but for rounding, and AdamW makes steps of them."""
HALF = "train.gradient_accumulation_steps=2"


def require_same(folder: Path, other: Path, *, weights: float) -> None:
    """Losses, norms, weights, measurements and answers of two runs."""
    both = [
        [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
        for run in (folder, other)
    ]
    for name, limit in (("loss", 1e-6), ("grad_norm", 1e-4), ("eval_loss", 1e-5)):
        found, wanted = (
            torch.tensor([line[name] for line in lines if name in line]).double() for lines in both
        )
        assert len(found) == len(wanted)
        assert (found - wanted).norm() / wanted.norm() <= limit, name
    part = "adapter/adapter_model.safetensors"
    part = part if (other / part).is_file() else "model/model.safetensors"
    saved, right = (load_file(run / part) for run in (folder, other))
    assert saved.keys() == right.keys()
    found, wanted = (
        torch.cat([held[name].flatten().double() for name in sorted(held)])
        for held in (saved, right)
    )
    assert (found - wanted).norm() / wanted.norm() <= weights
    results = [json.loads((run / "result.json").read_text("utf-8")) for run in (folder, other)]
    for name in ("base", "tuned", "best"):
        for number, value in results[1][name].items():
            found = results[0][name][number]
            assert found == (pytest.approx(value, rel=1e-4) if isinstance(value, float) else value)
    for name in ("samples", "total_parameters", "trainable_parameters", "train_rows"):
        assert results[0][name] == results[1][name]
    assert results[0]["fit"]["verdict"] == results[1]["fit"]["verdict"]
    assert results[0]["verification"]["passed"]
    files = [
        sorted(str(one.relative_to(run)) for one in run.rglob("*") if "checkpoints" not in str(one))
        for run in (folder, other)
    ]
    assert files[0] == files[1]


def cut(folder: Path) -> Path:
    """A copy of a run as it was after its tenth step."""
    copy = folder.with_name(f"{folder.name}-cut")
    shutil.copytree(folder, copy)
    for name in ("adapter", "model", "merged"):
        shutil.rmtree(copy / name, ignore_errors=True)
    for later in ("step-00000015", "step-00000020"):
        shutil.rmtree(copy / "checkpoints" / later)
    assert (copy / "checkpoints" / "step-00000010").is_dir()
    return copy
