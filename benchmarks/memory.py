# ruff: noqa: E501 -- the page's lines are long
"""The memory plan against what runs really took, each in a process of its own.

    python benchmarks/memory.py

Writes benchmarks/results/memory.json and docs/evidence/memory.md. The peak is the process's own
(VmHWM of /proc/self/status), reset where each stage of the run begins, so that every stage has its
own; what is compared is the highest until the end of training, merging is not part of the plan.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

MINI = Path("data/checkpoints/ko-gpt-mini")
ROWS = Path("data/movie_replies.jsonl")
RESULTS = Path("benchmarks/results/memory.json")
PAGE = Path("docs/evidence/memory.md")
MARK = "memory-case "
TEXT = """# The memory plan against real runs

`python benchmarks/memory.py` trains each recipe for four steps on the CPU, in float32 unless said, in a process of its
own, and reads the most resident memory that it had until the adapter was saved (`VmHWM`). Merging comes afterwards
and is not part of the plan. The shapes have random weights; rows are generated from this repository's.

The plan starts from what the process holds when it is made (Python, libraries, rows), adds what arrays
will take, 20 MB for what the process grows by, and a quarter of a step's small arrays for what the C
library keeps of freed ones. In bfloat16, on processors that multiply it, oneDNN writes a program for each shape of
a product; those of a run are counted with 150 MB. That quarter and these were fitted to runs of this kind, so they show that the plan is
consistent, not that it holds on another machine or allocator. CUDA has not been measured.

| run | predicted MB | measured MB | ratio | peak while |
|---|--:|--:|--:|---|
"""

LANGUAGE = {
    "data.format": "instruction",
    "data.template": "koalpaca",
    "data.eval_fraction": 0.05,
    "evaluate.generate": 0,
}
CLASSES = {"task": "sequence_classification", "data.format": "classification"}
FEW = {
    "train.max_steps": 4, "evaluate.max_rows": 4, "export.merge": False, "train.precision": "float32",
}  # fmt: skip

SHORT = {"data.max_length": 256, "train.per_device_train_batch_size": 4}
CASES: dict[str, dict[str, Any]] = {
    "ko-gpt-mini, LoRA": {**LANGUAGE, **SHORT, "model": "mini"},
    "ko-gpt-mini, all weights": {
        **LANGUAGE,
        **SHORT,
        "model": "mini",
        "adapter.method": "full",
        "export.dtype": "float32",
    },
    "KoGPT2 shape, LoRA": {**LANGUAGE, **SHORT, "model": "gpt2"},
    "KoGPT2 shape, LoRA, checkpointing": {
        **LANGUAGE,
        **SHORT,
        "model": "gpt2",
        "train.gradient_checkpointing": True,
    },
    "KoGPT2 shape, QLoRA": {**LANGUAGE, **SHORT, "model": "gpt2", "adapter.method": "qlora"},
    "KLUE-BERT shape, classes, LoRA": {
        **CLASSES,
        "model": "bert",
        "data.max_length": 128,
        "train.per_device_train_batch_size": 32,
    },
}
# Slow beyond use on processors that don't multiply it: left out there.
BFLOAT16 = {
    f"{name}, bfloat16": {**case, "train.precision": "bfloat16"}
    for name, case in CASES.items()
    if "mini" not in name
}


def texts(number: int) -> list[tuple[str, str]]:
    """Generated questions and answers: sentences of this repository's rows, drawn anew."""
    lines = ROWS.read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    draw = random.Random(0)
    return [
        (
            " ".join(row["instruction"] for row in draw.choices(rows, k=draw.randint(1, 4))),
            " ".join(row["output"] for row in draw.choices(rows, k=draw.randint(1, 3))),
        )
        for _ in range(number)
    ]


def write_rows(path: Path, *, labelled: bool) -> None:
    """600 rows of generated text."""
    with path.open("w", encoding="utf-8") as file:
        for number, (question, answer) in enumerate(texts(600)):
            row: dict[str, Any] = {"instruction": question, "output": answer}
            if labelled:
                row = {"text": question, "label": ["부정", "긍정"][number % 2]}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def make_checkpoint(kind: str, folder: Path) -> str:
    """A checkpoint of random float32 weights in the shape of KoGPT2 or KLUE-BERT."""
    if kind == "mini":
        return str(MINI)
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import AutoTokenizer, BertConfig, BertTokenizer, GPT2Config

    torch.manual_seed(0)
    if kind == "gpt2":
        tokenizer = AutoTokenizer.from_pretrained(MINI)
        ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in
               ("bos", "eos", "pad")}  # fmt: skip
        config: Any = GPT2Config(vocab_size=51200, **ids)
        model = transformers.AutoModelForCausalLM.from_config(config)
    else:
        from kft.models.tokenizer_measures import SENTENCES

        pieces = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        pieces.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        trainer = trainers.WordPieceTrainer(
            vocab_size=8000, special_tokens=specials, show_progress=False
        )
        known = [*SENTENCES, *(part for pair in texts(600) for part in pair)]
        pieces.train_from_iterator(known, trainer)
        tokenizer = BertTokenizer(
            vocab=pieces.get_vocab(), do_lower_case=False, strip_accents=False
        )
        config = BertConfig(vocab_size=32000, pad_token_id=0)
        model = transformers.AutoModelForMaskedLM.from_config(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def process_bytes(field: str) -> int:
    """A line of /proc/self/status in bytes."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise ValueError(field)


def run_case(recipe: dict[str, Any]) -> dict[str, Any]:
    """Train in this process; the highest memory of each stage."""
    from kft.api.observer import Silent

    class Stages(Silent):
        def __init__(self) -> None:
            self.peaks: dict[str, int] = {}
            self.begin: dict[str, int] = {}
            self.now = "starting"

        def stage(self, title: str) -> None:
            self.peaks[self.now] = process_bytes("VmHWM")
            self.begin[title] = process_bytes("VmRSS")
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
            self.now = title

    import kft

    stages = Stages()
    run = kft.finetune(kft.read_recipe(recipe.pop("recipe"), recipe), observer=stages)
    until = list(stages.peaks)[: list(stages.peaks).index("saving") + 1]
    peak = max(until, key=lambda name: stages.peaks[name])
    planned = run.result["predicted_memory_bytes"]
    return {
        "predicted_bytes": planned,
        "measured_bytes": stages.peaks[peak],
        "ratio": planned / stages.peaks[peak],
        "peak_while": peak,
        "stages": stages.peaks,
    }


def measure(name: str, folder: Path) -> dict[str, Any]:
    """One case in a fresh process."""
    case = dict((CASES | BFLOAT16)[name])
    kind = case.pop("model")
    place = folder / kind
    if not (folder / f"{kind}.done").exists():
        where = make_checkpoint(kind, place)
        (folder / f"{kind}.done").write_text(where, encoding="utf-8")
    rows = folder / f"{kind}.jsonl"
    write_rows(rows, labelled=kind == "bert")
    recipe = folder / "recipe.yaml"
    where = (folder / f"{kind}.done").read_text(encoding="utf-8")
    out = tempfile.mkdtemp(dir=folder)
    recipe.write_text(
        json.dumps({
            "model": {"name_or_path": where}, "data": {"train": str(rows)}, "output_dir": out,
        }),
        encoding="utf-8",
    )  # fmt: skip
    order = {"recipe": str(recipe), **FEW, **case}
    done = subprocess.run(
        [sys.executable, __file__, "--case", json.dumps(order)], capture_output=True, text=True
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    if not lines:
        raise RuntimeError(done.stderr)
    found: dict[str, Any] = json.loads(lines[-1].removeprefix(MARK))
    return found


def main() -> None:
    """Measure every case, or run the one that is named."""
    if sys.argv[1:2] == ["--case"]:
        print(MARK + json.dumps(run_case(json.loads(sys.argv[2]))))
        return
    import torch

    from kft.models.precision import has_fast_bfloat16

    has_bfloat16 = has_fast_bfloat16(torch.device("cpu"))
    wanted = sys.argv[1:] or [*CASES, *(BFLOAT16 if has_bfloat16 else ())]
    found = json.loads(RESULTS.read_text(encoding="utf-8"))["cases"] if RESULTS.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        for name in wanted:
            found[name] = measure(name, Path(folder))
            print(f"{name}: {found[name]['ratio']:.3f}", flush=True)
            write({case: found[case] for case in (*CASES, *BFLOAT16) if case in found})


def write(found: dict[str, dict[str, Any]]) -> None:
    """The results and the page that shows them."""
    packages = {name: version(name) for name in ("torch", "transformers", "peft", "bitsandbytes")}
    told = {"threads": os.environ.get("OMP_NUM_THREADS"), "packages": packages, "cases": found}
    RESULTS.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    lines = [
        f"| {name} | {one['predicted_bytes'] / 1e6:,.0f} | {one['measured_bytes'] / 1e6:,.0f} "
        f"| {one['ratio']:.2f} | {one['peak_while']} |"
        for name, one in found.items()
    ]
    PAGE.write_text(TEXT + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
