# ruff: noqa: E501 -- the page's lines are long
"""Two processes against one, and four of which one is killed and two go on: the same steps?

    python benchmarks/ranks.py

Runs on CPUs (gloo), in float32, with the small GPT and the movie replies of this repository.
Writes benchmarks/results/ranks.json and docs/evidence/ranks.md.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import torch
from safetensors.torch import load_file

CHECKPOINT = "data/checkpoints/ko-gpt-mini"
ROWS, NUM_ROWS, STEPS, WINDOW = "data/movie_replies.jsonl", 50, 20, 8
"""50 rows make windows of 8 and one of 2 at the end of an epoch, of which one rank has nothing."""

SETTINGS: dict[str, list[str]] = {
    "LoRA, padded rows": ["train.fast_paths=false"],
    "LoRA, no padding": [],
    "LoRA, packed": ["data.packing=true", "train.per_device_train_batch_size=1"],
    "QLoRA": ["adapter.method=qlora"],
    "all weights": ["adapter.method=full", "train.learning_rate=1e-4"],
    "LoRA, padded rows, learning rate 2e-3": ["train.fast_paths=false", "train.learning_rate=2e-3"],
}
RECIPE = f"""
model: {{name_or_path: {CHECKPOINT}}}
data: {{train: ROWS, format: instruction, template: koalpaca, max_length: 128, packing: false, eval_fraction: 0}}
train: {{max_steps: {STEPS}, precision: float32, save_steps: 5, warmup_ratio: 0}}
evaluate: {{generate: 0, scored_generations: 0}}
export: {{merge: false}}
output_dir: runs/ranks
"""


def command(recipe: Path, ranks: int, folder: Path, words: list[str]) -> list[str]:
    """A run in ``ranks`` processes; in one it has as many micro-batches in a step as it needs."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    start = ["-m", "kft", "finetune", str(recipe), f"output_dir={folder}", *words]
    return [sys.executable, *(torchrun if ranks > 1 else []), *start]


def sizes(ranks: int, words: list[str], *, cut: bool = False) -> list[str]:
    """Rows and micro-batches of each rank, so that a step has the same rows however many ranks."""
    if any("batch_size=1" in word for word in words):  # packed rows
        return [f"train.gradient_accumulation_steps={2 // ranks}"]
    rows = WINDOW // 2 if cut else WINDOW // ranks
    steps = 2 if cut else 1
    return [
        f"train.per_device_train_batch_size={rows}",
        f"train.gradient_accumulation_steps={steps}",
    ]


def finish(words: list[str]) -> None:
    """Run a command to its end."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)


def killed(words: list[str], checkpoint: Path) -> tuple[int, int]:
    """Run a command until a checkpoint is there, kill one of its processes, and wait for the end.

    Returns:
        Steps that had been taken, and the step of the last checkpoint.
    """
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not checkpoint.is_dir():
        if process.poll() is not None:
            raise SystemExit("the run ended before it could be killed")
        time.sleep(0.05)
    children = psutil.Process(process.pid).children()
    next(one for one in children if one.environ()["RANK"] == "2").kill()
    if process.wait(300) == 0:
        raise SystemExit("the run ended well, although a process was killed")
    lines = (checkpoint.parents[1] / "metrics.jsonl").read_text("utf-8").splitlines()
    steps = [line for line in lines if "loss" in json.loads(line)]
    kept = max(path.name for path in checkpoint.parent.glob("step-????????"))
    return len(steps), int(kept.removeprefix("step-"))


def numbers(folder: Path) -> dict[str, torch.Tensor]:
    """Loss and gradient norm of each step, and the trained weights after the last."""
    lines = (folder / "metrics.jsonl").read_text("utf-8").splitlines()
    steps = [step for step in map(json.loads, lines) if "loss" in step]
    if [step["step"] for step in steps] != list(range(1, STEPS + 1)):
        raise SystemExit(f"{folder} has other steps")
    saved = load_file(folder / "checkpoints" / f"step-{STEPS:08d}" / "weights.safetensors")
    weights = [saved[name].flatten().double() for name in sorted(saved)]
    return {
        "losses": torch.tensor([step["loss"] for step in steps]).double(),
        "gradient norms": torch.tensor([step["grad_norm"] for step in steps]).double(),
        "weights": torch.cat(weights),
    }


def compare(folder: Path, other: Path) -> dict[str, float]:
    """||difference|| / ||value|| of each."""
    here, there = numbers(folder), numbers(other)
    return {
        name: float((here[name] - value).norm() / value.norm()) for name, value in there.items()
    }


def measure(work: Path) -> dict[str, Any]:
    """Every comparison."""
    lines = Path(ROWS).read_text("utf-8").splitlines(keepends=True)[:NUM_ROWS]
    (work / "rows.jsonl").write_text("".join(lines), encoding="utf-8")
    recipe = work / "recipe.yaml"
    recipe.write_text(RECIPE.replace("ROWS", str(work / "rows.jsonl")), encoding="utf-8")
    found: dict[str, Any] = {"two": {}, "cut": {}}
    for number, (name, words) in enumerate(SETTINGS.items()):
        one, two = work / f"one-{number}", work / f"two-{number}"
        finish(command(recipe, 1, one, [*words, *sizes(1, words)]))
        finish(command(recipe, 2, two, [*words, *sizes(2, words)]))
        found["two"][name] = compare(two, one)
        print(name, found["two"][name], flush=True)
    for number in (0, len(SETTINGS) - 1):
        name, words = list(SETTINGS.items())[number]
        folder = work / f"cut-{number}"
        finish(command(recipe, 1, folder, [*words, *sizes(1, words, cut=True)]))
        found["cut"][name] = compare(folder, work / f"one-{number}")
    first = SETTINGS["LoRA, padded rows"]
    folder, words = work / "four", [*first, *sizes(4, first)]
    taken, kept = killed(
        command(recipe, 4, folder, words), folder / "checkpoints" / "step-00000010"
    )
    finish(command(recipe, 2, folder, [*words, "--resume"]))
    found["four, one killed, two go on"] = {
        **compare(folder, work / "one-0"),
        "steps before the kill": taken,
        "last checkpoint": kept,
    }
    found["versions"] = {name: version(name) for name in ("torch", "accelerate")}
    return found


def line(name: str, row: dict[str, float]) -> str:
    """A line of the table."""
    shown = [f"{row[key]:.1e}" for key in ("losses", "gradient norms", "weights")]
    return f"| {name} | {' | '.join(shown)} |"


def page(found: dict[str, Any]) -> str:
    """docs/evidence/ranks.md."""
    four = found["four, one killed, two go on"]
    versions = found["versions"]
    return "\n".join(
        [
            "# Several processes, measured",
            "",
            f"The small GPT of this repository on {NUM_ROWS} movie replies of different lengths, {STEPS} steps of {WINDOW} rows (an",
            "epoch's last step has 2, and one of the processes none of them), float32, on CPUs with gloo (torch",
            f"{versions['torch']}, accelerate {versions['accelerate']}). Each number is ||difference|| / ||value|| against one process that takes",
            "the same steps. Made by `python benchmarks/ranks.py`.",
            "",
            "| | losses | gradient norms | weights |",
            "|---|--:|--:|--:|",
            *(line(f"2 processes, {name}", row) for name, row in found["two"].items()),
            line(
                f"4 processes, one killed (SIGKILL) after step {four['steps before the kill']}, 2 go on from step {four['last checkpoint']}",
                four,
            ),
            *(
                line(f"1 process, two micro-batches, {name}", row)
                for name, row in found["cut"].items()
            ),
            "",
            "The last two lines are for comparison: what rounding alone does when float32 numbers are added in another",
            "order. AdamW divides by a gradient's own size, so what rounding does to the smallest gradients grows with the",
            "learning rate; where none is named it is the default.",
            "",
        ]
    )


def main() -> None:
    """Measure and write."""
    with tempfile.TemporaryDirectory() as work:
        found = measure(Path(work))
    results = Path("benchmarks/results/ranks.json")
    results.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    Path("docs/evidence/ranks.md").write_text(page(found), encoding="utf-8")
    print(page(found))


if __name__ == "__main__":
    main()
