# ruff: noqa: E501 -- the table's lines are long
"""What `benchmarks/peers.py` runs: the peers' settings, the checkpoints, the rows, the recipes."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import yaml

ROOT = Path("runs/peers")
TOKENIZER = "data/checkpoints/ko-gpt-mini"
ROWS_PER_STEP = 8

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
_FREE = _TRL["no recomputation, padding-free"]
_TRL_BFLOAT16 = {
    "its defaults": {},
    "no recomputation": {"gradient_checkpointing": False},
    "no recomputation, padding-free": _FREE,
    "no recomputation, padding-free, weights in bfloat16": {**_FREE, "model_dtype": "bfloat16"},
    "the same without autocast": {**_FREE, "model_dtype": "bfloat16", "bf16": False},
    "no recomputation, 1 x 8 rows": _TRL["no recomputation, 1 x 8 rows"],
}
WORKLOADS: dict[str, dict[str, Any]] = {
    "kogpt2-lora-bfloat16": {
        "peer": "trl",
        "what": "KoGPT2 shape (12 layers, 768 wide, 51,200 words), LoRA r=8, prompts masked, bfloat16",
        "precision": "bfloat16",
        "recipe": {},
        "grid": _TRL_BFLOAT16,
    },
    "kogpt2-qlora-bfloat16": {
        "peer": "trl",
        "what": "the same on a base in NF4, bfloat16",
        "precision": "bfloat16",
        "recipe": {"adapter": {"method": "qlora", "r": 8, "lora_alpha": 16}},
        "grid": {
            name: settings
            for name, settings in _TRL_BFLOAT16.items()
            if "model_dtype" not in settings
        },
    },
    "klue-bert-classification-bfloat16": {
        "peer": "trainer",
        "what": "KLUE-BERT shape (12 layers, 768 wide, 32,000 words), sequence classification, LoRA r=8, bfloat16",
        "precision": "bfloat16",
        "recipe": {"task": "sequence_classification"},
        "grid": {
            **_TRAINER,
            "8 rows of similar length, weights in bfloat16": {
                "train_sampling_strategy": "group_by_length",
                "model_dtype": "bfloat16",
            },
            "the same without autocast": {
                "train_sampling_strategy": "group_by_length",
                "model_dtype": "bfloat16",
                "bf16": False,
            },
        },
    },
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
                "no recomputation, padding-free",
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
            "lr_scheduler_type": "constant", "warmup_ratio": 0.0,
            "precision": WORKLOADS[name].get("precision", "float32"),
            "save_steps": None, "seed": 7,
        },
        "evaluate": {"generate": 0},
        "export": {"merge": False},
        "output_dir": str(folder / "run"),
        **WORKLOADS[name]["recipe"],
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return folder
