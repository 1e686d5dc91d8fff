"""``kft export``: a run's model in another format, compared with the one it was made from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from kft.api.cards import write_run_card
from kft.api.dataset import verification_examples
from kft.api.merge import NUM_ROWS, verification_batches
from kft.api.opened import run_recipe, trained_part
from kft.api.optional import optional_module
from kft.api.preflight import with_labels
from kft.api.records import read_records
from kft.errors import Finding, UsageError
from kft.export.onnx_file import ONNX, open_onnx, verify_onnx, write_onnx
from kft.export.places import VERIFICATION, proven_folder, require_replaceable
from kft.export.verify import save_verification
from kft.models.decoders import model_class
from kft.models.licence import licence_findings
from kft.models.quiet import silence_transformers
from kft.models.tokenizer import load_tokenizer
from kft.recipe.schema import ModelSection, Recipe
from kft.tasks.inputs import is_causal
from kft.tasks.registry import choose_task
from kft.tasks.task import Batch, Task


@dataclass(frozen=True)
class Source:
    """A run's model, as other formats are made from it.

    Args:
        folder: A plain transformers checkpoint, verified.
        model: Loaded in float32.
        tokenizer: Its own.
        task: The run's.
        batches: Held-out rows.
    """

    folder: Path
    model: Any
    tokenizer: Any
    task: Task
    batches: list[Batch]


def export(
    run: str,
    *,
    to: str,
    output: str | None = None,
    dtype: str | None = None,
    on_finding: Callable[[Finding], None] | None = None,
) -> tuple[Path, dict[str, Any]]:
    """Write a run's merged (or fully trained) model in another format.

    Args:
        run: The run folder.
        to: ``onnx``: the task models of encoders, compared by onnxruntime with torch. ``gguf``:
            models that write text, for llama.cpp and Ollama.
        output: Where it goes; ``None`` is a folder of the format's name in the run folder.
        dtype: Of the matrices in a GGUF file: ``float16`` (``None`` too), ``float32``, ``q8_0``.
        on_finding: Told of a base that may not be used commercially, before the work.

    Returns:
        The folder, and the numbers of its ``verification.json``.

    Raises:
        UsageError: If the run has no verified model, its task isn't one that the format can
            hold, or a library isn't there.
        ExportError: If what was written says something else; nothing is left.
    """
    recipe = run_recipe(Path(run))
    final = (Path(output) if output else Path(run) / to).absolute()
    require_replaceable(final)
    for finding in licence_findings(recipe.model.name_or_path):
        if on_finding is not None:
            on_finding(finding)
    if to == "gguf":
        return final, _gguf(Path(run), recipe, final, dtype or "float16", on_finding)
    if dtype is not None:
        raise UsageError(
            f"`--dtype {dtype}` is for GGUF alone",
            where=f"`--format {to}`",
            expected="no `--dtype`",
        )
    return final, _onnx(Path(run), recipe, final)


def _gguf(
    run: Path,
    recipe: Recipe,
    final: Path,
    dtype: str,
    on_finding: Callable[[Finding], None] | None,
) -> dict[str, Any]:
    if recipe.task != "causal_lm":
        raise UsageError(
            f"A model of `task: {recipe.task}` isn't written as GGUF",
            where=str(run),
            expected="a model that writes text, of `task: causal_lm`",
        )
    optional_module("gguf", extra="gguf", wanted_by="--format gguf")
    from kft.api.export_gguf import export_gguf  # it can't be imported without the library

    return export_gguf(run, recipe, verified_folder(run, recipe), final, dtype, on_finding)


def _onnx(run: Path, recipe: Recipe, final: Path) -> dict[str, Any]:
    if recipe.task == "causal_lm":
        raise UsageError(
            "A model of `task: causal_lm` isn't written as ONNX",
            where=str(run),
            expected="an encoder tuned for another task",
        )
    for name in ("onnx", "onnxscript"):
        optional_module(name, extra="onnx", wanted_by="--format onnx")
    runtime = optional_module("onnxruntime", extra="onnx", wanted_by="--format onnx")
    source = _load(run, recipe)
    with proven_folder(final, "The ONNX model") as part:
        write_onnx(source.model, source.batches[0], part / ONNX)
        source.model.config.save_pretrained(part)
        source.tokenizer.save_pretrained(part)
        graph = open_onnx(part / ONNX, source.model.config, runtime)
        verification = verify_onnx(source.model, graph, source.batches, source.task.logit_rows)
        save_verification(verification, part)
        write_run_card(run, recipe, part, verification.as_dict())
    return verification.as_dict()


def _load(run: Path, recipe: Recipe) -> Source:
    """The run's verified model and its held-out rows.

    Raises:
        UsageError: If there is no such model, or it is no encoder.
    """
    silence_transformers()
    folder = verified_folder(run, recipe)
    config = AutoConfig.from_pretrained(folder)
    tokenizer = load_tokenizer(ModelSection(name_or_path=str(folder)))
    task = choose_task(recipe.task, recipe.model.attention, tokenizer)
    model = model_class(config, task.auto_class).from_pretrained(
        folder, dtype=torch.float32, local_files_only=True
    )
    if is_causal(model):
        raise UsageError(
            f"`{type(model).__name__}` is no encoder, and isn't written as ONNX",
            where=str(run),
            expected="an encoder such as BERT, RoBERTa or ELECTRA",
        )
    records = with_labels(read_records(recipe))
    examples = verification_examples(recipe, records, tokenizer, NUM_ROWS)
    batches = verification_batches(task, examples, tokenizer.pad_token_id)
    return Source(folder, model.eval(), tokenizer, task, batches)


def verified_folder(run: Path, recipe: Recipe) -> Path:
    """The run's model as a plain checkpoint that was proven to say what was trained.

    Raises:
        UsageError: If there is none yet.
    """
    if recipe.adapter.method == "full":
        return trained_part(run, "model")
    folder = run / "merged"
    if not (folder / VERIFICATION).is_file():
        raise UsageError(
            "The run has no merged model yet",
            where=str(run),
            expected=f"`{folder}`",
            hint=f"`kft merge {run}` makes and verifies it.",
        )
    return folder
