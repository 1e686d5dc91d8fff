"""Encoders as decoders: what their tokens see, and that generation with a cache says the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer, BertLMHeadModel

from kft.errors import ModelError
from kft.models.adapters import add_adapter
from kft.models.architecture import check_architecture, num_positions
from kft.models.decoders import as_decoder, is_prefix, published_class
from kft.models.generation import generate_ids
from kft.models.heads import HeadOptions, head_finding, new_modules
from kft.models.loader import (
    clean_generation_config,
    load_config,
    load_model,
    load_model_with_head,
)
from kft.models.logits import keeps_positions
from kft.recipe.schema import AdapterSection, ModelSection

CAUSAL = "AutoModelForCausalLM"
FAMILIES = ["tiny_bert", "tiny_roberta", "tiny_electra"]


def load(folder: Path, attention: str = "causal", **keys: Any) -> Any:
    section = ModelSection(name_or_path=str(folder), attention=attention, **keys)
    return load_model(section, auto_class=CAUSAL, dtype=torch.float32, device=torch.device("cpu"))


def seen_by(model: Any, mask: torch.Tensor) -> torch.Tensor:
    """bool (T, T): does the output at a row's position change with the token at a column's?"""
    length = mask.shape[1]
    ids = torch.arange(10, 10 + length).unsqueeze(0)
    with torch.no_grad():
        before = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[0]
        changes = []
        for position in range(length):
            other = ids.clone()
            other[0, position] += 100
            after = model(input_ids=other, attention_mask=mask, use_cache=False).logits[0]
            changes.append((after - before).abs().amax(1) > 1e-6)
    return torch.stack(changes, 1)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
def test_a_prompt_sees_itself_both_ways_and_an_answer_its_left(
    family: str, kernel: str, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(family)
    causal = torch.ones(6, 6, dtype=torch.bool).tril()
    prefix = causal.clone()
    prefix[:3, :3] = True
    mask = torch.tensor([[2, 2, 2, 1, 1, 1]])
    model = load(folder, attn_implementation=kernel)
    assert torch.equal(seen_by(model, mask), causal)  # the marks say nothing to a causal model
    model = load(folder, "prefix", attn_implementation=kernel)
    assert torch.equal(seen_by(model, mask), prefix)
    assert torch.equal(seen_by(model, torch.ones_like(mask)), causal)
    ids = torch.arange(10, 16).unsqueeze(0)
    with torch.no_grad():  # the body alone reads the marks as well: a head may be run apart
        alone = model.base_model(input_ids=ids, attention_mask=mask, use_cache=False)[0]
        unmarked = model.base_model(input_ids=ids, attention_mask=mask > 0, use_cache=False)[0]
    assert not torch.allclose(alone[:, :2], unmarked[:, :2], atol=1e-4)


@pytest.mark.parametrize("attention", ["causal", "prefix"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_cache_and_the_other_rows_change_no_token(
    family: str, attention: str, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(family)
    model = load(folder, attention)
    tokenizer = as_decoder(AutoTokenizer.from_pretrained(folder))
    clean_generation_config(model, tokenizer)
    prompts = [[2, 30, 40, 50], [2, 60], [2, 70, 80, 90, 100, 110, 120]]
    options = {"max_new_tokens": 12}
    together = generate_ids(model, tokenizer, prompts, **options)
    assert together == generate_ids(model, tokenizer, prompts, use_cache=False, **options)
    assert together == [
        generate_ids(model, tokenizer, [prompt], **options)[0] for prompt in prompts
    ]
    assert max(map(len, together)) > 3
    greedy = list(prompts[0])
    with torch.no_grad():
        for _ in together[0]:
            mask = torch.ones(1, len(greedy), dtype=torch.int64)
            mask[0, :4] = 2
            logits = model(input_ids=torch.tensor([greedy]), attention_mask=mask).logits
            greedy.append(int(logits[0, -1].argmax()))
    assert greedy[4:] == together[0]


@pytest.mark.usefixtures("slices_logits")
def test_the_head_of_the_masked_language_model_is_kept(tiny_bert: Path) -> None:
    model, new, _ = load_model_with_head(
        ModelSection(name_or_path=str(tiny_bert)),
        auto_class=CAUSAL,
        dtype=torch.float32,
        device=torch.device("cpu"),
    )
    assert new == []
    assert keeps_positions(model)
    assert published_class(model) == "BertLMHeadModel"
    masked = AutoModelForMaskedLM.from_pretrained(tiny_bert)
    weights = masked.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    plain = BertLMHeadModel.from_pretrained(tiny_bert, is_decoder=True)
    ids = torch.tensor([[2, 30, 40, 50]])
    torch.testing.assert_close(model(input_ids=ids).logits, plain(input_ids=ids).logits)


def test_a_discriminator_gets_a_head_that_is_trained_and_told(tiny_electra: Path) -> None:
    def once(seed: int) -> tuple[Any, list[str], Any]:
        return load_model_with_head(
            ModelSection(name_or_path=str(tiny_electra)),
            auto_class=CAUSAL,
            dtype=torch.float32,
            device=torch.device("cpu"),
            head=HeadOptions(seed=seed),
        )

    model, new, _ = once(7)
    told = head_finding(model, new, HeadOptions(seed=7))
    assert told is not None
    assert "drawn with seed 7" in told.what
    assert new_modules(model, new) == [
        "generator_predictions.LayerNorm",
        "generator_predictions.dense",
    ]
    name = "generator_predictions.dense.weight"
    assert torch.equal(model.state_dict()[name], once(7)[0].state_dict()[name])
    assert not torch.equal(model.state_dict()[name], once(8)[0].state_dict()[name])
    adapted = add_adapter(model, AdapterSection(r=2), "causal_lm", head=new_modules(model, new))
    trained = {name for name, p in adapted.named_parameters() if p.requires_grad}
    assert any("generator_predictions.dense.modules_to_save" in name for name in trained)
    assert not any("word_embeddings" in name or "lm_head" in name for name in trained)


def test_a_weight_that_is_missing_below_the_head_is_still_an_error(
    tiny_bert: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((tiny_bert / name).read_bytes())
    weights = load_file(tiny_bert / "model.safetensors")
    gone = "bert.encoder.layer.1.attention.self.query.weight"
    del weights[gone]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    for auto_class in (CAUSAL, "AutoModelForSequenceClassification"):
        with pytest.raises(ModelError, match="lacks 1 of the weights") as caught:
            load_model(
                ModelSection(name_or_path=str(tmp_path)),
                auto_class=auto_class,
                dtype=torch.float32,
                device=torch.device("cpu"),
                head=HeadOptions("classes", ("a", "b")),
            )
        assert gone in caught.value.what


def test_what_was_tuned_as_a_prefix_model_is_opened_as_one(tiny_bert: Path, tmp_path: Path) -> None:
    load(tiny_bert, "prefix").save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["kft_attention"] == "prefix"
    assert is_prefix(load(tmp_path).config)
    assert not is_prefix(load(tiny_bert).config)


def test_prefix_is_for_encoders(tiny_gpt: Path) -> None:
    config = load_config(ModelSection(name_or_path=str(tiny_gpt)))
    with pytest.raises(ModelError, match="reads from left to right"):
        check_architecture(config, CAUSAL, "prefix")
    with pytest.raises(ModelError, match="a word's tag can't depend on what follows"):
        check_architecture(config, "AutoModelForTokenClassification")
    with pytest.raises(ModelError, match="no masked language model"):
        check_architecture(config, "AutoModelForMaskedLM")


def test_roberta_has_fewer_positions_than_embeddings_of_them(
    tiny_roberta: Path, tiny_bert: Path
) -> None:
    for folder in (tiny_roberta, tiny_bert):
        assert num_positions(load_config(ModelSection(name_or_path=str(folder)))) == 128


def test_new_tokens_of_a_tied_head_with_a_bias_are_refused(tiny_bert: Path) -> None:
    with pytest.raises(ModelError, match="has a bias, which peft drops"):
        add_adapter(load(tiny_bert), AdapterSection(r=2), "causal_lm", [499])
