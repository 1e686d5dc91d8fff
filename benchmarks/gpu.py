"""Speed, memory and correctness on one GPU, in one call: no network, no `datasets`, one JSON.

    python benchmarks/gpu.py [--out benchmarks/results] [--only NAME ...] [--steps 8]
    python benchmarks/gpu.py --tiny     # on a CPU, a block of each shape: does it run?

Checkpoints have random weights of the published shapes and are made in a temporary folder; rows are
this repository's own replies, joined. Each measurement is a process of its own. Correctness is
`tests/gpu`: precisions, 4-bit kernels, attention over documents, the steps of the CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import yaml

TOKENIZER = "data/checkpoints/ko-gpt-mini"
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "kogpt2": ("GPT2Config", {"vocab_size": 51200, "n_positions": 1024}),
    "klue-bert": ("BertConfig", {"vocab_size": 32000}),
    "polyglot-1.3b": (
        "GPTNeoXConfig",
        {
            "vocab_size": 30080, "hidden_size": 2048, "num_hidden_layers": 24, "rotary_pct": 0.5,
            "num_attention_heads": 16, "intermediate_size": 8192, "max_position_embeddings": 2048,
        },
    ),
    "llama-8b": (
        "LlamaConfig",
        {
            "vocab_size": 128256, "hidden_size": 4096, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336,
            "max_position_embeddings": 8192, "tie_word_embeddings": False,
        },
    ),
}  # fmt: skip
WORK: dict[str, tuple[str, dict[str, Any]]] = {
    "kogpt2-lora": ("kogpt2", {"adapter.method": "lora"}),
    "kogpt2-qlora": ("kogpt2", {"adapter.method": "qlora"}),
    "klue-bert-classification": ("klue-bert", {"task": "sequence_classification"}),
    "polyglot-1.3b-lora": ("polyglot-1.3b", {"adapter.method": "lora"}),
    "polyglot-1.3b-qlora": ("polyglot-1.3b", {"adapter.method": "qlora"}),
    "llama-8b-lora": ("llama-8b", {"train.gradient_checkpointing": True}),
    "llama-8b-qlora": (
        "llama-8b",
        {"adapter.method": "qlora", "train.gradient_checkpointing": True},
    ),
}
TINY = {
    "num_hidden_layers": 1,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}


def checkpoint(folder: Path, name: str, tiny: bool) -> None:
    """Random weights in bfloat16, with this repository's tokenizer."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(TOKENIZER)
    kind, shape = SHAPES[name]
    ids = {key: getattr(tokenizer, key) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    smaller = {**TINY, "vocab_size": len(tokenizer)} if tiny else {}
    if tiny and "num_key_value_heads" in shape:
        smaller["num_key_value_heads"] = 2
    config = getattr(transformers, kind)(**{**shape, **ids, **smaller})
    is_encoder = kind == "BertConfig"
    auto = "AutoModelForMaskedLM" if is_encoder else "AutoModelForCausalLM"
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    with torch.device(device):
        model = getattr(transformers, auto).from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def rows(path: Path, labelled: bool, number: int) -> None:
    """Replies joined to rows of some forty to four hundred tokens."""
    drawn = random.Random(0)
    lines = Path("data/movie_replies.jsonl").read_text(encoding="utf-8").splitlines()
    replies = [" ".join(map(str, json.loads(line).values())) for line in lines]
    with path.open("w", encoding="utf-8") as file:
        for _ in range(number):
            texts = [drawn.choice(replies) for _ in range(drawn.choice((1, 2, 3, 4, 6, 9)))]
            row: dict[str, Any] = {"prompt": texts[0], "completion": " ".join(texts)}
            if labelled:
                row = {"text": " ".join(texts), "label": drawn.randrange(2)}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def recipe(folder: Path, shape: str, steps: int, tiny: bool) -> Path:
    """The recipe of a shape, with its rows beside it."""
    labelled = shape == "klue-bert"
    batch = 2 if tiny else {"llama-8b": 2, "polyglot-1.3b": 8}.get(shape, 16)
    rows(folder / f"{shape}.jsonl", labelled, batch * (steps + 2) * (2 if tiny else 12))
    values = {
        "model": {"name_or_path": str(folder / shape)},
        "adapter": {"r": 16, "lora_alpha": 32},
        "data": {
            "train": str(folder / f"{shape}.jsonl"),
            "eval_fraction": 0.0,
            "max_length": 128 if tiny else 1024,
            **({"format": "classification"} if labelled else {"template": "plain"}),
            **({"labels": ["a", "b"]} if labelled else {}),
        },
        "train": {"max_steps": steps + 1, "per_device_train_batch_size": batch, "save_steps": None},
        "evaluate": {"generate": 0},
        "output_dir": str(folder / f"{shape}-run"),
    }  # fmt: skip
    path = folder / f"{shape}.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def measure(path: Path, overrides: dict[str, Any], steps: int) -> dict[str, Any]:
    """`kft bench` in a process of its own; an error is a result too."""
    words = [f"{key}={json.dumps(value)}" for key, value in overrides.items()]
    command = [sys.executable, "-m", "kft", "bench", str(path), *words]
    started = time.perf_counter()
    done = subprocess.run(
        [*command, "--steps", str(steps), "--json"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-12:]}
    found: dict[str, Any] = json.loads(done.stdout)
    return {**found, "whole_seconds": time.perf_counter() - started}


def correctness() -> dict[str, Any]:
    """What the tests for a GPU say, where pytest is installed."""
    command = [sys.executable, "-m", "pytest", "tests/gpu", "-m", "gpu", "-q"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return {"returncode": done.returncode, "said": done.stdout.strip().splitlines()[-12:]}


def main() -> None:
    """Measure, and write one JSON as large as the work that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--only", nargs="+", choices=list(WORK), default=list(WORK))
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    if not options.tiny and not torch.cuda.is_available():
        raise SystemExit("There is no CUDA device; `--tiny` tries the script on a CPU.")
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    results: dict[str, Any] = {"device": name, "torch": torch.__version__, "work": {}}
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 -- 16 GB of weights
    with tempfile.TemporaryDirectory(dir=None if options.tiny else place) as temporary:
        folder = Path(temporary)
        for work in options.only:
            shape, overrides = WORK[work]
            if not (folder / shape).is_dir():
                checkpoint(folder / shape, shape, options.tiny)
            path = recipe(folder, shape, options.steps, options.tiny)
            results["work"][work] = measure(path, overrides, options.steps)
            print(work, json.dumps(results["work"][work])[:200], flush=True)
    if not options.tiny:
        results["correctness"] = correctness()
    target = options.out / f"gpu-{name.lower().replace(' ', '-')}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(target)


if __name__ == "__main__":
    main()
