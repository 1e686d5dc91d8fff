"""One training in one process, by kft or by a peer, on the same rows in the same order.

    python benchmarks/peer_runs.py WORK SIDE SETTINGS [--warm-up STEPS]

``WORK`` is a folder made by `benchmarks/peers.py` or `benchmarks/gpu.py`; ``SIDE`` is `kft`, `trl`,
`trainer` or `unsloth`; ``SETTINGS`` is a JSON object. Prints one JSON line: real tokens of the
optimizer steps that were finished after the warm-up (none, unless asked for), their seconds with
data loading, each step's loss, and the peak memory when the last step ended: the GPU's, or the
process's. Unsloth's side is written after its documentation and has not been run.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import kft
from kft.api.preflight import load_data
from kft.data.batches import epoch_order
from kft.tasks.registry import choose_task


def recipe_of(work: Path) -> Any:
    """The recipe that both sides follow."""
    return kft.read_recipe(work / "recipe.yaml")


def peak_bytes() -> int:
    """Most memory so far: tensors on the GPU, or what was resident of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def run_kft(work: Path, settings: dict[str, Any], warm_up: int) -> dict[str, Any]:
    """Kft itself, with the recipe's overrides."""
    overrides = {"output_dir": f"{work}/run-{os.getpid()}", **settings}
    marks, tokens, losses, peak = [], [], [], 0
    for stats in kft.steps(work / "recipe.yaml", overrides):
        tokens.append(int(stats.num_tokens))
        losses.append(float(stats.loss))  # waits for the device
        marks = marks or [time.perf_counter() - stats.seconds]
        marks.append(time.perf_counter())
        peak = peak_bytes()
    return {
        "seconds": marks[-1] - marks[warm_up],
        "tokens": sum(tokens[warm_up:]),
        "losses": losses,
        "peak_bytes": peak,
    }


def examples_in_order(work: Path) -> tuple[Any, Any, list[Any]]:
    """The rows that kft's steps read, in their order, encoded by kft."""
    recipe = recipe_of(work)
    _, _, tokenizer, data = load_data(recipe, choose_task(recipe.task))
    order: list[int] = []
    rows = list(data.train.examples)
    while len(order) < recipe.train.max_steps * recipe.train.per_device_train_batch_size:
        drawn = epoch_order(len(rows), recipe.train.seed, len(order) // len(rows))
        order += [int(row) for row in drawn]
    wanted = recipe.train.max_steps * recipe.train.per_device_train_batch_size
    return recipe, tokenizer, [rows[row] for row in order[:wanted]]


def adapted(recipe: Any, auto_class: str, quantized: bool, dtype: str, **options: Any) -> Any:
    """PEFT's own LoRA, from the same random state as kft's; ``dtype`` is that of the base."""
    import transformers
    from peft import LoraConfig, get_peft_model

    if quantized:
        options["quantization_config"] = transformers.BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=getattr(torch, recipe.train.precision),
        )
    if torch.cuda.is_available():
        options["device_map"] = {"": 0}
    torch.manual_seed(recipe.train.seed)
    model = getattr(transformers, auto_class).from_pretrained(
        recipe.model.name_or_path, dtype=getattr(torch, dtype), **options
    )
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    config = LoraConfig(
        r=recipe.adapter.r,
        lora_alpha=recipe.adapter.lora_alpha,
        target_modules=json.loads(Path(recipe.model.name_or_path, "targets.json").read_text()),
        task_type="SEQ_CLS" if "Sequence" in auto_class else "CAUSAL_LM",
        fan_in_fan_out=not quantized and model.config.model_type == "gpt2",
    )
    return get_peft_model(model, config)


class Watch:
    """When each step ended, and its loss, through the Trainer's own callbacks."""

    def __init__(self) -> None:
        from transformers import TrainerCallback

        watch = self
        self.marks: list[float] = []
        self.losses: list[float] = []

        class Callback(TrainerCallback):  # type: ignore[misc]
            def on_train_begin(self, *_: Any, **__: Any) -> None:
                watch.mark()

            def on_step_end(self, *_: Any, **__: Any) -> None:
                watch.mark()

            def on_log(self, *_: Any, logs: dict[str, float] | None = None, **__: Any) -> None:
                if logs and "loss" in logs:
                    watch.losses.append(logs["loss"])

        self.callback = Callback()

    def mark(self) -> None:
        """Now, when the device has done what was asked of it."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.marks.append(time.perf_counter())

    def measured(self, examples: list[Any], warm_up: int) -> dict[str, Any]:
        """A peer's numbers; its tokens are those of the rows, without padding."""
        steps = len(self.marks) - 1
        tokens = np.sum([len(one.input_ids) for one in examples])
        return {
            "seconds": self.marks[-1] - self.marks[warm_up],
            # On average: where rows are grouped by length it isn't known which came first.
            "tokens": int(tokens * (steps - warm_up) / steps),
            "losses": self.losses,
            "peak_bytes": peak_bytes(),
        }


def arguments(recipe: Any, settings: dict[str, Any]) -> dict[str, Any]:
    """What both of the peers' configurations say."""
    return {
        "output_dir": f"{recipe.output_dir}-peer",
        "max_steps": recipe.train.max_steps,
        "per_device_train_batch_size": recipe.train.per_device_train_batch_size,
        "learning_rate": recipe.train.learning_rate,
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "max_grad_norm": recipe.train.max_grad_norm,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": not torch.cuda.is_available(),
        "disable_tqdm": True,
        "bf16": recipe.train.precision == "bfloat16",
        "fp16": recipe.train.precision == "float16",
        "seed": recipe.train.seed,
        "train_sampling_strategy": "sequential",
        **settings,
    }


def sft(
    recipe: Any, model: Any, tokenizer: Any, examples: list[Any], settings: dict[str, Any]
) -> Watch:
    """Train by TRL's SFTTrainer, watched."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    watch = Watch()
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            dataset_kwargs={"skip_prepare_dataset": True},
            **arguments(recipe, {"max_length": recipe.data.max_length, **settings}),
        ),
        train_dataset=Dataset.from_list(
            [{"input_ids": one.input_ids, "labels": one.labels} for one in examples]
        ),
        processing_class=tokenizer,
        callbacks=[watch.callback],
    )
    trainer.train()
    return watch


def run_trl(work: Path, settings: dict[str, Any], warm_up: int) -> dict[str, Any]:
    """TRL's SFTTrainer."""
    recipe, tokenizer, examples = examples_in_order(work)
    dtype = settings.pop("model_dtype", "float32")
    is_quantized = recipe.adapter.method == "qlora"
    model = adapted(recipe, "AutoModelForCausalLM", is_quantized, dtype)
    return sft(recipe, model, tokenizer, examples, settings).measured(examples, warm_up)


def run_trainer(work: Path, settings: dict[str, Any], warm_up: int) -> dict[str, Any]:
    """Transformers' Trainer, on classification."""
    from datasets import Dataset
    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

    recipe, tokenizer, examples = examples_in_order(work)
    rows = [{"input_ids": one.input_ids, "labels": one.label} for one in examples]
    dtype = settings.pop("model_dtype", "float32")
    watch = Watch()
    trainer = Trainer(
        model=adapted(recipe, "AutoModelForSequenceClassification", False, dtype, num_labels=2),
        args=TrainingArguments(**arguments(recipe, settings)),
        train_dataset=Dataset.from_list(rows),
        data_collator=DataCollatorWithPadding(tokenizer),
        callbacks=[watch.callback],
    )
    trainer.train()
    return watch.measured(examples, warm_up)


def run_unsloth(work: Path, settings: dict[str, Any], warm_up: int) -> dict[str, Any]:
    """Unsloth's model under TRL's SFTTrainer; it has to be loaded before that."""
    from unsloth import FastLanguageModel

    recipe, tokenizer, examples = examples_in_order(work)
    model, _ = FastLanguageModel.from_pretrained(
        model_name=recipe.model.name_or_path,
        max_seq_length=recipe.data.max_length,
        load_in_4bit=recipe.adapter.method == "qlora",
        dtype=getattr(torch, recipe.train.precision),
    )
    model = FastLanguageModel.get_peft_model(
        model,
        r=recipe.adapter.r,
        lora_alpha=recipe.adapter.lora_alpha,
        target_modules=json.loads(Path(recipe.model.name_or_path, "targets.json").read_text()),
        use_gradient_checkpointing="unsloth",
        random_state=recipe.train.seed,
    )
    return sft(recipe, model, tokenizer, examples, settings).measured(examples, warm_up)


SIDES = {"kft": run_kft, "trl": run_trl, "trainer": run_trainer, "unsloth": run_unsloth}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("side", choices=SIDES)
    parser.add_argument("settings", type=json.loads)
    parser.add_argument("--warm-up", type=int, default=0)
    asked = parser.parse_args()
    print(json.dumps(SIDES[asked.side](asked.work, asked.settings, asked.warm_up)))
