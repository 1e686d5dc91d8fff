"""However a window of rows is cut into micro-batches, an encoder takes the same step."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from transformers import AutoTokenizer

from kft.models.heads import HeadOptions
from kft.models.loader import load_model
from kft.models.logits import logits_from
from kft.recipe.schema import ModelSection
from kft.tasks.registry import TASKS, choose_task
from kft.tasks.task import EncodeOptions, Example, Record, Window
from kft.train.loop import train

SENTENCES = (Path(__file__).parents[1] / "assets" / "sentences.txt").read_text("utf-8")
TAGS = ("O", "B-PS", "I-PS")
NONE: Any = None


def record(task: str, number: int) -> Record:
    words = SENTENCES.splitlines()[number].split()[: 2 + number]
    if task == "token_classification":
        tags = tuple(TAGS[at % 3] for at in range(len(words)))
        return Record("rows:1", tokens=tuple(words), tags=tags)
    text = " ".join(words)
    return Record("rows:1", text=text, label=number % 3, value=float(number))


def step(module: Any, window: Window) -> tuple[float, torch.Tensor]:
    """A step's loss and how far it moved the weights, as one vector."""
    module = copy.deepcopy(module)
    before = torch.cat([p.detach().flatten() for p in module.parameters()])
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    stats = next(
        train(module, optimizer, lambda _: 1.0, [window], Accelerator(cpu=True), max_grad_norm=0.0)
    )
    after = torch.cat([p.detach().flatten() for p in module.parameters()])
    return float(stats.loss), after - before


@pytest.mark.parametrize("name", [name for name in TASKS if name != "causal_lm"])
def test_eight_times_one_is_one_times_eight(name: str, tiny_bert: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    task = choose_task(name, tokenizer=tokenizer)
    model = load_model(
        ModelSection(name_or_path=str(tiny_bert)),
        auto_class=task.auto_class,
        dtype=torch.float32,
        device=torch.device("cpu"),
        head=HeadOptions(task.head, TAGS if task.head == "classes" else ()),
    )
    module = task.with_loss(model.double(), logits_from=logits_from(model))
    options = EncodeOptions(64, "truncate", TAGS)
    rows: list[Example] = [
        task.encode(record(name, number), tokenizer, NONE, options)[0] for number in range(8)
    ]

    def window(size: int) -> Window:
        parts = [task.collate(rows[start : start + size], 0) for start in range(0, 8, size)]
        return task.window(parts, seed=1, step=1)

    whole = step(module, window(8))
    for size in (4, 1):
        loss, moved = step(module, window(size))
        assert loss == pytest.approx(whole[0], rel=1e-6)
        assert float((moved - whole[1]).norm() / whole[1].norm()) < 1e-6
    lost = step(module, window(1)[:7])  # a row less is another step
    assert float((lost[1] - whole[1]).norm() / whole[1].norm()) > 1e-3
