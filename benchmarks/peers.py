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
import random
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path("runs/peers")
TOKENIZER = "data/checkpoints/ko-gpt-mini"
ROWS_PER_STEP = 8
GRID_STEPS = 4
SAME_LOSS = 1e-3

_TRL = {
    "its defaults": {},
    "no recomputation": {"gradient_checkpointing": False},
    "no recomputation, 4 x 2 rows": {
        "gradient_checkpointing": False,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
    },
    "no recomputation, 1 x 8 rows": {
        "gradient_checkpointing": False,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 8,
    },
    "no recomputation, padding-free": {
        "gradient_checkpointing": False,
        "padding_free": True,
        "max_length": None,
    },
}
_LLAMAFACTORY = {
    "its defaults": {"bf16": False},
    "no recomputation": {"disable_gradient_checkpointing": True},
    "no recomputation, 1 x 8 rows": {
        "disable_gradient_checkpointing": True,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 8,
    },
}
_TRAINER = {
    "its defaults": {},
    "8 rows of similar length": {"train_sampling_strategy": "group_by_length"},
    "2 x 4 rows": {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4},
    "1 x 8 rows": {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8},
}
WORKLOADS: dict[str, dict[str, Any]] = {
    "kogpt2-lora": {
        "peer": "trl",
        "what": "KoGPT2 shape (12 layers, 768 wide, 51,200 words), LoRA r=8, prompts masked",
        "recipe": {},
        "grid": _TRL,
    },
    "kogpt2-qlora": {
        "peer": "trl",
        "what": "the same on a base in NF4",
        "recipe": {"adapter": {"method": "qlora", "r": 8, "lora_alpha": 16}},
        "grid": {
            name: _TRL[name]
            for name in (
                "its defaults",
                "no recomputation",
                "no recomputation, 1 x 8 rows",
            )
        },
    },
    "kogpt2-llamafactory": {
        "peer": "llamafactory",
        "what": "KoGPT2 shape, LoRA r=8, prompts masked",
        "recipe": {},
        "grid": _LLAMAFACTORY,
    },
    "klue-bert-classification": {
        "peer": "trainer",
        "what": "KLUE-BERT shape (12 layers, 768 wide, 32,000 words), sequence classification, LoRA r=8",
        "recipe": {"task": "sequence_classification"},
        "grid": _TRAINER,
    },
}


def checkpoint(name: str) -> Path:
    """A folder with random weights of the published shape, and the names LoRA attaches to."""
    import torch
    import transformers

    folder = ROOT / ("klue-bert" if name.startswith("klue") else "kogpt2")
    if (folder / "targets.json").is_file():
        return folder
    torch.manual_seed(0)
    tokenizer = transformers.AutoTokenizer.from_pretrained(TOKENIZER)
    if folder.name == "kogpt2":
        config: Any = transformers.GPT2Config(
            vocab_size=51200, n_positions=1024, bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        )  # fmt: skip
        model = transformers.AutoModelForCausalLM.from_config(config)
        targets = ["c_attn", "c_fc", "c_proj"]
    else:
        config = transformers.BertConfig(
            vocab_size=32000, num_labels=2, pad_token_id=tokenizer.pad_token_id
        )
        model = transformers.AutoModelForSequenceClassification.from_config(config)
        targets = [
            "query",
            "key",
            "value",
            "attention.output.dense",
            "intermediate.dense",
            "output.dense",
        ]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "targets.json").write_text(json.dumps(targets), encoding="utf-8")
    return folder


def rows(name: str, number: int) -> list[dict[str, Any]]:
    """Rows of very different lengths, about a hundred tokens each, of the project's own replies."""
    drawn = random.Random(0)
    replies = [
        json.loads(line)
        for line in Path("data/movie_replies.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    made = []
    for _ in range(number):
        several = [drawn.choice(replies) for _ in range(drawn.choice((1, 1, 2, 2, 3, 4, 6)))]
        texts = [" ".join(str(value) for value in one.values()) for one in several]
        half = max(1, len(texts) // 2)
        if name.startswith("klue"):
            made.append({"text": " ".join(texts), "label": drawn.randrange(2)})
        else:
            made.append(
                {
                    "prompt": " ".join(texts[:half]),
                    "completion": " " + " ".join(texts[half:] or texts),
                }
            )
    return made


def prepare(name: str, steps: int) -> Path:
    """The workload's folder, with its recipe and rows."""
    folder = ROOT / name
    folder.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(row, ensure_ascii=False) for row in rows(name, ROWS_PER_STEP * steps))
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    is_text = not name.startswith("klue")
    recipe = {
        "model": {"name_or_path": str(checkpoint(name))},
        "adapter": {"method": "lora", "r": 8, "lora_alpha": 16},
        "data": {
            "train": str(folder / "rows.jsonl"), "eval_fraction": 0.0, "max_length": 512, "packing": False,
            **({"template": "plain"} if is_text else {"format": "classification", "labels": ["a", "b"]}),
        },
        "train": {
            "max_steps": steps, "per_device_train_batch_size": ROWS_PER_STEP, "learning_rate": 1e-3,
            "lr_scheduler_type": "constant", "warmup_ratio": 0.0, "precision": "float32",
            "save_steps": None, "seed": 7,
        },
        "evaluate": {"generate": 0},
        "export": {"merge": False},
        "output_dir": str(folder / "run"),
        **WORKLOADS[name]["recipe"],
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return folder


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


def measure(name: str, pairs: int, steps: int, threads: int) -> dict[str, Any]:
    """The peer's grid, then alternating pairs with its best."""
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
        "grid": {label: one["tokens_per_second"] for label, one in grid.items()},
        "other_training": [label for label, is_so in is_other.items() if is_so],
        "best": best,
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
        "bench": bench(work, threads),
    }


def page(results: dict[str, Any]) -> str:
    """docs/evidence/peers.md."""
    lines = [
        "# Speed and memory beside TRL and transformers' Trainer",
        "",
        "Whole processes in turns, the same checkpoint (random weights of the published shape), the same rows in the same order, "
        "eight rows a step, float32. Tokens are those of the rows, without padding; seconds are those of the finished steps, data "
        "loading included. The peer runs with the best of its settings below; ratios are medians (least to greatest).",
        "",
        f"Made by `make bench` (`python benchmarks/peers.py`); numbers in [peers.json](../../benchmarks/results/peers.json). {results['machine']}.",
        "",
        "| work | peer | kft tokens/s | peer tokens/s | ratio | peak memory, kft / peer |",
        "|---|---|--:|--:|--:|--:|",
    ]
    names = {
        "trl": "TRL SFTTrainer",
        "trainer": "transformers Trainer",
        "llamafactory": "LLaMA-Factory",
    }
    for one in results["workloads"].values():
        ratios = one["ratios"]
        lines.append(
            f"| {one['what']} | {names[one['peer']]}: {one['best']} | {one['kft_tokens_per_second']:.0f} | {one['peer_tokens_per_second']:.0f} | "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) | "
            f"{one['kft_peak_bytes'] / 2**20:.0f} / {one['peer_peak_bytes'] / 2**20:.0f} MiB ({one['kft_peak_bytes'] / one['peer_peak_bytes']:.2f}) |"
        )
    lines += ["", "The peers' settings, one run each, tokens/s:", ""]
    for name, one in results["workloads"].items():
        lines.append(
            f"- {name}: "
            + "; ".join(f"{label} {value:.0f}" for label, value in one["grid"].items())
            + "".join(
                f" ({label}: its first loss is another one, so it doesn't count)"
                for label in one["other_training"]
            )
        )
    lines += ["", "Losses of the first and the last step, kft beside the peer:", ""]
    for name, one in results["workloads"].items():
        first, last = ((one["kft_losses"][at], one["peer_losses"][at]) for at in (0, -1))
        lines.append(
            f"- {name}: {first[0]:.4f} beside {first[1]:.4f}; {last[0]:.4f} beside {last[1]:.4f}"
        )
    return "\n".join([*lines, ""])


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
    options = parser.parse_args()
    if options.llamafactory:
        os.environ["LLAMAFACTORY_PYTHON"] = options.llamafactory
    known = [name for name in WORKLOADS if options.llamafactory or "llamafactory" not in name]
    target = Path("benchmarks/results/peers.json")
    results: dict[str, Any] = (
        json.loads(target.read_text()) if target.is_file() else {"workloads": {}}
    )
    results["machine"] = (
        f"{platform.machine()}, {options.threads} threads, Python {platform.python_version()}"
    )
    for name in options.workloads or known:
        results["workloads"][name] = measure(name, options.pairs, options.steps, options.threads)
        target.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    Path("docs/evidence/peers.md").write_text(page(results), encoding="utf-8")
    print(page(results))


if __name__ == "__main__":
    main()
