"""Texts as ids, by the shortest way there is."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from kft.tasks.pieces import ids_of

TEXTS = ["하늘이 높고 바람이 선선하다", "", "ㅋㅋㅋ 좋아요!", "<s>가</s> [SEP] 나"]


@pytest.mark.parametrize("family", ["tiny_tokenizer", "tiny_wordpiece"])
@pytest.mark.parametrize("with_specials", [True, False])
def test_the_ids_are_those_of_the_tokenizer_itself(
    family: str, with_specials: bool, request: pytest.FixtureRequest
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(request.getfixturevalue(family))
    expected = [tokenizer(text, add_special_tokens=with_specials).input_ids for text in TEXTS]
    assert ids_of(TEXTS, tokenizer, with_specials=with_specials) == expected
    assert ids_of([], tokenizer, with_specials=with_specials) == []


def test_a_length_that_a_file_carries_cuts_nothing(tiny_tokenizer: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_tokenizer)
    whole = ids_of(TEXTS, tokenizer, with_specials=False)
    tokenizer.backend_tokenizer.enable_truncation(3)
    tokenizer.backend_tokenizer.enable_padding(length=50)
    assert ids_of(TEXTS, tokenizer, with_specials=False) == whole
    assert len(whole[0]) > 3
