"""`model.tokenizer: train`: made once, and kept for a run that goes on."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tiny_models import SENTENCES, encoder_shape
from transformers import AutoTokenizer, BertConfig, GPT2Config

import kft
from kft.api import preflight
from kft.errors import ModelError
from kft.models.new_tokenizer import ENCODER_TOKENS, piece_vocabulary, train_tokenizer

if TYPE_CHECKING:
    from conftest import RecipeFile

SIZE = 400
TEXTS = SENTENCES.read_text(encoding="utf-8").splitlines()


def config(**more: Any) -> Any:
    return BertConfig(**encoder_shape(vocab_size=SIZE, **more))


def test_an_encoder_gets_a_wordpiece_with_its_special_tokens_first() -> None:
    tokenizer = train_tokenizer(TEXTS, config())
    assert len(tokenizer) == SIZE
    assert [tokenizer.convert_tokens_to_ids(token) for token in ENCODER_TOKENS] == [0, 1, 2, 3, 4]
    ids = tokenizer(TEXTS[0]).input_ids
    assert (ids[0], ids[-1]) == (2, 3)
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.mask_token_id == 4


PIECES = """
import sys
from kft.models.new_tokenizer import ENCODER_TOKENS, piece_vocabulary
texts = open(sys.argv[1], encoding="utf-8").read().splitlines()
print(ascii(list(piece_vocabulary(texts, 400, ENCODER_TOKENS))))
"""


def test_each_process_makes_the_same_pieces() -> None:
    """What the trainer of `tokenizers` itself doesn't: two runs of a recipe would have two ids."""
    told = [
        subprocess.run(
            [sys.executable, "-c", PIECES, str(SENTENCES)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for _ in range(2)
    ]
    pieces = ast.literal_eval(told[0])
    assert told[0] == told[1]
    assert len(pieces) == len(set(pieces)) == 400
    assert "##." not in pieces


def test_pieces_are_put_together_by_count() -> None:
    """Worked out by hand: 가나 stands thrice, 다나 twice; 나 is an inner character alone."""
    pieces = piece_vocabulary(["가나 가나, 다나", "가나 다나 라"], 100, ["[UNK]"])
    assert list(pieces) == ["[UNK]", ",", "가", "나", "다", "라", "##나", "가나", "다나"]
    assert list(pieces.values()) == list(range(len(pieces)))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (config(pad_token_id=7), "padding id is 7"),
        (BertConfig(**encoder_shape(vocab_size=90_000)), "a vocabulary of only"),
        (GPT2Config(vocab_size=400, bos_token_id=5, eos_token_id=6), "ids are 5 and 6"),
    ],
)
def test_a_config_that_it_does_not_fit_is_refused(wrong: Any, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        train_tokenizer(TEXTS, wrong)


def test_a_run_that_goes_on_has_the_tokenizer_it_began_with(
    recipe_file: RecipeFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config().save_pretrained(tmp_path / "config")
    keys = {
        "task": "masked_lm",
        "model.init": "random",
        "data.eval_fraction": 0.1,
        "model.tokenizer": "train",
        "adapter.method": "full",
        "train.max_steps": 4,
        "train.save_steps": 2,
    }
    rows = [{"text": text} for text in TEXTS]
    path = recipe_file(tmp_path / "config", rows, keys)
    steps = kft.steps(path)
    for stats in steps:
        if stats.step == 2:
            break
    steps.close()  # type: ignore[attr-defined] # a generator, as a notebook's cell leaves it
    made = AutoTokenizer.from_pretrained(tmp_path / "run" / "tokenizer").get_vocab()

    def again(*_: Any) -> Any:
        raise AssertionError("a second tokenizer would have other ids")

    monkeypatch.setattr(preflight, "train_tokenizer", again)
    run = kft.finetune(path, resume=True)
    assert run.metrics["step"].tolist() == [1, 2, 3, 4]
    assert AutoTokenizer.from_pretrained(run.folder / "model").get_vocab() == made
