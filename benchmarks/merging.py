# ruff: noqa: E501 -- the table's lines are long
"""What merging a QLoRA adapter costs: into the dequantized base, and the usual way.

    python benchmarks/merging.py

Trains the quickstart with `adapter.method=qlora` and merges it both ways. Writes
benchmarks/results/merging.json and docs/evidence/merging.md.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
from pathlib import Path
from typing import Any

import kft
from kft.api.merge import merge
from kft.errors import ExportError

RUNS = {
    "LoRA": ("runs/merging-lora", {"adapter.method": "lora"}),
    "QLoRA": ("runs/merging-qlora", {"adapter.method": "qlora"}),
}
NUMBERS = ("max_logit_difference", "mean_logit_difference", "kl_nats", "top1_agreement")


def numbers(folder: str, base: str) -> dict[str, Any]:
    """The verification's numbers, whether it passed or not."""
    try:
        return merge(folder, output=f"{folder}-{base}", base=base)[1]
    except ExportError as error:
        if error.numbers is None:
            raise
        return dict(error.numbers)


def main() -> None:
    """Train, merge, write."""
    rows: dict[str, dict[str, Any]] = {}
    for name, (folder, overrides) in RUNS.items():
        shutil.rmtree(folder, ignore_errors=True)
        kft.finetune("recipes/quickstart.yaml", {**overrides, "output_dir": folder})
        rows[f"{name}, dequantized base"] = numbers(folder, "dequantized")
        if name == "QLoRA":
            rows[f"{name}, original base"] = numbers(folder, "original")
    results = Path("benchmarks/results/merging.json")
    results.parent.mkdir(parents=True, exist_ok=True)
    results.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    lines = [
        "# Merging, measured",
        "",
        "The quickstart's model (float16 checkpoint) with its adapter, against the merged folder loaded",
        "again from disk, on its held-out rows. The limits are fixed before the merged model is looked",
        "at: four times what randomly rounding base + adapter to float16 does, and never below 1e-3 and",
        "1e-6 nats. Made by `python benchmarks/merging.py`.",
        "",
        "| merged | largest logit difference | limit | mean | KL, nats | limit | same likeliest token | verdict |",
        "|---|--:|--:|--:|--:|--:|--:|---|",
    ]
    for name, row in rows.items():
        lines.append(
            f"| {name.removesuffix(', dequantized base') if name.startswith('LoRA') else name} | "
            f"{row['max_logit_difference']:.2g} | {row['limit_logits']:.2g} | "
            f"{row['mean_logit_difference']:.2g} | {row['kl_nats']:.2g} | {row['limit_kl']:.2g} | "
            f"{row['top1_agreement']:.2%} | {'written' if row['passed'] else 'refused'} |"
        )
    lines += ["", f"Machine: {platform.machine()}, {os.cpu_count()} cores, no accelerator.", ""]
    target = Path("docs/evidence/merging.md")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("\n".join(lines), encoding="utf-8")
    print(target.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
