"""The table of tasks by the recipe's name for them."""

from __future__ import annotations

from collections.abc import Mapping

from kft.tasks.causal_lm import CausalLM
from kft.tasks.task import Task

TASKS: Mapping[str, Task] = {task.name: task for task in (CausalLM(),)}
