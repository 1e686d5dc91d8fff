"""What `benchmarks/gpu.py` runs: shapes, checkpoints, rows, recipes, the peers' settings."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml

TOKENIZER = "data/checkpoints/ko-gpt-mini"


class Shape(NamedTuple):
    """A published shape.

    Args:
        config: Of transformers.
        keys: What differs from its defaults.
        targets: The layers that kft's LoRA attaches to, by PEFT's names, for the peers.
        rows: Of a step.
    """

    config: str
    keys: dict[str, Any]
    targets: tuple[str, ...]
    rows: int


_NEOX = ("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h")
SHAPES = {
    "kogpt2": Shape(
        "GPT2Config", {"vocab_size": 51200, "n_positions": 1024}, ("c_attn", "c_fc", "c_proj"), 16
    ),
    "klue-bert": Shape(
        "BertConfig",
        {"vocab_size": 32000},
        ("query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"),
        16,
    ),
    "polyglot-1.3b": Shape(
        "GPTNeoXConfig",
        {
            "vocab_size": 30080, "hidden_size": 2048, "num_hidden_layers": 24, "rotary_pct": 0.5,
            "num_attention_heads": 16, "intermediate_size": 8192, "max_position_embeddings": 2048,
        },
        _NEOX,
        8,
    ),
    "llama-8b": Shape(
        "LlamaConfig",
        {
            "vocab_size": 128256, "hidden_size": 4096, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336,
            "max_position_embeddings": 8192, "tie_word_embeddings": False,
        },
        ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        2,
    ),
    "polyglot-12.8b": Shape(
        "GPTNeoXConfig",
        {
            "vocab_size": 30080, "hidden_size": 5120, "num_hidden_layers": 40, "rotary_pct": 0.5,
            "num_attention_heads": 40, "intermediate_size": 20480, "max_position_embeddings": 2048,
        },
        _NEOX,
        1,
    ),
}  # fmt: skip
TINY = {
    "num_hidden_layers": 1,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}

_FREE = {"padding_free": True, "max_length": None}
_TRL = {
    "its defaults": {},
    "no recomputation, padding-free": {"gradient_checkpointing": False, **_FREE},
    "no recomputation": {"gradient_checkpointing": False},
}
_TRL_LARGE = {
    "its defaults": {},
    "padding-free": _FREE,
    "padding-free, Liger's kernels": {"use_liger_kernel": True, **_FREE},
}
_TRAINER = {
    "8 rows of similar length": {"train_sampling_strategy": "group_by_length"},
    "its defaults": {},
}


class Work(NamedTuple):
    """One training.

    Args:
        shape: Of :data:`SHAPES`.
        keys: Of the recipe.
        peer: Whose trainer it is compared with; ``None``: with nobody's.
        grid: The peer's settings.
        has_unsloth: Unsloth knows this architecture.
    """

    shape: str
    keys: dict[str, Any]
    peer: str | None
    grid: dict[str, dict[str, Any]]
    has_unsloth: bool = False


_QLORA = {"adapter.method": "qlora"}
_RECOMPUTED = {"train.gradient_checkpointing": True}
WORK = {
    "kogpt2-lora": Work("kogpt2", {}, "trl", _TRL),
    "kogpt2-qlora": Work("kogpt2", _QLORA, "trl", _TRL),
    "klue-bert-classification": Work(
        "klue-bert", {"task": "sequence_classification"}, "trainer", _TRAINER
    ),
    "polyglot-1.3b-lora": Work("polyglot-1.3b", {}, "trl", _TRL),
    "polyglot-1.3b-qlora": Work("polyglot-1.3b", _QLORA, "trl", _TRL),
    "llama-8b-lora": Work("llama-8b", _RECOMPUTED, "trl", _TRL_LARGE, has_unsloth=True),
    "llama-8b-qlora": Work(
        "llama-8b", _QLORA | _RECOMPUTED, "trl", _TRL_LARGE, has_unsloth=True
    ),
    "polyglot-12.8b-qlora": Work("polyglot-12.8b", _QLORA | _RECOMPUTED, None, {}),
}  # fmt: skip


def is_labelled(shape: str) -> bool:
    """Whether its rows have labels."""
    return SHAPES[shape].config == "BertConfig"


def make_checkpoint(folder: Path, name: str, *, tiny: bool) -> None:
    """Random weights in bfloat16, with this repository's tokenizer; made on the GPU."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(TOKENIZER)
    shape = SHAPES[name]
    ids = {key: getattr(tokenizer, key) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    smaller = {**TINY, "vocab_size": len(tokenizer)} if tiny else {}
    if tiny and "num_key_value_heads" in shape.keys:
        smaller["num_key_value_heads"] = 2
    config = getattr(transformers, shape.config)(**{**shape.keys, **ids, **smaller})
    auto = "AutoModelForMaskedLM" if is_labelled(name) else "AutoModelForCausalLM"
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    with torch.device(device):
        model = getattr(transformers, auto).from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "targets.json").write_text(json.dumps(shape.targets), encoding="utf-8")


def _rows(path: Path, number: int, *, labelled: bool) -> None:
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


def make_recipe(folder: Path, name: str, steps: int, precision: str, *, tiny: bool) -> Path:
    """The folder of a work, with the recipe that both sides follow and its rows."""
    work = WORK[name]
    labelled = is_labelled(work.shape)
    batch = 2 if tiny else SHAPES[work.shape].rows
    place = folder / name
    place.mkdir()
    _rows(place / "rows.jsonl", batch * steps, labelled=labelled)
    values: dict[str, Any] = {
        "model": {"name_or_path": str(folder / work.shape)},
        "adapter": {"r": 16, "lora_alpha": 32},
        "data": {
            "train": str(place / "rows.jsonl"),
            "eval_fraction": 0.0,
            "max_length": 128 if tiny else 1024,
            "packing": False,
            **({"format": "classification"} if labelled else {"template": "plain"}),
            **({"labels": ["a", "b"]} if labelled else {}),
        },
        "train": {
            "max_steps": steps, "per_device_train_batch_size": batch, "save_steps": None,
            "precision": precision,
            "lr_scheduler_type": "constant", "warmup_ratio": 0.0,
        },
        "evaluate": {"generate": 0},
        "output_dir": str(place / "run"),
    }  # fmt: skip
    for key, value in work.keys.items():
        section, _, last = key.rpartition(".")
        (values.setdefault(section, {}) if section else values)[last] = value
    path = place / "recipe.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return place
