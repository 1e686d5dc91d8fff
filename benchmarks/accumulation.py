# ruff: noqa: E501 -- the table's lines are long
"""One step on the same eight rows, as 8 x 1 and as 1 x 8 micro-batches: kft and transformers.

    python benchmarks/accumulation.py

A small BERT with random weights classifies eight movie reviews of this repository (is the reply
an apology?). Writes benchmarks/results/accumulation.json and docs/evidence/accumulation.md.
"""

from __future__ import annotations

import copy
import json
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

from kft.tasks.sequence_classification import SequenceClassification
from kft.tasks.task import EncodeOptions, Example, Record
from kft.train.loop import train

ROWS = Path("data/movie_replies.jsonl")
NUM_ROWS = 8
SPLITS = {"8 x 1": (8, 1), "1 x 8": (1, 8)}
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
Step = dict[str, float]


def make_tokenizer(texts: list[str]) -> Any:
    """A WordPiece of the reviews themselves."""
    pieces = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    pieces.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=2000, special_tokens=SPECIALS, show_progress=False
    )
    pieces.train_from_iterator(texts, trainer)
    return BertTokenizer(vocab=pieces.get_vocab(), do_lower_case=False, strip_accents=False)


def make_examples() -> tuple[list[Example], Any]:
    """Eight reviews and whether each is answered with an apology."""
    lines = ROWS.read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    tokenizer = make_tokenizer([row["instruction"] for row in rows])
    task, options = SequenceClassification(), EncodeOptions(128, "truncate", ("thanks", "sorry"))
    records = [
        Record(str(ROWS), text=row["instruction"], label=int("죄송" in row["output"]))
        for row in rows[:NUM_ROWS]
    ]
    renderer: Any = None  # texts are encoded as they are
    return [task.encode(one, tokenizer, renderer, options)[0] for one in records], tokenizer


def make_model(tokenizer: Any) -> BertForSequenceClassification:
    """Two blocks, 128 wide, without dropout, from seed 0."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        num_labels=2,
    )
    return BertForSequenceClassification(config)


def kft_step(model: Any, examples: list[Example], size: int) -> Step:
    """Loss and gradient norm of kft's step, in micro-batches of ``size`` rows."""
    task = SequenceClassification()
    module = task.with_loss(copy.deepcopy(model), logits_from="everywhere")
    window = [task.collate(examples[start : start + size], 0) for start in range(0, NUM_ROWS, size)]
    stats = next(
        train(
            module,
            torch.optim.SGD(module.parameters(), lr=0.1),
            lambda _: 0.1,
            [window],
            Accelerator(cpu=True),
            max_grad_norm=0.0,
        )
    )
    return {"loss": float(stats.loss), "grad_norm": float(stats.grad_norm)}


def trainer_step(
    model: Any, examples: list[Example], tokenizer: Any, split: tuple[int, int]
) -> Step:
    """The same of transformers' Trainer, as it logs them."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=split[0],
            gradient_accumulation_steps=split[1],
            max_steps=1,
            logging_steps=1,
            max_grad_norm=1e9,
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
        )
        rows = [{"input_ids": one.input_ids, "labels": one.label} for one in examples]
        trainer = Trainer(
            model=copy.deepcopy(model),
            args=arguments,
            train_dataset=rows,
            data_collator=DataCollatorWithPadding(tokenizer),
        )
        trainer.train()
        log = next(line for line in trainer.state.log_history if "grad_norm" in line)
    return {"loss": log["loss"], "grad_norm": float(log["grad_norm"])}


def measure() -> dict[str, dict[str, Step]]:
    """Program -> split -> loss and gradient norm."""
    examples, tokenizer = make_examples()
    model = make_model(tokenizer)
    return {
        "kft": {name: kft_step(model, examples, split[0]) for name, split in SPLITS.items()},
        "transformers' Trainer": {
            name: trainer_step(model, examples, tokenizer, split) for name, split in SPLITS.items()
        },
    }


def main() -> None:
    """Measure and write."""
    steps = measure()
    results = Path("benchmarks/results/accumulation.json")
    results.parent.mkdir(parents=True, exist_ok=True)
    results.write_text(json.dumps(steps, indent=2) + "\n", encoding="utf-8")
    lines = [
        "# Accumulation, measured",
        "",
        "One step of a BERT classifier on the same eight rows of different lengths: as one micro-batch",
        "of eight, and as eight of one. A step's loss is the mean over its rows, so both must be the same",
        "step. kft divides the window's summed loss by the window's rows. transformers' Trainer leaves",
        "that division to every model whose forward takes keyword arguments; BERT's classifier takes them",
        "and averages over its micro-batch all the same, so eight means are added up",
        f"(version {version('transformers')}, huggingface/transformers#47688).",
        "Made by `python benchmarks/accumulation.py`.",
        "",
        "| program | loss, 8 x 1 | loss, 1 x 8 | gradient norm, 8 x 1 | gradient norm, 1 x 8 | ratio of the norms |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name, splits in steps.items():
        whole, parts = splits["8 x 1"], splits["1 x 8"]
        lines.append(
            f"| {name} | {whole['loss']:.6f} | {parts['loss']:.6f} | {whole['grad_norm']:.6f} | "
            f"{parts['grad_norm']:.6f} | {parts['grad_norm'] / whole['grad_norm']:.6f} |"
        )
    target = Path("docs/evidence/accumulation.md")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("\n".join([*lines, ""]), encoding="utf-8")
    print(target.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
