"""Rules between the keys of the `data` section."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import get_args

from kft.errors import name_list
from kft.recipe.conflict import Conflict
from kft.recipe.keys import one_of
from kft.recipe.schema import Format, Recipe, Role
from kft.recipe.section import SourceSection

# The roles of columns that each format of the rows has a use for.
ROLES_OF_FORMAT: dict[Format, frozenset[Role]] = {
    "text": frozenset({"text"}),
    "prompt_completion": frozenset({"system", "prompt", "completion"}),
    "instruction": frozenset({"system", "instruction", "input", "output"}),
    "messages": frozenset({"messages"}),
    "classification": frozenset({"text", "label"}),
    "pairs": frozenset({"text", "text_pair", "label"}),
    "tokens": frozenset({"tokens", "tags"}),
}
_LABELLED: tuple[Format, ...] = ("classification", "pairs", "tokens")


def _columns_fit_the_format(recipe: Recipe) -> Iterator[Conflict]:
    written = set(recipe.data.columns)
    if recipe.data.format == "auto":
        if not any(written <= roles for roles in ROLES_OF_FORMAT.values()):
            yield Conflict(
                "data.columns",
                f"No format of the rows has all of the roles {name_list(_in_order(written))}",
                _roles_example(written),
            )
        return
    roles = ROLES_OF_FORMAT[recipe.data.format]
    for role in recipe.data.columns:
        if role not in roles:
            fitting = [name for name, others in ROLES_OF_FORMAT.items() if written <= others]
            yield Conflict(
                f"data.columns.{role}",
                f"Role `{role}` isn't used by `data.format: {recipe.data.format}`",
                one_of(_in_order(roles)),
                f"Did you mean `data.format: {fitting[0]}`?" if fitting else None,
            )


def _only_labels_have_several_columns(recipe: Recipe) -> Iterator[Conflict]:
    for role, column in recipe.data.columns.items():
        if isinstance(column, list) and (role != "label" or len(set(column)) < 2):
            got = f"[{', '.join(column)}]"
            takes = "a column's name" if role != "label" else "a name, or at least two of them"
            what = f"Invalid value for `data.columns.{role}`, got `{got}`"
            yield Conflict(f"data.columns.{role}", what, takes)


def _in_order(roles: Collection[Role]) -> list[Role]:
    return [role for role in get_args(Role) if role in roles]


def _roles_example(written: set[Role]) -> str:
    name, roles = max(ROLES_OF_FORMAT.items(), key=lambda entry: len(entry[1] & written))
    return f"the roles of one format, for example {name_list(_in_order(roles))} for `{name}`"


def _labels_need_classes(recipe: Recipe) -> Iterator[Conflict]:
    labels = recipe.data.labels
    if labels and recipe.data.format not in (*_LABELLED, "auto"):
        yield Conflict(
            "data.labels",
            f"`data.labels` isn't used by `data.format: {recipe.data.format}`",
            f"`data.format` {name_list(_LABELLED)}",
            "Leave `data.labels` out.",
        )
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        yield Conflict(
            "data.labels", f"`data.labels` has {name_list(twice)} twice", "every label once"
        )
    elif len(labels) == 1:
        yield Conflict(
            "data.labels", f"`data.labels` has only {name_list(labels)}", "at least two labels"
        )


def _held_out_rows_have_no_weight(recipe: Recipe) -> Iterator[Conflict]:
    given = recipe.data.eval
    for source in given if isinstance(given, list) else [given]:
        if isinstance(source, SourceSection) and source.weight != 1:
            yield Conflict(
                "data.eval.weight",
                f"`weight: {source.weight:g}` has no meaning in `data.eval`",
                "every held-out row once, so that two runs can be compared",
                "Leave `weight` out.",
            )


def _streams_have_an_end(recipe: Recipe) -> Iterator[Conflict]:
    if recipe.data.streaming and recipe.train.max_steps is None:
        yield Conflict(
            "data.streaming",
            "`data.streaming: true` needs `train.max_steps`, got none",
            "the number of optimizer steps: it says how many rows are read",
            "Write `train.max_steps`, or leave `data.streaming` out to read every row.",
        )


def _streams_count_rows(recipe: Recipe) -> Iterator[Conflict]:
    if recipe.data.streaming and recipe.data.packing is True:
        yield Conflict(
            "data.packing",
            "`data.packing: true` doesn't go with `data.streaming: true`",
            "`auto` or `false`: how many rows fill packed ones shows only when they are read",
            "Leave `data.packing` out; without `data.streaming` every row is read, and packed.",
        )


def _streams_know_their_batch(recipe: Recipe) -> Iterator[Conflict]:
    if recipe.data.streaming and recipe.train.per_device_train_batch_size == "auto":
        yield Conflict(
            "train.per_device_train_batch_size",
            "`auto` doesn't go with `data.streaming: true`",
            "a number: it says how many rows are read",
        )


DATA_RULES = (
    _columns_fit_the_format,
    _only_labels_have_several_columns,
    _labels_need_classes,
    _held_out_rows_have_no_weight,
    _streams_have_an_end,
    _streams_count_rows,
    _streams_know_their_batch,
)
