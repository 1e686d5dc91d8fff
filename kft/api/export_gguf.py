"""``kft export --format gguf``: a run's model for llama.cpp and Ollama, proven first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from kft.api.cards import write_run_card
from kft.api.dataset import verification_examples
from kft.api.merge import NUM_ROWS, verification_batches
from kft.api.preflight import with_labels
from kft.api.records import read_records
from kft.api.run_folder import write_json
from kft.data.named_templates import START, TEMPLATES
from kft.errors import Finding
from kft.export.gguf_architecture import describe
from kft.export.gguf_file import Content, verify_gguf, write_gguf
from kft.export.gguf_tokenizer import Vocabulary, read_vocabulary
from kft.export.modelfile import GGUF, MODELFILE, Served, modelfile
from kft.export.places import VERIFICATION, proven_folder
from kft.models.decoders import model_class
from kft.models.licence import licence_of
from kft.models.loader import vocabulary_rows
from kft.models.quiet import silence_transformers
from kft.models.tokenizer import load_tokenizer
from kft.recipe.schema import ModelSection, Recipe
from kft.tasks.registry import choose_task
from kft.tasks.task import Batch


def export_gguf(
    run: Path,
    recipe: Recipe,
    folder: Path,
    final: Path,
    dtype: str,
    on_finding: Callable[[Finding], None] | None,
) -> dict[str, Any]:
    """Write a run's model as one GGUF file, with a ``Modelfile`` beside it.

    Args:
        run: The run folder.
        recipe: Its recipe, of ``task: causal_lm``.
        folder: The run's verified model.
        final: The folder to write.
        dtype: Precision of the matrices: ``float16``, ``float32`` or ``q8_0``.
        on_finding: Told of texts that have to be in NFC.

    Returns:
        The numbers of its ``verification.json``.

    Raises:
        UsageError: If llama.cpp has no such architecture or tokenizer; told before weights load.
        ExportError: If the file says something else than the model; nothing is left.
    """
    silence_transformers()
    config = AutoConfig.from_pretrained(folder)
    tokenizer = load_tokenizer(ModelSection(name_or_path=str(folder)))
    architecture = describe(config)
    task = choose_task(recipe.task, recipe.model.attention, tokenizer)
    model = model_class(config, task.auto_class).from_pretrained(
        folder, dtype=torch.float32, local_files_only=True
    )
    vocabulary = read_vocabulary(tokenizer, vocabulary_rows(model))
    if vocabulary.composes and on_finding is not None:
        on_finding(_COMPOSES)
    content = Content(model.eval(), architecture, vocabulary, run.absolute().name, dtype)
    records = with_labels(read_records(recipe))
    examples = verification_examples(recipe, records, tokenizer, NUM_ROWS)
    batches = verification_batches(task, examples, tokenizer.pad_token_id)
    served = _served(recipe, vocabulary, tokenizer, int(architecture.fields["context_length"]))
    return _write(content, batches, served, final, (run, recipe))


_COMPOSES = Finding(
    "note",
    "This model's tokenizer brings texts into NFC, which llama.cpp doesn't do: it gives the same "
    "tokens for texts that are in NFC already",
    hint="File names and texts from macOS may be decomposed; compose them before they are sent.",
)


def _write(
    content: Content,
    batches: list[Batch],
    served: Served,
    final: Path,
    origin: tuple[Path, Recipe],
) -> dict[str, Any]:
    with proven_folder(final, "The GGUF file") as part:
        write_gguf(content, part / GGUF)
        verification, rounding = verify_gguf(content, part / GGUF, batches)
        numbers = verification.as_dict() | rounding
        write_json(part / VERIFICATION, numbers)
        (part / MODELFILE).write_text(modelfile(served), encoding="utf-8")
        write_run_card(*origin, part, numbers)
    return numbers


def _served(recipe: Recipe, vocabulary: Vocabulary, tokenizer: Any, context_length: int) -> Served:
    """What the ``Modelfile`` says; a template only where it is one of kft's own."""
    own = vocabulary.chat_template or ""
    begins = own.startswith(START)
    names = {text: name for name, text in TEMPLATES.items()}
    name = names.get(own.removeprefix(START))
    why = "the model has a chat template that kft can't write in Go's language."
    if not own:
        why = "the model was trained on running text, without a chat template."
    elif name is not None and begins != vocabulary.adds_bos:
        # llama.cpp puts it in front of every text or of none.
        name, why = None, "its prompts begin otherwise than llama.cpp begins a text."
    return Served(
        weights=GGUF,
        template=name,
        why=why,
        eos=tokenizer.eos_token,
        context_length=context_length,
        licence=licence_of(recipe.model.name_or_path).name,
    )
