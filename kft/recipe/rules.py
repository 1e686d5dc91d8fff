"""What keys must hold together: rules that no single key can break.

A rule looks at a complete recipe and yields what is wrong, with the key to blame. Rules hold
for the resolved recipe too, so none of them may mind that a default is written out.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Iterator

from kft.recipe.conflict import Conflict
from kft.recipe.data_rules import DATA_RULES
from kft.recipe.keys import keys, one_of
from kft.recipe.metric_rules import best_is_looked_for, metrics_fit_the_task
from kft.recipe.schema import Recipe
from kft.recipe.task_rules import (
    general_text_needs_a_language_model,
    prefix_has_a_prompt,
    task_fits_the_rows,
)

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SIZE = re.compile(r"[0-9]+(\.[0-9]+)?[KMGT]B")


def conflicts(recipe: Recipe) -> Iterator[Conflict]:
    """Every rule that the recipe breaks.

    Args:
        recipe: With `adapter.method: qlora` already spelled out.

    Yields:
        The conflicts, in no order that means anything.
    """
    for rule in _RULES:
        yield from rule(recipe)


def _full_is_not_quantized(recipe: Recipe) -> Iterator[Conflict]:
    quantization = recipe.model.quantization
    if recipe.adapter.method == "full" and quantization != "none":
        yield Conflict(
            "model.quantization",
            f"`model.quantization: {quantization}` can't be trained with `adapter.method: full`",
            "`none`, because quantized weights have no gradient",
            "`adapter.method: qlora` trains LoRA on a 4-bit base.",
        )


def _qlora_is_quantized(recipe: Recipe) -> Iterator[Conflict]:
    if recipe.adapter.method == "qlora" and recipe.model.quantization == "none":
        others = [choice for choice in keys()["model.quantization"].choices if choice != "none"]
        yield Conflict(
            "model.quantization",
            "`adapter.method: qlora` needs a quantized base, got `model.quantization: none`",
            one_of(others),
            "Leave `model.quantization` out, or write `adapter.method: lora`.",
        )


def _random_weights_are_trained_in_full(recipe: Recipe) -> Iterator[Conflict]:
    if recipe.model.init == "random" and recipe.adapter.method != "full":
        yield Conflict(
            "model.init",
            f"`model.init: random` can't be trained with `adapter.method: {recipe.adapter.method}`",
            "`adapter.method: full`, because an adapter leaves the random weights as they are",
            "Write `adapter.method: full`.",
        )


def _trained_tokenizer_needs_new_weights(recipe: Recipe) -> Iterator[Conflict]:
    if recipe.model.tokenizer == "train" and recipe.model.init != "random":
        yield Conflict(
            "model.tokenizer",
            "`model.tokenizer: train` doesn't fit a pretrained checkpoint",
            "`model.init: random`, because pretrained embeddings belong to their own tokenizer",
            "Leave `model.tokenizer` out to use the checkpoint's, or `./train` for a folder.",
        )


def _remote_code_is_pinned(recipe: Recipe) -> Iterator[Conflict]:
    revision = recipe.model.revision
    if recipe.model.trust_remote_code and not _COMMIT.fullmatch(revision or ""):
        got = "no `model.revision`" if revision is None else f"`model.revision: {revision}`"
        yield Conflict(
            "model.trust_remote_code",
            f"`model.trust_remote_code: true` needs a pinned revision, got {got}",
            "the full hash of a commit (40 digits), because a branch or tag can change its code",
            "Write `model.revision` with the hash of the commit whose code you have read.",
        )


def _full_has_no_adapter_to_start_from(recipe: Recipe) -> Iterator[Conflict]:
    if recipe.adapter.start_from is not None and recipe.adapter.method == "full":
        yield Conflict(
            "adapter.start_from",
            "`adapter.start_from` has no meaning with `adapter.method: full`",
            "`adapter.method` `lora` or `qlora`",
            "Merge the adapter first, and write the merged model's folder as `model.name_or_path`.",
        )


def _evaluation_has_rows(recipe: Recipe) -> Iterator[Conflict]:
    data = recipe.data
    if recipe.evaluate.eval_steps is not None and data.eval is None and data.eval_fraction == 0:
        yield Conflict(
            "evaluate.eval_steps",
            "`evaluate.eval_steps` needs held-out rows, got `data.eval_fraction: 0`",
            "`data.eval`, or `data.eval_fraction` above 0",
        )


def _initialization_is_possible(recipe: Recipe) -> Iterator[Conflict]:
    init, adapter = recipe.adapter.init_lora_weights, recipe.adapter
    if adapter.method == "full":
        return
    if init == "pissa" and recipe.model.quantization != "none":
        yield Conflict(
            "adapter.init_lora_weights",
            "`adapter.init_lora_weights: pissa` can't start from "
            f"`model.quantization: {recipe.model.quantization}`",
            "`model.quantization: none`, because PEFT decomposes the unquantized weights",
        )
    if init == "orthogonal" and adapter.r % 2:
        yield Conflict(
            "adapter.init_lora_weights",
            f"`adapter.init_lora_weights: orthogonal` can't be used with `adapter.r: {adapter.r}`",
            "an even `adapter.r`",
            f"Write `adapter.r: {adapter.r + 1}`.",
        )


def _target_modules_can_match(recipe: Recipe) -> Iterator[Conflict]:
    target = recipe.adapter.target_modules
    if not isinstance(target, str) or target in ("auto", "all-linear"):
        return
    takes = "`auto`, `all-linear`, a list of module names, or a regular expression"
    what = f"Invalid value for `adapter.target_modules`, got `{target}`"
    if target in ("all", "all_linear", "linear"):
        yield Conflict("adapter.target_modules", what, takes, "Did you mean `all-linear`?")
    elif re.fullmatch(r"\w+(\s*,\s*\w+)*", target):
        # PEFT would match it as an expression against whole module paths, and find nothing.
        listed = ", ".join(re.split(r"\s*,\s*", target))
        yield Conflict("adapter.target_modules", what, takes, f"Write `[{listed}]`.")
    else:
        try:
            with warnings.catch_warnings(action="ignore"):  # about sets in sets, harmless
                re.compile(target)
        except (re.error, RecursionError, OverflowError) as error:
            takes += f"; as an expression: {error}"
            yield Conflict("adapter.target_modules", what, takes)


def _lists_have_something(recipe: Recipe) -> Iterator[Conflict]:
    values = {
        "data.train": recipe.data.train,
        "data.eval": recipe.data.eval,
        "adapter.target_modules": recipe.adapter.target_modules,
        "adapter.layers_to_transform": recipe.adapter.layers_to_transform,
        "evaluate.metrics": recipe.evaluate.metrics,
    }
    for key, value in values.items():
        if value in ([], "") or (isinstance(value, list) and "" in value):
            got = "``" if value == "" else "`[]`" if value == [] else "an empty name in the list"
            yield Conflict(key, f"`{key}` is empty, got {got}", keys()[key].expected)


def _layers_count_from_zero(recipe: Recipe) -> Iterator[Conflict]:
    for layer in recipe.adapter.layers_to_transform or []:
        if layer < 0:
            yield Conflict(
                "adapter.layers_to_transform",
                f"Invalid value in `adapter.layers_to_transform`, got `{layer}`",
                "whole numbers, at least 0",
            )


def _numbers_are_finite(recipe: Recipe) -> Iterator[Conflict]:
    for key, fact in keys().items():
        section, _, name = key.rpartition(".")
        value = getattr(getattr(recipe, section) if section else recipe, name)
        if isinstance(value, float) and not math.isfinite(value):
            spelled = f"{value}".replace("inf", ".inf").replace("nan", ".nan")
            what = f"Invalid value for `{key}`, got `{spelled}`"
            yield Conflict(key, what, f"{fact.expected}, and finite")


def _shard_size_has_a_unit(recipe: Recipe) -> Iterator[Conflict]:
    size = recipe.export.max_shard_size
    if not _SIZE.fullmatch(size):
        what = f"Invalid value for `export.max_shard_size`, got `{size}`"
        yield Conflict(
            "export.max_shard_size", what, "a number with `KB`, `MB`, `GB` or `TB`, like `5GB`"
        )


_RULES: tuple[Callable[[Recipe], Iterator[Conflict]], ...] = (
    _full_is_not_quantized,
    _qlora_is_quantized,
    _random_weights_are_trained_in_full,
    _trained_tokenizer_needs_new_weights,
    _remote_code_is_pinned,
    *DATA_RULES,
    _full_has_no_adapter_to_start_from,
    _evaluation_has_rows,
    metrics_fit_the_task,
    best_is_looked_for,
    _initialization_is_possible,
    _target_modules_can_match,
    prefix_has_a_prompt,
    task_fits_the_rows,
    general_text_needs_a_language_model,
    _lists_have_something,
    _layers_count_from_zero,
    _numbers_are_finite,
    _shard_size_has_a_unit,
)
