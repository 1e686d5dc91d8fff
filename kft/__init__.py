"""kft: fine-tune Korean GPT and BERT checkpoints with LoRA and QLoRA.

The public names are resolved when they are first used, so that ``import kft`` loads no torch.

Shape letters used in every comment and docstring: ``B`` rows of a micro-batch, ``T`` tokens in
a row, ``V`` vocabulary, ``D`` hidden width, ``N`` targets, ``r`` rank.
"""

from __future__ import annotations

import importlib
import logging
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kft.api.check import Check, check
    from kft.api.finetune import finetune, steps
    from kft.api.report import report
    from kft.api.run import Run, load_run
    from kft.errors import KftError
    from kft.recipe.reader import read_recipe
    from kft.recipe.schema import Recipe
    from kft.train.loop import StepStats

# Nothing leaves the machine unasked: transformers would ask a service to convert checkpoints, and
# datasets would count a download.
os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_UPDATE_DOWNLOAD_COUNTS", "0")
# It says at its import, on processors with bfloat16, that it found no kernels on the hub, where it
# was not to look; peft imports it, and whoever imports peft would have to say this before.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
# DeepSpeed, which accelerate imports wherever it is installed, tells stdout that it found no GPU.
# It sets its logger's level itself.
logging.getLogger("DeepSpeed").addFilter(lambda record: record.levelno >= logging.ERROR)

__version__ = "0.1.0"

_HOME = {
    "Check": "kft.api.check",
    "KftError": "kft.errors",
    "Recipe": "kft.recipe.schema",
    "Run": "kft.api.run",
    "StepStats": "kft.train.loop",
    "check": "kft.api.check",
    "finetune": "kft.api.finetune",
    "load_run": "kft.api.run",
    "read_recipe": "kft.recipe.reader",
    "report": "kft.api.report",
    "steps": "kft.api.finetune",
}

__all__ = [
    "Check",
    "KftError",
    "Recipe",
    "Run",
    "StepStats",
    "check",
    "finetune",
    "load_run",
    "read_recipe",
    "report",
    "steps",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'kft' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
