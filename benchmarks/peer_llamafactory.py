"""LLaMA-Factory on a workload's rows, in an environment of its own.

    PYTHON benchmarks/peer_llamafactory.py WORK SETTINGS

Run by `benchmarks/peers.py --llamafactory PYTHON`; prints the same JSON line as
`benchmarks/peer_runs.py`. Its rows are the same texts: an empty template, the end token written
behind each answer, nothing shuffled.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import yaml
from llamafactory.train.tuner import run_exp
from transformers import AutoTokenizer, TrainerCallback


class Watch(TrainerCallback):  # type: ignore[misc]
    """Seconds of the steps, their losses and the tokens of the rows they read."""

    def __init__(self, num_rows: int) -> None:
        self.num_rows = num_rows
        self.started = self.seconds = 0.0
        self.losses: list[float] = []
        self.tokens = 0

    def on_train_begin(self, *_: Any, train_dataloader: Any, **__: Any) -> None:
        """Start the clock."""
        rows = train_dataloader.dataset.select(range(self.num_rows))
        self.tokens = sum(len(row["input_ids"]) for row in rows)
        self.started = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Look at it."""
        self.seconds = time.perf_counter() - self.started

    def on_log(self, *_: Any, logs: dict[str, float] | None = None, **__: Any) -> None:
        """Keep the loss."""
        if logs and "loss" in logs:
            self.losses.append(logs["loss"])


def prepared(work: Path, model: str) -> Path:
    """Its data set: the workload's rows in Alpaca's columns; the checkpoint without dropout."""
    end = AutoTokenizer.from_pretrained(model).eos_token
    lines = (work / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    alpaca = [
        {"instruction": row["prompt"], "input": "", "output": row["completion"] + end}
        for row in rows
    ]
    folder = work / "llamafactory"
    folder.mkdir(exist_ok=True)
    (folder / "rows.json").write_text(json.dumps(alpaca, ensure_ascii=False), encoding="utf-8")
    (folder / "dataset_info.json").write_text('{"rows": {"file_name": "rows.json"}}')
    copy = folder / "model"
    copy.mkdir(exist_ok=True)
    for file in Path(model).iterdir():
        (copy / file.name).unlink(missing_ok=True)
        (copy / file.name).symlink_to(file.resolve())
    config = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    (copy / "config.json").unlink()
    config |= {name: 0.0 for name in config if name.endswith("_pdrop")}
    (copy / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return copy


def main() -> None:
    """Train, and print what was measured."""
    work, settings = Path(sys.argv[1]), json.loads(sys.argv[2])
    recipe = yaml.safe_load((work / "recipe.yaml").read_text(encoding="utf-8"))
    model, train, adapter = recipe["model"]["name_or_path"], recipe["train"], recipe["adapter"]
    folder = prepared(work, model)
    watch = Watch(train["max_steps"] * train["per_device_train_batch_size"])
    arguments = {
        "model_name_or_path": str(folder),
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "lora",
        "lora_rank": adapter["r"],
        "lora_alpha": adapter["lora_alpha"],
        "lora_dropout": 0.0,
        "lora_target": ",".join(json.loads(Path(model, "targets.json").read_text())),
        "dataset": "rows",
        "dataset_dir": str(work / "llamafactory"),
        "template": "empty",
        "cutoff_len": recipe["data"]["max_length"],
        "disable_shuffling": True,
        "overwrite_cache": True,
        "output_dir": f"{work}/run-llamafactory",
        "max_steps": train["max_steps"],
        "per_device_train_batch_size": train["per_device_train_batch_size"],
        "learning_rate": train["learning_rate"],
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "seed": train["seed"],
        **settings,
    }
    run_exp(arguments, callbacks=[watch])
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak = int(status.partition("VmHWM:")[2].split()[0]) * 1024
    found = {
        "seconds": watch.seconds,
        "tokens": watch.tokens,
        "losses": watch.losses,
        "peak_bytes": peak,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
