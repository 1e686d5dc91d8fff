"""Everything of a run that is known before its weights are loaded: rows, tokenizer, examples."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from kft.api.dataset import Prepared, prepare
from kft.api.general_text import general_records
from kft.api.records import Records, RecordTexts, read_records, texts_of
from kft.api.row_checks import findings, stop_on_errors
from kft.api.shapes import shapes_of
from kft.data.collector import collector_paused
from kft.data.table import are_set, lengths
from kft.errors import Finding
from kft.models.architecture import check_architecture, num_positions
from kft.models.checkpoint_files import check_weight_files
from kft.models.decoders import as_decoder, fit_attention, is_encoder
from kft.models.guard import examine, require
from kft.models.heads import (
    HeadOptions,
    Reads,
    configure_head,
)
from kft.models.hub import hub_findings
from kft.models.licence import licence_findings
from kft.models.loader import (
    load_config,
)
from kft.models.new_tokenizer import train_tokenizer
from kft.models.saved_adapter import check_saved_adapter
from kft.models.tokenizer import open_tokenizer
from kft.recipe.schema import Recipe
from kft.tasks.task import Task
from kft.train.trackers import require_trackers


def load_data(
    recipe: Recipe, task: Task, made_tokenizer: Path | None = None, ranks: int = 1
) -> tuple[Any, Records, Any, Prepared]:
    """Everything that is known without weights: configuration, rows, tokenizer, examples.

    Args:
        recipe: The recipe.
        task: Its task.
        made_tokenizer: Folder of the tokenizer that was made when the run began; ``None``
            makes one where the recipe says so.
        ranks: As for :func:`kft.api.records.read_records`.

    Raises:
        KftError: With exit code 2 for the first thing that can't be used.
    """
    with collector_paused():
        return _load_data(recipe, task, made_tokenizer, ranks)


def _load_data(
    recipe: Recipe, task: Task, made_tokenizer: Path | None, ranks: int
) -> tuple[Any, Records, Any, Prepared]:
    require_trackers(recipe.train.report_to)
    general_records(recipe)  # read again when they are measured; what is wrong is told here
    records = with_labels(read_records(recipe, ranks))
    config = load_config(recipe.model)
    fit_attention(config, task.auto_class, recipe.model.attention)
    configure_head(config, head_options(recipe, records, task), task.auto_class)
    _check_model(recipe, config, task)
    told: list[Finding] = []
    if recipe.model.tokenizer == "train" and made_tokenizer is not None:
        tokenizer = AutoTokenizer.from_pretrained(made_tokenizer)
    elif recipe.model.tokenizer == "train":
        tokenizer = train_tokenizer(texts_of(records.train), config)
    else:
        tokenizer, told = _checked_tokenizer(recipe, records, config)
    if is_encoder(config) and task.answers_in_text:
        as_decoder(tokenizer)
    data = prepare(recipe, records, tokenizer, task, positions=num_positions(config))
    return (
        config,
        records,
        tokenizer,
        replace(
            data,
            findings=[
                *hub_findings(),
                *licence_findings(recipe.model.name_or_path),
                *told,
                *data.findings,
            ],
        ),
    )


def _checked_tokenizer(recipe: Recipe, records: Records, config: Any) -> tuple[Any, list[Finding]]:
    """The tokenizer, what was mended in it, and what the guard noticed; or its refusal."""
    opened = open_tokenizer(recipe.model)
    report = examine(
        opened.tokenizer,
        config,
        RecordTexts(records.train),
        declared_class=opened.declared_class,
        published=opened.published,
    )
    require(report)
    return opened.tokenizer, [*opened.findings, *report.findings]


def looked_at(data: Prepared, tokenizer: Any, task: Task) -> Prepared:
    """The data with what its rows show; an error stops here, before weights are loaded.

    Of the texts errors and warnings alone: a run is no place for notes, ``kft check`` tells them.
    """
    about_rows = [*data.report.findings, *data.report.label_findings]
    found = [
        *data.findings,
        *findings(data.train, tokenizer, answers_in_text=task.answers_in_text),
        *(finding for finding in about_rows if finding.severity != "note"),
    ]
    stop_on_errors(found)
    return replace(data, findings=found)


def with_labels(records: Records) -> Records:
    """The records with the names of their tags, where the recipe gives none."""
    if records.labels or not lengths(records.train, "tags").any():
        return records
    names = {
        tag for side in (records.train, records.held_out) for one in side for tag in one.tags or ()
    }
    return replace(records, labels=sorted(names, key=lambda name: (name != "O", name)))


def head_options(recipe: Recipe, records: Records, task: Task) -> HeadOptions:
    """What the task wants of the model's last layer, as the rows have it."""
    several = bool(are_set(records.train, "label_ids").any())
    labels = () if task.head != "classes" else tuple(records.labels or recipe.data.labels)
    return HeadOptions(task.head, labels, several, recipe.train.seed, _reads(records, task))


def _reads(records: Records, task: Task) -> Reads | None:
    """What the task is shown of a row; ``None`` for tasks that label nothing."""
    if task.head == "language":
        return None
    tokens = records.train[0].tokens
    if tokens is not None:
        return "characters" if all(len(token) == 1 for token in tokens) else "words"
    return "pair" if "text_pair" in records.layout.columns else "text"


def _check_model(recipe: Recipe, config: Any, task: Task) -> None:
    """What the checkpoint's files and its modules' shapes say, before its weights are read."""
    check_architecture(config, task.auto_class, recipe.model.attention)
    folder, section = Path(recipe.model.name_or_path), recipe.adapter
    if recipe.model.init == "pretrained" and folder.is_dir():
        check_weight_files(folder)
    if section.method != "full" and section.start_from is not None:
        check_saved_adapter(Path(section.start_from), recipe.model.name_or_path)
    if not recipe.model.trust_remote_code:
        shapes_of(recipe, config, task)  # refuses what doesn't fit
