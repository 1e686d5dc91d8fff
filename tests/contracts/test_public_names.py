"""The public door: its list is exact, and each name leads to where it is defined."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

import kft

PUBLIC = [
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
"""Whoever adds or removes a name says so here, and in the changelog."""


def test_the_list_is_exact() -> None:
    assert kft.__all__ == PUBLIC
    assert set(kft._HOME) == set(PUBLIC)
    assert dir(kft) == sorted([*PUBLIC, "__version__"])


@pytest.mark.parametrize("name", PUBLIC)
def test_each_name_leads_to_where_it_is_defined(name: str) -> None:
    assert getattr(kft, name).__module__ == kft._HOME[name]
    assert getattr(kft, name).__name__ == name


def members() -> Iterator[tuple[str, str]]:
    for name in PUBLIC:
        found = getattr(kft, name)
        yield name, found.__doc__ or ""
        for member, value in list(vars(found).items()) if inspect.isclass(found) else ():
            plain = getattr(value, "fget", None) or getattr(value, "func", value)
            if not member.startswith(("_", "model_")) and inspect.isfunction(plain):
                yield f"{name}.{member}", plain.__doc__ or ""


@pytest.mark.parametrize(("name", "docstring"), list(members()))
def test_each_name_has_an_example_that_is_tested(name: str, docstring: str) -> None:
    assert ">>>" in docstring, name


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(kft.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    shown = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert shown == kft._HOME


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'kft' has no attribute 'Trainer'"):
        kft.Trainer  # noqa: B018  (the access itself is what is tested)
