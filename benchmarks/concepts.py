"""The measured curves and numbers in docs/concepts/.

    python benchmarks/concepts.py

Trains the small Korean GPT on the quickstart's rows from random weights, from the checkpoint, and
with LoRA; too long on too few rows, and too timidly; sends a gradient back through an RNN and
through attention; and rounds a normal distribution to 4 bits. Writes
benchmarks/results/concepts.json, from which dev/figures.py draws. About eight minutes on one core.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import kft
from kft.evaluation.fit import fit_verdict

QUICKSTART = "recipes/quickstart.yaml"
ALL = {
    "evaluate.eval_steps": 9,
    "evaluate.generate": 1,
    "evaluate.max_new_tokens": 32,
    "export.merge": False,
}
FULL = {"adapter.method": "full", "train.learning_rate": 5e-4}
FEW_ROWS = 30
RUNS: dict[str, dict[str, Any]] = {
    "random": {
        **FULL,
        "model.init": "random",
        "model.tokenizer": "data/checkpoints/ko-gpt-mini",
    },
    "checkpoint": FULL,
    "lora": {},
    "overfit": {**FULL, "data.train": "runs/few_rows.jsonl", "train.max_steps": 90},
    "underfit": {
        "train.learning_rate": 2e-4,
        "train.lr_scheduler_type": "constant",
        "train.num_train_epochs": 2,
    },
}
DISTANCES = 64
WIDTH = 64
DRAWS = 20


def curve(log: Any, name: str) -> list[tuple[int, float]]:
    """Step and value where the log has one."""
    rows = log[log[name].notna()]
    return [
        (int(step), round(float(value), 4))
        for step, value in zip(rows["step"], rows[name], strict=True)
    ]


def trained() -> dict[str, Any]:
    """Each run's curves: ``[step, nats per target]``, and what kft says of them."""
    few = Path("runs/few_rows.jsonl")
    few.parent.mkdir(exist_ok=True)
    lines = Path("data/movie_replies.jsonl").read_text(encoding="utf-8").splitlines()
    few.write_text("\n".join(lines[:FEW_ROWS]) + "\n", encoding="utf-8")
    measured = {}
    for name, overrides in RUNS.items():
        folder = f"runs/concepts-{name}"
        shutil.rmtree(folder, ignore_errors=True)
        run = kft.finetune(QUICKSTART, {**ALL, **overrides, "output_dir": folder})
        log = run.metrics
        train, held_out = curve(log, "loss"), curve(log, "eval_loss")
        base = run.result["base"]["eval_loss"]
        verdict = fit_verdict(train, held_out, base)
        measured[name] = {
            "train": train,
            "eval": [(0, round(base, 4)), *held_out],
            "verdict": verdict.name,
            "reason": verdict.reason,
            "bits_per_character": round(run.result["tuned"]["bits_per_character"], 3),
            "sample": run.result["samples"][0],
        }
    return measured


def norms_by_distance(outputs: Tensor, inputs: Tensor) -> list[float]:
    """Norm of the gradient of the last output, along one direction, 0, 1, 2, ... inputs back."""
    direction = torch.randn(WIDTH)  # a plain sum would be 0 behind a layer norm
    (gradient,) = torch.autograd.grad(outputs[0, -1] @ direction, inputs)  # (1, T, D)
    return gradient[0].norm(dim=-1).flip(0).tolist()


def gradients() -> dict[str, list[float]]:
    """Median over draws, relative to the gradient at distance 0."""
    makers = {
        "RNN": lambda: nn.RNN(WIDTH, WIDTH, batch_first=True),
        "LSTM": lambda: nn.LSTM(WIDTH, WIDTH, batch_first=True),
        "attention": lambda: nn.TransformerEncoderLayer(
            WIDTH, 4, 4 * WIDTH, dropout=0.0, batch_first=True
        ),
    }
    found = {}
    for name, make in makers.items():
        draws = []
        for seed in range(DRAWS):
            torch.manual_seed(seed)
            network = make()
            inputs = torch.randn(1, DISTANCES, WIDTH, requires_grad=True)
            outputs = network(inputs)
            outputs = outputs[0] if isinstance(outputs, tuple) else outputs
            norms = torch.tensor(norms_by_distance(outputs, inputs))
            draws.append(norms / norms[0])
        found[name] = [float(f"{value:.4g}") for value in torch.stack(draws).median(0).values]
    return found


def four_bits() -> dict[str, Any]:
    """The 16 levels of bitsandbytes, and how far normal numbers are from their nearest level."""
    from bitsandbytes.functional import dequantize_4bit, get_4bit_type, quantize_4bit

    torch.manual_seed(0)
    weights = torch.randn(1024, 1024) * 0.02
    errors = {}
    for kind in ("nf4", "fp4"):
        packed, state = quantize_4bit(weights, quant_type=kind, blocksize=64)
        back = dequantize_4bit(packed, state)
        errors[kind] = float((back - weights).norm() / weights.norm())
    levels = torch.linspace(-1, 1, 16)
    blocks = weights.reshape(-1, 64)
    scaled = blocks / blocks.abs().amax(1, keepdim=True)
    nearest = levels[(scaled[..., None] - levels).abs().argmin(-1)]
    errors["sixteen even steps"] = float((nearest - scaled).norm() / scaled.norm())
    return {
        "levels": [round(float(level), 4) for level in get_4bit_type("nf4", device="cpu")],
        "relative_error": {name: round(error, 4) for name, error in errors.items()},
    }


def one_line(values: str) -> str:
    """The values of an innermost list, without their line breaks."""
    return f"[{' '.join(values.split())}]"


def main() -> None:
    """Measure and write."""
    results = {"runs": trained(), "gradients": gradients(), "nf4": four_bits()}
    path = Path("benchmarks/results/concepts.json")
    text = json.dumps(results, indent=1, ensure_ascii=False)
    text = re.sub(r"\[\s+([^\[\]]+?)\s+\]", lambda found: one_line(found[1]), text)
    path.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
