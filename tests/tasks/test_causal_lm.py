"""Examples: what is a target, what is cut, and how running text goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

from kft.data.named_templates import TEMPLATES
from kft.data.templates import TemplateRenderer
from kft.errors import DataError
from kft.ops.losses import next_token_targets
from kft.tasks.causal_lm import CausalLM
from kft.tasks.pieces import prompt_ids, text_ids
from kft.tasks.task import IGNORE_INDEX, EncodeOptions, Example, Record


@pytest.fixture
def tokenizer(tiny_tokenizer: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_tokenizer)


def encode(tokenizer: Any, record: Record, max_length: int, on_too_long: Any) -> list[Example]:
    renderer = TemplateRenderer(tokenizer, TEMPLATES["plain"])
    return CausalLM().encode(record, tokenizer, renderer, EncodeOptions(max_length, on_too_long))


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=st.text(st.characters(codec="utf-8"), min_size=1), max_length=st.integers(2, 40))
def test_every_token_of_a_text_is_predicted_once(
    tokenizer: Any, text: str, max_length: int
) -> None:
    whole = text_ids([text], tokenizer)[0]
    examples = encode(tokenizer, Record("rows:1", text=text), max_length, "truncate")
    assert [label for example in examples for label in example.labels[1:]] == whole[1:]
    assert all(len(example.input_ids) <= max_length for example in examples)
    assert all(example.num_targets >= 1 for example in examples)


@pytest.mark.parametrize("packed", [False, True])
def test_no_text_is_asked_how_the_next_one_begins(tokenizer: Any, *, packed: bool) -> None:
    examples = [
        example
        for text in ("서울의 가을", "하늘이 높고 바람이 선선하다", "가")
        for example in encode(tokenizer, Record("rows:1", text=text), 6, "truncate")
    ]
    batch = CausalLM().collate(examples, tokenizer.pad_token_id, packed=packed)
    _, targets = next_token_targets(batch.labels)
    assert targets.tolist() == [label for one in examples for label in one.labels[1:]]
    assert len(targets) == batch.num_counted


def test_a_text_stands_between_a_start_and_an_end(tokenizer: Any) -> None:
    bare = tokenizer("가을").input_ids
    assert text_ids(["가을"], tokenizer)[0] == [0, *bare, 1]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    assert text_ids(["가을"], tokenizer)[0] == [0, *bare, 1]
    assert prompt_ids("가을", tokenizer) == [0, *bare]
    assert prompt_ids("", tokenizer) == [0]


def test_a_cut_answer_has_no_end_and_says_so(tokenizer: Any) -> None:
    turns = ({"role": "user", "content": "안녕"}, {"role": "assistant", "content": "서울 " * 30})
    record = Record("rows:3", messages=turns)
    (example,) = encode(tokenizer, record, 20, "truncate")
    assert example.was_truncated
    assert not example.end_is_target
    assert len(example.input_ids) == 20
    kept = [label for label in example.labels[1:] if label != IGNORE_INDEX]
    assert example.target_text == tokenizer.decode(kept)
    assert encode(tokenizer, record, 20, "drop") == []
    with pytest.raises(DataError, match="Row has"):
        encode(tokenizer, record, 20, "error")


def test_a_prompt_that_fills_the_row_leaves_nothing_to_learn(tokenizer: Any) -> None:
    turns = ({"role": "user", "content": "서울 " * 30}, {"role": "assistant", "content": "예"})
    with pytest.raises(DataError, match="the prompt alone fills `max_length`") as caught:
        encode(tokenizer, Record("rows:9", messages=turns), 20, "truncate")
    assert caught.value.where == "rows:9"


def test_what_was_said_before_anybody_asked_is_not_an_answer(tokenizer: Any) -> None:
    turns = (
        {"role": "assistant", "content": "어서 오세요."},
        {"role": "user", "content": "안녕"},
        {"role": "assistant", "content": "반가워요."},
    )
    (example,) = encode(tokenizer, Record("rows:1", messages=turns), 200, "truncate")
    trained = tokenizer.decode([label for label in example.labels if label != IGNORE_INDEX])
    assert trained == "반가워요.</s>"
    assert "어서" in tokenizer.decode(example.input_ids)
