# ruff: noqa: E501 -- the table's lines are long
"""kft beside TRL's SFTTrainer and transformers' Trainer: whole processes, alternating.

    pip install -e '.[bench]'
    python benchmarks/peers.py [WORKLOAD ...] [--pairs 3] [--steps 20] [--llamafactory PYTHON]

For each workload first the peer's grid, one short run each: its defaults and what might be
faster; then kft and the peer's best, in turns; then `kft bench` on the same recipe. LLaMA-Factory wants
older libraries, so it is run by the Python of an environment of its own. The same checkpoint (random weights of the published
shape), the same rows in the same order, the same number of threads; a step has eight rows on
either side. Writes benchmarks/results/peers.json and docs/evidence/peers.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from peer_page import page
from peer_workloads import WORKLOADS, prepare

GRID_STEPS = 4
SAME_LOSS = 1e-3
BENCH_STEPS = 8
GRID_KEYS = ("grid", "grid_first_losses", "other_training", "best")


def run(work: Path, side: str, settings: dict[str, Any], threads: int) -> dict[str, Any]:
    """One process."""
    command = [sys.executable, "benchmarks/peer_runs.py", str(work), side, json.dumps(settings)]
    if side == "llamafactory":
        script = "benchmarks/peer_llamafactory.py"
        command = [os.environ["LLAMAFACTORY_PYTHON"], script, str(work), json.dumps(settings)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    for left in work.glob("run-*"):
        shutil.rmtree(left)
    if done.returncode:
        raise SystemExit(f"{side} {settings} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"seconds"')]
    found: dict[str, Any] = json.loads(lines[-1])
    found["settings"] = settings
    found["tokens_per_second"] = found["tokens"] / found["seconds"]
    print(
        f"{side:8} {found['tokens_per_second']:8.1f} tokens/s  {found['peak_bytes'] / 2**20:7.0f} MiB  {settings}",
        flush=True,
    )
    return found


def _is_other_training(found: dict[str, Any], defaults: dict[str, Any]) -> bool:
    """Whether the setting changes what is learned: its first loss is another one then.

    So it is where rows laid end to end see each other, and where the losses of micro-batches are
    added up and not averaged.
    """
    settings = found["settings"]
    keeps_rows = bool(settings.get("padding_free")) or "gradient_accumulation_steps" in settings
    return keeps_rows and abs(found["losses"][0] - defaults["losses"][0]) > SAME_LOSS


def bench(work: Path, threads: int) -> dict[str, Any]:
    """What `kft bench` says of the workload's recipe."""
    done = subprocess.run(
        [sys.executable, "-m", "kft", "bench", str(work / "recipe.yaml"), "--json"],
        env=os.environ | {"OMP_NUM_THREADS": str(threads)},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def processor() -> str:
    """The processor's name, and whether it multiplies bfloat16."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    said = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    units = [flag for flag in ("amx_bf16", "avx512_bf16") if flag in said.get("flags", "").split()]
    family = f"family {said.get('cpu family')} model {said.get('model')}"
    return f"{said.get('model name')} ({', '.join([family, *units])})"


def try_grid(name: str, steps: int, threads: int) -> dict[str, Any]:
    """The peer's settings, a short run of each, and which of them is its best."""
    workload, work = WORKLOADS[name], prepare(name, min(steps, GRID_STEPS))
    peer = workload["peer"]
    grid = {
        label: run(work, peer, settings, threads) for label, settings in workload["grid"].items()
    }
    is_other = {label: _is_other_training(one, grid["its defaults"]) for label, one in grid.items()}
    best = max(
        (label for label in grid if not is_other[label]),
        key=lambda label: float(grid[label]["tokens_per_second"]),
    )
    return {
        "grid": {label: one["tokens_per_second"] for label, one in grid.items()},
        "grid_first_losses": {label: one["losses"][0] for label, one in grid.items()},
        "other_training": [label for label, is_so in is_other.items() if is_so],
        "best": best,
    }


def measure(
    name: str, pairs: int, steps: int, threads: int, grid: dict[str, Any]
) -> dict[str, Any]:
    """Alternating pairs of kft and the peer with its best settings."""
    workload, best = WORKLOADS[name], grid["best"]
    peer = workload["peer"]
    both, work = [], prepare(name, steps)
    for number in range(pairs):
        turn = [("kft", {}), (peer, workload["grid"][best])]
        order = turn if number % 2 else turn[::-1]
        found = {side: run(work, side, settings, threads) for side, settings in order}
        both.append((found["kft"], found[peer]))
    ratios = [mine["tokens_per_second"] / other["tokens_per_second"] for mine, other in both]
    return {
        "what": workload["what"],
        "peer": peer,
        "machine": f"{processor()}, {threads} threads, Python {platform.python_version()}",
        **{key: grid[key] for key in GRID_KEYS if key in grid},
        "kft_tokens_per_second": statistics.median(mine["tokens_per_second"] for mine, _ in both),
        "peer_tokens_per_second": statistics.median(
            other["tokens_per_second"] for _, other in both
        ),
        "ratios": ratios,
        "kft_peak_bytes": statistics.median(mine["peak_bytes"] for mine, _ in both),
        "peer_peak_bytes": statistics.median(other["peak_bytes"] for _, other in both),
        "kft_losses": both[0][0]["losses"],
        "peer_losses": both[0][1]["losses"],
        "tokens": both[0][0]["tokens"],
        "steps": steps,
        "bench": bench(prepare(name, max(steps, BENCH_STEPS)), threads),
    }


def main() -> None:
    """Measure what is asked for, and write all there is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "workloads", nargs="*", metavar="WORKLOAD", help=f"of {', '.join(WORKLOADS)}"
    )
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--llamafactory", metavar="PYTHON", help="of its environment")
    parser.add_argument("--keep-grid", action="store_true", help="the best settings are known")
    options = parser.parse_args()
    if options.llamafactory:
        os.environ["LLAMAFACTORY_PYTHON"] = options.llamafactory
    known = [name for name in WORKLOADS if options.llamafactory or "llamafactory" not in name]
    target = Path("benchmarks/results/peers.json")
    results: dict[str, Any] = (
        json.loads(target.read_text()) if target.is_file() else {"workloads": {}}
    )
    for name in options.workloads or known:
        grid = results["workloads"].get(name) if options.keep_grid else None
        grid = grid or try_grid(name, options.steps, options.threads)
        numbers = (options.pairs, options.steps, options.threads)
        results["workloads"][name] = measure(name, *numbers, grid)
        target.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    Path("docs/evidence/peers.md").write_text(page(results), encoding="utf-8")
    print(page(results))


if __name__ == "__main__":
    main()
