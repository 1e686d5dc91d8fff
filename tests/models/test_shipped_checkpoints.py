"""The small checkpoints of the repository: they load, fit, and know some Korean."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

from kft.models.guard import examine, require

FOLDER = Path(__file__).resolve().parents[2] / "data" / "checkpoints"
NAMES = {"ko-gpt-mini": AutoModelForCausalLM, "ko-bert-mini": AutoModelForMaskedLM}
LIMIT = 16_000_000
REVIEWS = (
    "배우들 연기가 정말 좋았어요",
    "시간 가는 줄 모르고 재미있게 봤습니다",
    "스토리가 너무 지루하고 돈이 아깝다",
    "음악도 좋고 감동적인 영화",
)


def test_each_is_known_here() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_small_and_whole(name: str) -> None:
    folder = FOLDER / name
    assert sum(path.stat().st_size for path in folder.iterdir()) <= LIMIT
    there = {path.name for path in folder.iterdir()}
    assert there >= {"README.md", "config.json", "model.safetensors", "tokenizer.json"}
    assert "license: cc0-1.0" in (folder / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_its_tokenizer_passes_the_guard(name: str) -> None:
    model = NAMES[name].from_pretrained(FOLDER / name)
    tokenizer = AutoTokenizer.from_pretrained(FOLDER / name)
    require(examine(tokenizer, model.config, REVIEWS))


@pytest.mark.parametrize("name", NAMES)
def test_it_expects_korean_rather_than_anything(name: str) -> None:
    model = NAMES[name].from_pretrained(FOLDER / name, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(FOLDER / name)
    nats, count = 0.0, 0
    for review in REVIEWS:
        ids = tokenizer(review, return_tensors="pt").input_ids
        for place in range(1, ids.shape[1] - 1):
            with torch.no_grad():
                if name == "ko-bert-mini":
                    hidden = ids.clone()
                    hidden[0, place] = tokenizer.mask_token_id
                    logits = model(hidden).logits[0, place]
                else:
                    logits = model(ids[:, :place]).logits[0, -1]
            nats -= float(logits.log_softmax(-1)[ids[0, place]])
            count += 1
    uniform = math.log(model.config.vocab_size)
    assert nats / count < 0.7 * uniform
