"""Rows that leave the batch when they have ended say what transformers' `generate` says."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
)

from kft.models.greedy import can_shrink, greedy_ids, padded_left

SMALL = {
    "vocab_size": 60, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2,
}  # fmt: skip


def make(family: str, tiny_gpt: Path) -> torch.nn.Module:
    torch.manual_seed(3)
    if family == "gpt2":
        return AutoModelForCausalLM.from_pretrained(tiny_gpt, dtype=torch.float32).eval()
    if family == "llama":
        config = LlamaConfig(**SMALL, num_key_value_heads=2, initializer_range=0.3)
        return LlamaForCausalLM(config).eval()
    return GPTNeoXForCausalLM(GPTNeoXConfig(**SMALL, initializer_range=0.3)).eval()


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neox"])
def test_the_same_tokens_as_generate(family: str, tiny_gpt: Path) -> None:
    model = make(family, tiny_gpt)
    draw = random.Random(family)
    prompts = [[draw.randrange(4, 60) for _ in range(draw.randint(1, 9))] for _ in range(12)]
    ids, mask = padded_left(prompts, 2, "cpu")
    with torch.no_grad():
        free = model.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=16, do_sample=False,
            eos_token_id=None, pad_token_id=2,
        )  # fmt: skip
    # What some rows say early and others late or never becomes the end.
    said = free[:, ids.shape[1] :].tolist()
    counts = {token: sum(token in row for row in said) for row in said for token in row}
    ends = [token for token, rows in sorted(counts.items()) if 3 <= rows <= 9][:2]
    assert ends, "no token that only some rows say"
    assert can_shrink(model)
    cut = []
    for row in said:
        stops = [place for place, token in enumerate(row) if token in ends]
        cut.append(row[: stops[0] + 1] if stops else row)
    assert len({len(row) for row in cut}) > 2, "rows end at different times"
    assert greedy_ids(model, ids, mask, ends=ends, max_new_tokens=16) == cut


def test_fewer_rows_are_computed_once_some_have_ended(tiny_gpt: Path) -> None:
    model = make("gpt2", tiny_gpt)
    sizes: list[int] = []
    model.register_forward_pre_hook(
        lambda *said: sizes.append(len(said[2]["input_ids"])), with_kwargs=True
    )
    ids, mask = padded_left([[5, 6], [7, 8, 9], [10]], 2, "cpu")
    first = greedy_ids(model, ids, mask, ends=[], max_new_tokens=6)
    sizes.clear()
    end = first[0][1]
    found = greedy_ids(model, ids, mask, ends=[end], max_new_tokens=6)
    assert found[0] == first[0][:2] or found[0] == first[0][:1]
    assert sizes == [sum(len(row) > step for row in found) for step in range(len(sizes))]
    assert sizes[-1] < 3


def test_what_asks_for_more_than_the_likeliest_token_is_left_to_generate(tiny_gpt: Path) -> None:
    model = make("gpt2", tiny_gpt)
    model.generation_config.repetition_penalty = 1.3
    assert not can_shrink(model)
