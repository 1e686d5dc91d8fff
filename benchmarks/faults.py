# ruff: noqa: E501 -- the page's lines are long
"""What a run survives: kills, damage, full disks, wrong input, many steps.

    make faults
    python benchmarks/faults.py --only kills,disk --count kills=8

Each part stores its numbers in benchmarks/results/faults.json; docs/evidence/faults.md is written
from what is there, so parts can be measured one at a time. Full disks need root (a tmpfs is
mounted), the fuzzer needs `pip install atheris`.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import fault_inputs
import fault_runs

RESULTS = Path("benchmarks/results/faults.json")
PAGE = Path("docs/evidence/faults.md")
COUNTS = {
    "kills": 50, "damage": 100, "disk": 20, "recipes": 3000, "rows": 1000, "fuzz-recipe": 600,
    "fuzz-rows": 600, "soak": 20000,
}  # fmt: skip
Result = dict[str, Any]


def measure(part: str, work: Path, count: int) -> Result:
    """One part's numbers, or why it was not run."""
    if part == "disk" and os.geteuid() != 0:
        return {"not run": "only root may mount a small disk"}
    if part.startswith("fuzz"):
        if importlib.util.find_spec("atheris") is None:
            return {"not run": "atheris is not installed"}
        return {"seconds": count, **fault_inputs.fuzz(part.removeprefix("fuzz-"), count)}
    parts: dict[str, Callable[[], Result]] = {
        "kills": lambda: fault_runs.kills(work, count),
        "damage": lambda: fault_runs.damage(work, count),
        "disk": lambda: fault_runs.full_disks(work, count),
        "recipes": lambda: fault_inputs.recipes(work, count, fault_runs.make_models(work)["GPT"]),
        "rows": lambda: fault_inputs.rows(work, count, fault_runs.make_models(work)["GPT"]),
        "soak": lambda: fault_runs.soak(work, count),
    }
    return parts[part]()


def number_of(part: str, told: Result) -> int:
    """How many there were of what a part counts."""
    if part == "kills":
        return sum(one["killed"] for one in told.values())
    key = {"damage": "faults", "disk": "places", "recipes": "recipes", "rows": "files"}
    return int(told[key.get(part, "steps" if part == "soak" else "seconds")])


def lines_of(part: str, told: Result) -> list[str]:
    """The lines of the table."""
    if "not run" in told:
        return [f"| {part} | not run: {told['not run']} |"]
    if part == "kills":
        return [
            f"| SIGKILL at {one['killed']} random moments, then `--resume`: {kind} | {one['equal']} of {one['killed']} to the same bits; {one['during_save']} killed while a checkpoint was half written |"
            for kind, one in told.items()
        ]
    if part == "damage":
        found = told["flipped"] + told["cut"]
        return [
            f"| {told['faults']} bits flipped and files cut off in the last checkpoint | {found} of {told['faults']} found, the one before it taken |"
        ]
    if part == "disk":
        rest = "; ".join(f"{name} {number}" for name, number in told.items() if name != "places")
        return [
            f"| a disk that is full, at {told['places']} places (tmpfs, real ENOSPC) | {rest} |"
        ]
    if part in ("recipes", "rows"):
        codes = ", ".join(
            f"{name}: {number}" for name, number in told.items() if name[:4] == "exit"
        )
        return [
            f"| {told.get('recipes') or told.get('files'):,} {'recipes of hypothesis' if part == 'recipes' else 'mutated data files'}, one process | {codes}; tracebacks: {len(told['wrong'])}; the longest took {told['seconds at most']:.2f} s |"
        ]
    if part == "soak":
        files = told["open files"]
        return [
            f"| {told['steps']:,} steps with 40 evaluations and checkpoints | memory {told['memory growth']:+.2%} from a tenth of the way to the end (within {told['memory range']:.2%}); open files {files[0]} and {files[1]} |"
        ]
    return [
        f"| coverage-guided fuzzing, {part.removeprefix('fuzz-')}, {told['seconds']} s | exit {told['exit']}; `{told['last']}` |"
    ]


def write_page(results: dict[str, Result]) -> None:
    """The table of what was measured, and of what was not."""
    lines = [
        "# Faults, measured",
        "",
        "What happens to a run when the machine fails, and to kft when its input is wrong. Models are tiny (two blocks, 64",
        f"wide), runs have {fault_runs.STEPS} steps with a checkpoint after each, and processes are real. The same bits means: adapter file,",
        "weights, optimizer and random states of the last checkpoint, loss, gradient norm and learning rate of every step.",
        f"On a CPU ({platform.machine()}, one thread). Made by `make faults`; `--only` measures one part.",
        "",
        "| test | result |",
        "|---|---|",
    ]
    for part, full in COUNTS.items():
        told = results.get(part, {"not run": "not measured yet"})
        lines += lines_of(part, told)
        if "not run" not in told and number_of(part, told) != full:
            lines.append(f"| | measured with {number_of(part, told):,} where {full:,} are meant |")
    lines += [
        "",
        "Refusals of hostile input have a test each in `tests/hostile`. Several ranks are on a page of their own. On a GPU",
        "nothing of this was measured; there `kft resume-check` asks for deterministic kernels.",
        "",
    ]
    PAGE.write_text("\n".join(lines), encoding="utf-8")


def main() -> None:
    """Measure what is asked for and write the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default=",".join(COUNTS), help="parts, with commas")
    parser.add_argument("--count", nargs="*", default=[], metavar="PART=N", help="fewer, or more")
    words = parser.parse_args()
    counts = COUNTS | {one.partition("=")[0]: int(one.partition("=")[2]) for one in words.count}
    for part in filter(None, words.only.split(",")):
        with tempfile.TemporaryDirectory(prefix="kft-faults-") as folder:
            told = measure(part, Path(folder), counts[part])
        results = json.loads(RESULTS.read_text("utf-8")) if RESULTS.is_file() else {}
        results[part] = told
        RESULTS.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", "utf-8")
        print(part, json.dumps(told, ensure_ascii=False)[:2000], flush=True)
    write_page(json.loads(RESULTS.read_text("utf-8")))


if __name__ == "__main__":
    main()
