"""Answers piece by piece, and the base beside the tuned model, on real runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import AutoTokenizer

import kft
from kft.api.generate import open_chat
from kft.errors import UsageError
from kft.models.generation import TextPieces

if TYPE_CHECKING:
    from conftest import RecipeFile

WORDS = ["서울의", "가을은", "하늘이", "높고", "바람이", "선선하다"]
CHATS = [
    {"prompt": " ".join(WORDS[at % 4 : at % 4 + 2]), "completion": " ".join(WORDS[at % 3 :])}
    for at in range(30)
]
KEYS = {"train.max_steps": 30, "data.max_length": 64, "export.merge": False}


def test_no_piece_ends_inside_a_character(tiny_gpt: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_gpt)
    text = "쀍 하늘이 높다. 뷁!"
    ids = tokenizer(text).input_ids
    told: list[str] = []
    pieces = TextPieces(tokenizer, told.append)
    for value in ([7, 7], *([one] for one in ids), [tokenizer.eos_token_id]):
        pieces.put(torch.tensor(value))
    pieces.end()
    assert "".join(told) == text == pieces.text
    assert "\ufffd" not in "".join(told)
    assert len(ids) > len(told) > 5  # the first word takes several tokens for a syllable


@pytest.fixture(params=["gpt", "prefix"])
def run(request: Any, tiny_gpt: Path, tiny_bert: Path, recipe_file: RecipeFile) -> kft.Run:
    more = {"model.attention": "prefix"} if request.param == "prefix" else {}
    checkpoint = tiny_bert if more else tiny_gpt
    return kft.finetune(recipe_file(checkpoint, CHATS, {**KEYS, **more}))


def test_the_pieces_are_the_answer_and_the_base_is_the_base(run: kft.Run) -> None:
    chat = open_chat(str(run.folder))
    turns = [{"role": "user", "content": "서울의 가을은"}]
    answer = chat.answer(turns, 24)
    pieces: list[str] = []
    assert chat.stream(turns, 24, pieces.append) == answer
    assert "".join(pieces) == answer
    assert len(pieces) > 2
    # An interrupted answer leaves a model that answers as before.

    def interrupt(piece: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        chat.stream(turns, 24, interrupt)
    assert chat.answer(turns, 24) == answer
    # The base is asked as the base model itself would be.
    base = chat.base_answer(turns, 24)
    assert base != answer
    plain = chat.opened.model.unload()
    object.__setattr__(chat.opened, "model", plain)
    assert chat.answer(turns, 24) == base
    with pytest.raises(UsageError, match="has no base beside it"):
        chat.base_answer(turns)
