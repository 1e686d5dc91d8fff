"""The table of tasks by the recipe's name for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kft.tasks.causal_lm import CausalLM
from kft.tasks.masked_lm import MaskedLM
from kft.tasks.prefix_lm import PrefixLM
from kft.tasks.sequence_classification import SequenceClassification
from kft.tasks.sequence_regression import SequenceRegression
from kft.tasks.task import Task
from kft.tasks.token_classification import TokenClassification

TASKS: Mapping[str, Task] = {
    task.name: task
    for task in (
        CausalLM(),
        SequenceClassification(),
        SequenceRegression(),
        TokenClassification(),
        MaskedLM(),
    )
}


def choose_task(name: str, attention: str = "causal", tokenizer: Any | None = None) -> Task:
    """The task of a recipe.

    Args:
        name: The recipe's ``task``.
        attention: The recipe's ``model.attention``.
        tokenizer: The model's, once it is known; batches of some tasks can't be made without.
    """
    task: Task = PrefixLM() if name == "causal_lm" and attention == "prefix" else TASKS[name]
    return task if tokenizer is None else task.for_tokenizer(tokenizer)
