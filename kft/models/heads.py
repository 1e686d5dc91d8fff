"""The last layer of a model: what the task wants of it, and what of it is new."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from kft.errors import Finding, ModelError, counted
from kft.models.decoders import CAUSAL_LM, is_encoder
from kft.tasks.task import Head

Reads = Literal["text", "pair", "words", "characters"]
"""What a head that labels was shown: a text, two of them, or a text as words or characters."""

MULTI_LABEL = "multi_label_classification"


@dataclass(frozen=True)
class HeadOptions:
    """What a task wants of the model's last layer.

    Args:
        kind: Tokens, classes or one number.
        labels: Names of the classes, in the order of their numbers.
        several: A row may have any number of them; ``None``: as the checkpoint's configuration
            says, else one.
        seed: Of the weights that no checkpoint has.
        reads: What a row is, kept in the configuration as ``kft_reads``; ``None`` leaves there
            what there is.
    """

    kind: Head = "language"
    labels: tuple[str, ...] = ()
    several: bool | None = False
    seed: int = 0
    reads: Reads | None = None


def configure_head(config: Any, head: HeadOptions, auto_class: str) -> None:
    """Write the head's classes and their names into the model's configuration; in place."""
    if head.kind == "language":
        return
    if head.reads is not None:
        config.kft_reads = head.reads
    if head.kind == "number":
        config.num_labels, config.problem_type = 1, "regression"
        return
    config.id2label = dict(enumerate(head.labels))
    config.label2id = {name: number for number, name in enumerate(head.labels)}
    if auto_class == "AutoModelForSequenceClassification":
        several = config.problem_type == MULTI_LABEL if head.several is None else head.several
        config.problem_type = MULTI_LABEL if several else "single_label_classification"


def head_names(model: Any) -> list[str]:
    """Modules that are no part of the pretrained body, such as `classifier` or `score`."""
    return [
        name
        for name, module in model.named_children()
        if name != model.base_model_prefix and next(module.parameters(), None) is not None
    ]


def may_be_new(model: Any, weight: str, auto_class: str) -> bool:
    """Whether a checkpoint may lack this weight: one of the head, or of the pooler below it.

    A checkpoint of a GPT without its language head is not whole, so there none may.
    """
    if auto_class == CAUSAL_LM and not is_encoder(model.config):
        return False
    pooler = f"{model.base_model_prefix}.pooler."
    return weight.startswith((*(f"{name}." for name in head_names(model)), pooler))


def check_complete(place: str, model: Any, loading: dict[str, Any], auto_class: str) -> list[str]:
    """The weights of a new head; an error for any other that the checkpoint lacks.

    Args:
        place: The checkpoint, for the message.
        model: As transformers loaded it.
        loading: What transformers says of the loading.
        auto_class: Name of the transformers class that fits the task.

    Raises:
        ModelError: If a weight of the pretrained body isn't there, or has another shape.
    """
    new = []
    for name, given, wanted in sorted(loading["mismatched_keys"]):
        if may_be_new(model, name, auto_class):
            new.append(name)
            continue
        raise ModelError(
            f"The weight `{name}` has the shape {tuple(given)} and `config.json` asks for "
            f"{tuple(wanted)}",
            where=place,
            expected="weights and configuration of the same model",
        )
    missing = sorted(str(key) for key in loading["missing_keys"])
    lacking = [key for key in missing if not may_be_new(model, key, auto_class)]
    if lacking:
        raise ModelError(
            f"The checkpoint lacks {len(lacking)} of the weights that "
            f"`{type(model).__name__}` needs, first `{lacking[0]}`",
            where=place,
            expected="a checkpoint of this architecture with all its weights",
        )
    return sorted({*new, *missing})


def new_modules(model: Any, weights: Sequence[str]) -> list[str]:
    """The smallest modules to train in full for weights that no checkpoint had.

    The one that shares its weight with the embedding is left out: training it would untie them.
    Its new bias stays at zero.
    """
    output = model.get_output_embeddings()
    shared = {id(module) for module in (output, *_ancestors(model, output))}
    names = sorted({weight.rpartition(".")[0] for weight in weights})
    return [name for name in names if id(model.get_submodule(name)) not in shared]


def trained_in_full(model: Any, head: HeadOptions, new: Sequence[str]) -> list[str]:
    """Modules that an adapter's run trains and saves whole: a task's head, and what is new."""
    whole = [] if head.kind == "language" else head_names(model)
    inside = tuple(f"{name}." for name in whole)
    return [*whole, *(name for name in new if name not in whole and not name.startswith(inside))]


def head_finding(model: Any, weights: Sequence[str], head: HeadOptions) -> Finding | None:
    """What to tell of weights that were drawn at random; ``None`` when there are none."""
    if not weights:
        return None
    names = sorted({weight.rpartition(".")[0] for weight in weights})
    return Finding(
        "note",
        f"The checkpoint has no trained head for the task: {counted(len(weights), 'weight')} of "
        f"`{type(model).__name__}` drawn with seed {head.seed} will be trained and saved",
        where=", ".join(f"`{name}`" for name in names),
    )


def untrained_finding(
    place: str, model: Any, weights: Sequence[str], head: HeadOptions
) -> Finding | None:
    """As :func:`head_finding`, of a model that is measured as it is.

    Args:
        place: The checkpoint as it was named.
        model: As it was loaded.
        weights: Names of those that were drawn at random.
        head: What the last layer is to say.
    """
    if not weights:
        return None
    return Finding(
        "warning",
        f"The checkpoint has no trained head for the task: {counted(len(weights), 'weight')} of "
        f"`{type(model).__name__}` drawn with seed {head.seed} gave these numbers",
        where=place,
        hint="They tell what guessing is worth; `kft finetune` trains a head.",
    )


def _ancestors(model: Any, wanted: nn.Module | None) -> list[nn.Module]:
    if wanted is None:
        return []
    return [
        module
        for module in model.modules()
        if module is not wanted and any(inner is wanted for inner in module.modules())
    ]
