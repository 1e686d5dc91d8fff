"""``kft check``: recipe, data and tokenizer before any weight is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers

from kft.api.clean_copy import CleanCopy, write_clean_copy
from kft.api.dataset import Prepared
from kft.api.duration import expected_duration
from kft.api.given import RecipeOrPath, as_recipe
from kft.api.memory import plan_run
from kft.api.plan import first_rows, plan_facts, wants_packing, window_plan
from kft.api.preflight import load_data
from kft.api.records import Records, train_files
from kft.api.row_checks import dropped_findings
from kft.api.row_report import worst_first
from kft.api.run_folder import check_place
from kft.api.shown_rows import ShownRow, shown_row
from kft.api.token_report import (
    count_tokens,
    lengths_of,
    rendering_findings,
    step_findings,
    token_findings,
)
from kft.data.encodings import text_encoding
from kft.data.files import resolve_files
from kft.data.rows import reading_notes
from kft.data.sources import DataFile, RowSource
from kft.errors import Finding
from kft.evaluation.inputs import kind_of_rows
from kft.models.architecture import num_positions
from kft.models.precision import compute_dtype, weights_dtype
from kft.recipe.reader import Overrides
from kft.recipe.schema import Recipe
from kft.tasks.registry import choose_task
from kft.train.optimizer import rate_findings

_TEXT_SUFFIXES = {".jsonl", ".json", ".csv", ".tsv", ".txt"}


@dataclass(frozen=True)
class Check:
    """What ``kft check`` found.

    Args:
        sections: Name -> facts, as plain values:

            ``model``: ``name_or_path``, ``model_type``, ``positions`` (``None``: no limit).
            ``data``: ``format`` and ``template`` in words, ``files`` (each with ``path``,
            ``encoding``, ``sha256``), ``rows_read``, ``dropped`` (reason -> ``count`` and the
            first ``places``).
            ``rows``: as :class:`kft.api.row_report.RowReport` has it.
            ``tokens``: ``rows``, ``tokens``, ``targets``, ``target_share``, ``shortest``,
            ``median``, ``p95``, ``p99``, ``longest``, ``histogram`` (``edges``, ``rows``), and
            the rows that are ``truncated``, ``without_end``, ``without_target``.
            ``training``: ``steps_per_epoch``, ``total_steps``; where it can be told, roughly,
            ``tokens_per_second`` and ``train_seconds``.
            ``memory``: as :meth:`kft.api.memory.RunPlan.as_dict` has it; absent for a checkpoint
            with code of its own.
            ``tokenizer``: ``vocabulary`` (tokens), ``end_token``, ``padding_token``, and what
            was measured on this data.
            ``text``: column -> ``rows``, ``characters``, ``shares`` by script, ``faults``.
            ``labels``: ``counts``, ``held_out_counts``, ``rows`` (of training, with a label),
            ``majority_share``; absent without labels.
            ``scores``: as :meth:`kft.data.score_spread.ScoreSpread.summary`; absent without scores.
        findings: What was noticed, the worst first.
        shown: The first rows as tokens, when they were asked for.
        fixed: The mended copy, when one was asked for.

    Example:
        >>> kft.Check({"tokens": {"without_target": 0}}).sections["tokens"]
        {'without_target': 0}
    """

    sections: dict[str, dict[str, Any]]
    findings: list[Finding] = field(default_factory=list)
    shown: list[ShownRow] = field(default_factory=list)
    fixed: CleanCopy | None = None

    @property
    def has_errors(self) -> bool:
        """Whether a finding would stop the run.

        Example:
            >>> kft.Check({}, [Finding("error", "Rows have no target")]).has_errors
            True
        """
        return any(finding.severity == "error" for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values, for ``--json``: the sections, and what else there is.

        Beside the sections' names: ``ready`` (no finding is an error), ``findings``
        (``severity``, ``what``, ``where``, ``hint``, ``count``), ``shown`` (``place``,
        ``documents``: lists of a token's text and whether it is a target; ``answers``: their
        labels, numbers or tags), ``fixed``.

        Example:
            >>> kft.Check({}, [Finding("note", "Padding is the end token")]).as_dict()["ready"]
            True
        """
        return {
            "ready": not self.has_errors,
            **self.sections,
            "findings": [asdict(finding) for finding in self.findings],
            "shown": [asdict(row) for row in self.shown],
            "fixed": None if self.fixed is None else self.fixed.as_dict(),
        }


def check(
    recipe_or_path: RecipeOrPath,
    overrides: Overrides | None = None,
    *,
    show_rows: int = 0,
    fix: str | Path | None = None,
    on_fixed: Callable[[CleanCopy], None] | None = None,
) -> Check:
    """Look at everything that can be known before weights are loaded.

    Args:
        recipe_or_path: A recipe, or the path of its YAML file.
        overrides: As for :func:`kft.finetune`.
        show_rows: Training rows to show as tokens.
        fix: Folder for a mended copy of the data; ``None`` writes none. What is checked are the
            originals.
        on_fixed: Told of the copy as soon as it is written.

    Raises:
        KftError: With exit code 2 for the first thing that can't be used at all.

    Example:
        >>> found = kft.check("recipes/quickstart.yaml", show_rows=1)
        >>> found.has_errors, found.sections["data"]["rows_read"]
        (False, 420)
    """
    recipe = as_recipe(recipe_or_path, overrides)
    transformers.utils.logging.set_verbosity_error()
    fixed = None if fix is None else write_clean_copy(recipe.data, Path(fix))
    if fixed is not None and on_fixed is not None:
        on_fixed(fixed)
    task = choose_task(recipe.task, recipe.model.attention)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    weights_dtype(recipe.model.dtype, compute_dtype(recipe.train.precision, device), device)
    place = _place_findings(Path(recipe.output_dir))
    config, records, tokenizer, prepared = load_data(recipe, task)
    model = {
        "name_or_path": recipe.model.name_or_path,
        "model_type": config.model_type,
        "positions": num_positions(config),
    }
    lengths = lengths_of(prepared.train.examples, prepared.held_out.examples)
    memory = plan_run(recipe, config, task, lengths, device)
    rows = memory.rows if memory else None
    sections, findings = inspect(recipe, records, prepared, tokenizer, rows)
    steps = sections["training"]
    epochs = steps["total_steps"] / steps["steps_per_epoch"]
    batches = steps["micro_batches_per_epoch"]
    duration = expected_duration(recipe, config, task, lengths, epochs, batches, device)
    if duration is not None:
        steps |= duration.as_dict()
    if memory is not None:
        sections["memory"] = memory.as_dict()
        findings = [*findings, *memory.findings()]
    first = first_rows(recipe, task, prepared.train.examples, show_rows)
    kind = kind_of_rows(task.name, prepared.train.examples, have_labels=False)
    shown = [shown_row(documents, tokenizer, kind, records.labels) for documents in first]
    return Check(
        {"model": model, **sections},
        worst_first(
            [*prepared.findings, *findings, *place, *_task_findings(recipe, config, records)]
        ),
        shown,
        fixed,
    )


def inspect(
    recipe: Recipe,
    records: Records,
    prepared: Prepared,
    tokenizer: Any,
    rows: int | None = None,
) -> tuple[dict[str, dict[str, Any]], list[Finding]]:
    """Every section but ``model``, and every finding, of data that was read and encoded.

    ``rows`` is what ``train.per_device_train_batch_size: auto`` became.
    """
    train, examples = records.train, prepared.train.examples
    report = prepared.report
    task = choose_task(recipe.task, recipe.model.attention)
    counts = count_tokens(examples, answers_in_text=task.answers_in_text)
    data = recipe.data
    sources = [
        *train_files(data),
        *(resolve_files(data.eval, "data.eval") if data.eval is not None else ()),
    ]
    plan = window_plan(recipe, examples, packed=wants_packing(recipe, task), rows=rows)
    own = tokenizer.chat_template
    findings = [
        *token_findings(
            counts,
            lambda row: examples[row].place,
            tokenizer,
            answers_in_text=task.answers_in_text,
        ),
        *reading_notes(sources),
        *worst_first([*report.findings, *report.label_findings]),
        *step_findings(plan),
        *rate_findings(recipe.train),
        *dropped_findings(prepared.train.dropped),
    ]
    if task.answers_in_text:
        findings += rendering_findings(
            train,
            prepared.renderer,
            tokenizer,
            own_template=own if isinstance(own, str) else None,
            template=prepared.template_note,
        )
    sections = {
        "data": _data_section(records, prepared, sources),
        "rows": report.rows,
        "tokens": counts.summary(),
        "training": plan_facts(plan),
        "tokenizer": {
            "vocabulary": len(tokenizer),
            "end_token": tokenizer.eos_token,
            "padding_token": tokenizer.pad_token,
        },
        "text": report.text,
        **({"labels": report.labels} if report.labels else {}),
        **({"scores": report.scores} if report.scores else {}),
    }
    return sections, findings


def _data_section(
    records: Records, prepared: Prepared, sources: Sequence[RowSource]
) -> dict[str, Any]:
    plain = [file for file in sources if isinstance(file, DataFile) and file.member is None]
    files = {str(file.path.absolute()): file for file in plain}
    return {
        "format": records.layout.note,
        "template": prepared.template_note,
        "files": [
            {
                "path": path,
                "encoding": _encoding(files.get(path)),
                "sha256": sha256,
            }
            for path, sha256 in records.files_sha256.items()
        ],
        "rows_read": records.num_rows,
        "dropped": {
            reason: {"count": rows.count, "places": rows.places}
            for reason, rows in prepared.train.dropped.items()
        },
    }


def _encoding(file: DataFile | None) -> str | None:
    if file is None or file.suffix not in _TEXT_SUFFIXES:
        return None
    return text_encoding(file)


def _task_findings(recipe: Recipe, config: Any, records: Records) -> Iterator[Finding]:
    """A note where an encoder is to write labels that it could tell apart."""
    is_encoder = any("ForMaskedLM" in name for name in config.architectures or ())
    if recipe.task == "causal_lm" and records.labels and is_encoder:
        yield Finding(
            "note",
            f"`{config.model_type}` learns to write the labels as answers, and keeps no head",
            where="`task`",
            hint="`task=sequence_classification` trains a head that tells them apart.",
        )


def _place_findings(folder: Path) -> Iterable[Finding]:
    check_place(folder)
    if not folder.exists() or not any(folder.iterdir()):
        return []
    what = f"The run folder `{folder}` is not empty: `kft finetune` will refuse it"
    return [Finding("warning", what, where="`output_dir`")]
