"""The schema itself: defaults that hold, facts read off it, and names for hints."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from kft.recipe.data_rules import ROLES_OF_FORMAT
from kft.recipe.foreign_names import FOREIGN_KEYS, FOREIGN_VALUES, meant_choice
from kft.recipe.keys import Key, expected, keys, names_in, section_names, sections
from kft.recipe.problems import unknown_key, value_hint
from kft.recipe.rules import conflicts
from kft.recipe.schema import Recipe
from kft.recipe.source import Place

SMALLEST: dict[str, Any] = {
    "model": {"name_or_path": "m"},
    "data": {"train": "d"},
    "output_dir": "o",
}


def with_value(key: Key, value: Any) -> dict[str, Any]:
    if not key.section:
        return {**SMALLEST, key.name: value}
    return {**SMALLEST, key.section: {**SMALLEST.get(key.section, {}), key.name: value}}


def hint(section: str, name: str) -> str | None:
    return unknown_key(section, name, Place("a.yaml:1", (0, 0))).hint


def test_the_smallest_recipe_breaks_no_rule() -> None:
    assert list(conflicts(Recipe.model_validate(SMALLEST))) == []


@pytest.mark.parametrize("key", keys().values(), ids=list(keys()))
def test_every_default_and_every_choice_is_valid(key: Key) -> None:
    if not key.required:
        Recipe.model_validate(with_value(key, key.default))
    for choice in key.choices:
        value = {"true": True, "false": False, "null": None}.get(choice, choice)
        recipe = Recipe.model_validate(with_value(key, value))
        section = getattr(recipe, key.section) if key.section else recipe
        assert getattr(section, key.name) == value


@pytest.mark.parametrize("key", keys().values(), ids=list(keys()))
def test_every_key_says_what_it_takes_and_means(key: Key) -> None:
    assert key.expected
    assert key.description.endswith((".", ").")), key.path
    with pytest.raises(ValidationError):
        Recipe.model_validate(with_value(key, object()))


def test_an_int_stands_for_a_float_and_not_the_reverse() -> None:
    key = keys()["train.num_train_epochs"]
    assert Recipe.model_validate(with_value(key, 3)).train.num_train_epochs == 3.0
    with pytest.raises(ValidationError):
        Recipe.model_validate(with_value(keys()["data.max_length"], 512.0))


def test_unknown_keys_are_refused_at_every_depth_and_recipes_are_frozen() -> None:
    for section in ["", *section_names()]:
        with pytest.raises(ValidationError, match="extra_forbidden"):
            Recipe.model_validate(with_value(Key(f"{section}.x", False, 0, "", ()), 1))
    recipe = Recipe.model_validate(SMALLEST)
    with pytest.raises(ValidationError, match="frozen"):
        recipe.adapter.r = 3  # type: ignore[misc]


def test_the_resolved_recipe_has_every_key_in_order() -> None:
    resolved = Recipe.model_validate(SMALLEST).resolved()
    assert list(resolved) == names_in("")
    for section in section_names():
        assert list(resolved[section]) == names_in(section)


def test_sections_cover_the_schema() -> None:
    assert [section.name for section in sections()] == ["", *section_names()]
    assert all(section.description for section in sections())


@pytest.mark.parametrize(
    ("form", "words"),
    [
        (
            {"type": "integer", "minimum": 1, "maximum": 8},
            "a whole number, at least 1 and at most 8",
        ),
        ({"type": "number", "exclusiveMinimum": 0}, "a number, above 0"),
        ({"type": "array", "items": {"type": "integer"}}, "a list of whole numbers"),
        (
            {"type": "array", "items": {"type": "string"}, "minItems": 1},
            "a list of text, not empty",
        ),
        ({"const": "lora"}, "`lora`"),
        ({"type": "string", "pattern": "[0-9]+GB"}, "text that matches `[0-9]+GB`"),
        (
            {"type": "object", "additionalProperties": {"type": "string"}},
            "a mapping from a name to text",
        ),
        (
            {"type": "object", "properties": {"path": {}, "weight": {}}},
            "a mapping of `path`, `weight`",
        ),
    ],
)
def test_words_for_a_form(form: dict[str, Any], words: str) -> None:
    assert expected([form]) == words


@pytest.mark.parametrize("name", FOREIGN_KEYS)
def test_a_foreign_name_leads_to_a_key(name: str) -> None:
    path, colon, value = FOREIGN_KEYS[name].partition(": ")
    assert path in keys() or path in section_names()
    section, _, own = path.rpartition(".")
    assert name not in names_in(section), f"`{name}` is kft's own name now"
    if colon:
        assert value in keys()[path].choices or keys()[path].form("string")
    assert hint(section, name) == f"Did you mean `{own}{colon}{value}`?"


def test_foreign_values_lead_to_choices() -> None:
    """To those of a key that hasn't the foreign word itself, as `data.format` has some tasks."""
    for word, meant in FOREIGN_VALUES.items():
        fitting = [key.choices for key in keys().values() if meant in key.choices]
        assert fitting, meant
        assert word in {"null", "false"} or not any(word in choices for choices in fitting), word


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("classification", "sequence_classification"),
        ("text-classification", "sequence_classification"),
        ("SEQ_CLS", "sequence_classification"),
        ("regression", "sequence_regression"),
        ("ner", "token_classification"),
        ("NER", "token_classification"),
        ("mlm", "masked_lm"),
        ("clm", "causal_lm"),
        ("sft", "causal_lm"),
        ("lm", "causal_lm"),
        ("token-classification", "token_classification"),
        ("sequence_clasification", "sequence_classification"),
        ("masked", "masked_lm"),
    ],
)
def test_a_task_by_another_name_is_the_one_that_was_meant(word: str, meant: str) -> None:
    assert meant_choice(word, keys()["task"].choices) == meant
    assert value_hint(keys()["task"].forms, word, None) == f"Did you mean `{meant}`?"


@pytest.mark.parametrize(
    ("section", "name", "expected_hint"),
    [
        ("adapter", "lora_rank", "Did you mean `r`?"),
        ("adapter", "lora-alpha", "Did you mean `lora_alpha`?"),
        ("adapter", "dropout", "Did you mean `lora_dropout`?"),
        ("train", "dropout", "Did you mean `model.dropout`?"),
        ("", "lora_rank", "Did you mean `adapter.r`?"),
        ("", "Learning_Rate", "Did you mean `train.learning_rate`?"),
        ("", "base_model", "Did you mean `model.name_or_path`?"),
        ("", "micro_batch_size", "Did you mean `train.per_device_train_batch_size`?"),
        ("", "lora", "Did you mean `adapter`?"),
        ("model", "output", "Did you mean `output_dir` at the top level?"),
        ("train", "sead", "Did you mean `seed`?"),
        ("export", "wieght_decay", "Did you mean `train.weight_decay`?"),
        ("train", "xyzzy", None),
    ],
)
def test_hints_for_names(section: str, name: str, expected_hint: str | None) -> None:
    assert hint(section, name) == expected_hint


@pytest.mark.parametrize(
    ("key", "value", "expected_hint"),
    [
        ("model.quantization", 4, "Did you mean `nf4`?"),
        ("model.quantization", False, "Did you mean `none`?"),
        ("train.optim", "adamw_torch", "Did you mean `adamw`?"),
        ("train.precision", "FP16", "Did you mean `float16`?"),
        ("task", "CAUSAL_LM", "Did you mean `causal_lm`?"),
        ("export.merge", "off", "Write `false`."),
        ("adapter.lora_dropout", 10, "It is a share: 10 % is `0.1`."),
        ("adapter.r", 8.5, None),
        ("adapter.r", True, None),
        ("adapter.layers_to_transform", 3, "Write `[3]`."),
    ],
)
def test_hints_for_values(key: str, value: Any, expected_hint: str | None) -> None:
    assert value_hint(keys()[key].forms, value, None) == expected_hint


def test_the_rules_know_every_format_and_role() -> None:
    assert {"auto", *ROLES_OF_FORMAT} == set(keys()["data.format"].choices)
    columns = keys()["data.columns"].form("object")
    assert columns is not None
    assert set().union(*ROLES_OF_FORMAT.values()) == set(columns["propertyNames"]["enum"])
