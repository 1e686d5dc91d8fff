"""One training in one process, by kft or by a peer, on the same rows in the same order.

    python benchmarks/peer_runs.py WORK SIDE SETTINGS

``WORK`` is a folder made by `benchmarks/peers.py`; ``SIDE`` is `kft`, `trl` or `trainer`;
``SETTINGS`` is a JSON object. Prints one JSON line: real tokens and rows of the optimizer steps
that were finished, their seconds with data loading, each step's loss, and the process's peak
memory when the last step ended.
"""

from __future__ import annotations

import json
import os
import sys
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
    """Largest resident memory of this process so far."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def run_kft(work: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Kft itself, with the recipe's overrides."""
    overrides = {"output_dir": f"{work}/run-{os.getpid()}", **settings}
    seconds, tokens, losses, peak = 0.0, 0, [], 0
    for stats in kft.steps(work / "recipe.yaml", overrides):
        seconds += stats.seconds
        tokens += int(stats.num_tokens)
        losses.append(float(stats.loss))
        peak = peak_bytes()
    return {"seconds": seconds, "tokens": tokens, "losses": losses, "peak_bytes": peak}


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
    """Seconds of the steps, and each one's loss, through the Trainer's own callbacks."""

    def __init__(self) -> None:
        from transformers import TrainerCallback

        watch = self
        self.started = self.seconds = 0.0
        self.losses: list[float] = []

        class Callback(TrainerCallback):  # type: ignore[misc]
            def on_train_begin(self, *_: Any, **__: Any) -> None:
                watch.started = time.perf_counter()

            def on_step_end(self, *_: Any, **__: Any) -> None:
                watch.seconds = time.perf_counter() - watch.started

            def on_log(self, *_: Any, logs: dict[str, float] | None = None, **__: Any) -> None:
                if logs and "loss" in logs:
                    watch.losses.append(logs["loss"])

        self.callback = Callback()


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
        "use_cpu": True,
        "disable_tqdm": True,
        "bf16": recipe.train.precision == "bfloat16",
        "seed": recipe.train.seed,
        "train_sampling_strategy": "sequential",
        **settings,
    }


def run_trl(work: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """TRL's SFTTrainer."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    recipe, tokenizer, examples = examples_in_order(work)
    rows = [{"input_ids": one.input_ids, "labels": one.labels} for one in examples]
    dtype = settings.pop("model_dtype", "float32")
    watch = Watch()
    trainer = SFTTrainer(
        model=adapted(recipe, "AutoModelForCausalLM", recipe.adapter.method == "qlora", dtype),
        args=SFTConfig(
            dataset_kwargs={"skip_prepare_dataset": True},
            **arguments(recipe, {"max_length": recipe.data.max_length, **settings}),
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        callbacks=[watch.callback],
    )
    trainer.train()
    return measured(watch, examples)


def run_trainer(work: Path, settings: dict[str, Any]) -> dict[str, Any]:
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
    return measured(watch, examples)


def measured(watch: Watch, examples: list[Any]) -> dict[str, Any]:
    """A peer's numbers; its tokens are those of the rows, without padding."""
    return {
        "seconds": watch.seconds,
        "tokens": int(np.sum([len(one.input_ids) for one in examples])),
        "losses": watch.losses,
        "peak_bytes": peak_bytes(),
    }


if __name__ == "__main__":
    side = {"kft": run_kft, "trl": run_trl, "trainer": run_trainer}[sys.argv[2]]
    print(json.dumps(side(Path(sys.argv[1]), json.loads(sys.argv[3]))))
