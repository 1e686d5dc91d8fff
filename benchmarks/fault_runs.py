"""Tiny models and real processes for benchmarks/faults.py: kills, damage, full disks, a soak."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import yaml
from safetensors.torch import load_file

import kft
from kft.api.observer import Silent
from kft.cli.main import run_words
from kft.errors import Finding
from kft.models.tokenizer_measures import SENTENCES
from kft.train.checkpoint import complete_checkpoints
from kft.train.runlog import read_log
from kft.train.same_bits import LOGGED, compare_steps

ROWS = Path("data/movie_replies.jsonl")
STEPS = 12
KINDS: dict[str, dict[str, Any]] = {
    "GPT, LoRA, packed": {"adapter.lora_dropout": 0.1},
    "GPT, QLoRA, packed": {"adapter.method": "qlora", "train.optim": "adamw_8bit"},
    "BERT, LoRA, packed": {"task": "masked_lm"},
    "BERT, QLoRA": {"task": "masked_lm", "adapter.method": "qlora", "data.packing": False},
}
Result = dict[str, Any]


def texts() -> list[str]:
    """Every text of the rows, and plain Korean that a vocabulary has to know."""
    rows = [json.loads(line) for line in ROWS.read_text(encoding="utf-8").splitlines()]
    return [text for row in rows for text in (row["instruction"], row["output"])] + [*SENTENCES]


def make_models(folder: Path) -> dict[str, Path]:
    """A GPT-2 and a BERT of two blocks, 64 wide, with random weights and their tokenizers."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import (
        BertConfig,
        BertForMaskedLM,
        BertTokenizer,
        GPT2Config,
        GPT2LMHeadModel,
        PreTrainedTokenizerFast,
    )  # fmt: skip

    torch.manual_seed(0)
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    names = ["<s>", "</s>", "<unk>", "<pad>"]
    bpe.train_from_iterator(
        texts(),
        trainers.BpeTrainer(
            vocab_size=600, special_tokens=names, show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )  # fmt: skip
    PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        pad_token="<pad>",
    ).save_pretrained(folder / "gpt")  # fmt: skip
    gpt = GPT2Config(
        vocab_size=600, n_positions=128, n_embd=64, n_layer=2, n_head=4, bos_token_id=0,
        eos_token_id=1, pad_token_id=3,
    )  # fmt: skip
    GPT2LMHeadModel(gpt).save_pretrained(folder / "gpt")
    pieces = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    pieces.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces.train_from_iterator(
        texts(),
        trainers.WordPieceTrainer(vocab_size=2000, special_tokens=specials, show_progress=False),
    )
    tokenizer = BertTokenizer(vocab=pieces.get_vocab(), do_lower_case=False, strip_accents=False)
    tokenizer.save_pretrained(folder / "bert")
    bert = BertConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=128,
    )  # fmt: skip
    BertForMaskedLM(bert).save_pretrained(folder / "bert")
    return {"GPT": folder / "gpt", "BERT": folder / "bert"}


def write_recipe(path: Path, model: Path, output: Path, keys: Mapping[str, Any]) -> Path:
    """A recipe of ``STEPS`` steps with a checkpoint after each."""
    task = keys.get("task", "causal_lm")
    if task == "masked_lm":
        path.with_suffix(".txt").write_text("\n".join(texts()[:48]) + "\n", encoding="utf-8")
    recipe: dict[str, Any] = {
        "task": task,
        "model": {"name_or_path": str(model)},
        "adapter": {"r": 4},
        "data": {
            "train": str(ROWS if task == "causal_lm" else path.with_suffix(".txt")),
            "packing": True, "max_length": 96,
        },
        "train": {
            "max_steps": STEPS, "per_device_train_batch_size": 4, "learning_rate": 1e-3,
            "precision": "float32", "save_steps": 1,
        },
        "evaluate": {"generate": 0, "scored_generations": 0, "max_rows": 4},
        "export": {"merge": False},
        "output_dir": str(output),
    }  # fmt: skip
    for key, value in keys.items():
        section, _, leaf = key.rpartition(".")
        (recipe[section] if section else recipe)[leaf] = value
    path.write_text(yaml.safe_dump(recipe, allow_unicode=True), encoding="utf-8")
    return path


def started(*words: str, log: Path) -> int:
    """A process of its own that runs ``kft``; forked, so that nothing is imported again."""
    child = os.fork()
    if child:
        return child
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        code = run_words(words)
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def ended(child: int) -> int:
    """Its exit code; a signal is negative."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def same(straight: Path, other: Path) -> bool:
    """Adapter, last checkpoint and log of two finished runs, to the bit."""
    name = Path("adapter") / "adapter_model.safetensors"
    if not (other / name).is_file() or load_file(straight / name).keys() == set():
        return False
    if (straight / name).read_bytes() != (other / name).read_bytes():
        return False
    logs = [
        [[line[key] for key in ("step", *LOGGED)] for line in read_log(folder) if "loss" in line]
        for folder in (straight, other)
    ]
    compared = compare_steps(straight, other, STEPS)
    return logs[0] == logs[1] and all(one.first_difference is None for one in compared)


def kills(work: Path, count: int, seed: int = 0) -> Result:
    """SIGKILL at random moments of training and saving, then ``--resume``."""
    for name in ("kft.api.finetune", "kft.cli.display", "bitsandbytes"):
        importlib.import_module(name)  # once, not in every process
    draw, models, told = random.Random(seed), make_models(work / "models"), {}
    for number, (kind, keys) in enumerate(KINDS.items()):
        model, place = models[kind.partition(",")[0]], work / f"kind-{number}"
        place.mkdir()
        recipe = write_recipe(place / "recipe.yaml", model, place / "straight", keys)
        child = started("finetune", str(recipe), log=place / "log")
        seconds = _seconds_after(place / "straight", child)
        ended(child)
        mine = count // len(KINDS) + (number < count % len(KINDS))
        equal = during_save = 0
        for _ in range(mine):
            run = place / "run"
            shutil.rmtree(run, ignore_errors=True)
            words = ("finetune", str(recipe), f"output_dir={run}", "--resume")
            child = started(*words, log=place / "log")
            while not run.exists() and not _is_over(child):
                time.sleep(0.001)
            time.sleep(draw.uniform(0, seconds))
            os.kill(child, signal.SIGKILL)
            ended(child)
            during_save += any(run.glob("checkpoints/*.part"))
            code = ended(started(*words, log=place / "log"))
            equal += code == 0 and same(place / "straight", run)
        told[kind] = {"killed": mine, "equal": equal, "during_save": during_save}
        print(kind, told[kind], flush=True)
    return told


def _is_over(child: int) -> bool:
    return psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def _seconds_after(folder: Path, child: int) -> float:
    """Seconds from when the folder is there to the end of the process."""
    while not folder.exists() and not _is_over(child):
        time.sleep(0.001)
    began = time.perf_counter()
    while not _is_over(child):
        time.sleep(0.001)
    return time.perf_counter() - began


def damage(work: Path, count: int, seed: int = 0) -> Result:
    """Random bits flipped and files cut off in the last checkpoint, one fault at a time."""
    draw, model = random.Random(seed), make_models(work / "models")["GPT"]
    kft.finetune(write_recipe(work / "recipe.yaml", model, work / "run", {}))
    root = work / "run" / "checkpoints"
    files = sorted((root / f"step-{STEPS:08d}").iterdir())
    found = {"flipped": 0, "cut": 0}
    for number in range(count):
        path, kind = draw.choice(files), ("flipped", "cut")[number % 2]
        before = path.read_bytes()
        after = bytearray(before[: draw.randrange(len(before))] if kind == "cut" else before)
        if kind == "flipped":
            after[draw.randrange(len(after))] ^= 1 << draw.randrange(8)
        path.write_bytes(after)
        first, second = complete_checkpoints(root)
        is_named = isinstance(first, Finding) and f"step-{STEPS:08d}" in str(first.where)
        found[kind] += is_named and isinstance(second, tuple) and second[1] == STEPS - 1
        path.write_bytes(before)
    return {"faults": count, **found}


@contextlib.contextmanager
def small_disk(place: Path, size: int) -> Iterator[None]:
    """A tmpfs of so many bytes; only root may mount one."""
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def full_disks(work: Path, count: int) -> Result:
    """Runs on disks that fill up at different places; then there is room, and they go on."""
    model, disk = make_models(work / "models")["GPT"], work / "disk"
    recipe = write_recipe(work / "recipe.yaml", model, work / "straight", {})
    kft.finetune(recipe)
    size = sum(path.stat().st_size for path in (work / "straight").rglob("*") if path.is_file())
    told = {"places": count, "exit 1 and said": 0, "checkpoints whole": 0, "went on equal": 0}
    for number in range(1, count + 1):
        log = work / f"log-{number}"
        words = ("finetune", str(recipe), f"output_dir={disk / 'run'}")
        with small_disk(disk, size * number // (count + 1)):
            code = ended(started(*words, log=log))
            said = log.read_text(encoding="utf-8")
            clear = "No space left on device" in said and "unexpected" not in said
            told["exit 1 and said"] += code == 1 and clear
            left = list(complete_checkpoints(disk / "run" / "checkpoints"))
            parts = list(disk.rglob("checkpoints/*.part"))
            told["checkpoints whole"] += not parts and all(isinstance(one, tuple) for one in left)
            more = ["mount", "-o", f"remount,size={4 * size}", str(disk)]
            subprocess.run(more, check=True)
            code = ended(started(*words, "--resume", log=log))
            told["went on equal"] += code == 0 and same(work / "straight", disk / "run")
    return told


class Meter(Silent):
    """Notes memory and open files while a run trains."""

    def __init__(self, every: int) -> None:
        self.every, self.process = every, psutil.Process()
        self.seen: list[tuple[int, int, int]] = []

    def step(self, record: Mapping[str, float], total_steps: int) -> None:  # noqa: ARG002 -- an observer's form
        """Note them every so many steps."""
        if record["step"] % self.every == 0:
            bytes_now = self.process.memory_info().rss
            self.seen.append((int(record["step"]), bytes_now, self.process.num_fds()))


def soak(work: Path, steps: int) -> Result:
    """Many steps with evaluations and checkpoints: memory and open files from a tenth on."""
    keys = {
        "train.max_steps": steps, "train.save_steps": steps // 40,
        "evaluate.eval_steps": steps // 40,
        "evaluate.max_rows": 4, "train.per_device_train_batch_size": 1, "data.max_length": 64,
        "train.learning_rate": 1e-5,
    }  # fmt: skip
    model = make_models(work / "models")["GPT"]
    meter = Meter(max(1, steps // 100))
    kft.finetune(write_recipe(work / "recipe.yaml", model, work / "run", keys), observer=meter)
    settled = [one for one in meter.seen if one[0] >= steps // 10]
    memory, files = [one[1] for one in settled], [one[2] for one in settled]
    return {
        "steps": steps,
        "memory growth": memory[-1] / memory[0] - 1,
        "memory range": max(memory) / min(memory) - 1,
        "open files": [files[0], files[-1]],
    }
