"""``kft check``: recipe, data and tokenizer before any weight is loaded."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from kft.api.dataset import Prepared
from kft.api.finetune import RecipeOrPath, as_recipe
from kft.api.loaded import load_data
from kft.api.records import Records
from kft.api.run_folder import check_place
from kft.errors import Finding
from kft.models.precision import compute_dtype, weights_dtype
from kft.ops.losses import IGNORE_INDEX
from kft.recipe.reader import Overrides
from kft.tasks.registry import choose_task
from kft.tasks.task import Example

_LONGEST_CHARACTER = 4  # bytes of UTF-8, so tokens of a byte-level vocabulary at most


@dataclass(frozen=True)
class ShownRow:
    """A row as it enters the model.

    Args:
        place: ``file:line``.
        tokens: Text of each token, and whether it is a target.
    """

    place: str
    tokens: list[tuple[str, bool]]


@dataclass(frozen=True)
class Check:
    """What ``kft check`` found.

    Args:
        facts: Names and values, in the order in which they are worth reading.
        findings: What was noticed, the worst first.
        shown: The first rows as tokens, when they were asked for.
    """

    facts: dict[str, str]
    findings: list[Finding] = field(default_factory=list)
    shown: list[ShownRow] = field(default_factory=list)

    @property
    def has_errors(self) -> bool:
        """Whether a finding would stop the run."""
        return any(finding.severity == "error" for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values, for ``--json``."""
        return asdict(self)


def check(
    recipe_or_path: RecipeOrPath, overrides: Overrides | None = None, *, show_rows: int = 0
) -> Check:
    """Look at everything that can be known before weights are loaded.

    Args:
        recipe_or_path: A recipe, or the path of its YAML file.
        overrides: As for :func:`kft.finetune`.
        show_rows: Training rows to show as tokens.

    Raises:
        KftError: With exit code 2 for the first thing that can't be used at all.
    """
    recipe = as_recipe(recipe_or_path, overrides)
    transformers.utils.logging.set_verbosity_error()
    task = choose_task(recipe.task, recipe.model.attention)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    weights_dtype(recipe.model.dtype, compute_dtype(recipe.train.precision, device), device)
    place = _place_findings(Path(recipe.output_dir))
    config, records, tokenizer, prepared = load_data(recipe, task)
    shown = [_shown(example, tokenizer) for example in prepared.train.examples[:show_rows]]
    return Check(_facts(records, prepared, config), [*prepared.findings, *place], shown)


def _place_findings(folder: Path) -> list[Finding]:
    check_place(folder)
    if not folder.exists() or not any(folder.iterdir()):
        return []
    what = f"The run folder `{folder}` is not empty: `kft finetune` will refuse it"
    return [Finding("warning", what, where="`output_dir`")]


def _facts(records: Records, prepared: Prepared, config: Any) -> dict[str, str]:
    examples = prepared.train.examples
    lengths = np.array([len(example.input_ids) for example in examples])
    targets = sum(example.num_targets for example in examples)
    middle, most, longest = (int(np.quantile(lengths, q)) for q in (0.5, 0.95, 1.0))
    return {
        "model": f"{config.model_type}",
        "format": records.layout.note,
        "template": prepared.template_note,
        "rows": f"{records.num_rows:,} read, {len(examples):,} to train on, "
        f"{len(prepared.held_out.examples):,} held out",
        "tokens": f"{lengths.sum():,}",
        "tokens per row": f"{middle} (median), {most} (95 %), {longest} (longest)",
        "targets": f"{targets:,}, {targets / lengths.sum():.0%} of the tokens",
        "answers without end": f"{sum(not example.end_is_target for example in examples):,}",
    }


def _shown(example: Example, tokenizer: Any) -> ShownRow:
    """The row's tokens; those that hold parts of one character are shown together."""
    shown: list[tuple[str, bool]] = []
    pending: list[int] = []
    for token, label in zip(example.input_ids, example.labels, strict=True):
        pending.append(token)
        text = tokenizer.decode(pending)
        if not text.endswith("\ufffd") or len(pending) == _LONGEST_CHARACTER:
            shown.append((text, label != IGNORE_INDEX))
            pending = []
    if pending:
        shown.append((tokenizer.decode(pending), example.labels[-1] != IGNORE_INDEX))
    return ShownRow(example.place, shown)
