"""Fast paths on whole models: used where they change nothing, left out where they would."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

from kft.models import attention
from kft.models.activations import FusedGELU, fuse_activations
from kft.models.adapters import add_adapter, attach_adapter
from kft.models.attention import keeps_documents_apart, use_document_attention
from kft.models.logits import logits_from
from kft.models.lora_layers import FastLoraLinear, plain_adapter
from kft.ops.attention import NAME
from kft.recipe.schema import AdapterSection

IDS = torch.arange(5, 17).reshape(2, 6)
FAMILIES = ["tiny_gpt", "tiny_llama", "tiny_neox", "tiny_bert", "tiny_roberta", "tiny_electra"]


def load(folder: Path) -> Any:
    kind = transformers.AutoConfig.from_pretrained(folder).model_type
    is_encoder = kind in ("bert", "roberta", "electra")
    auto = AutoModelForMaskedLM if is_encoder else AutoModelForCausalLM
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return auto.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.fixture(params=FAMILIES)
def folder(request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue(request.param)
    return found


def test_models_of_every_family_attend_document_by_document(folder: Path) -> None:
    model = load(folder)
    mask = torch.tensor([[1] * 6, [1] * 4 + [0] * 2])
    before = model(input_ids=IDS, attention_mask=mask).logits
    assert use_document_attention(model)
    assert model.config._attn_implementation == NAME
    after = model(input_ids=IDS, attention_mask=mask).logits  # padded rows are as before
    torch.testing.assert_close(after[0], before[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(after[1, :4], before[1, :4], atol=1e-5, rtol=1e-4)
    model.save_pretrained(folder.parent / f"{folder.name}-saved")
    saved = json.loads((folder.parent / f"{folder.name}-saved" / "config.json").read_text())
    assert NAME not in json.dumps(saved)


def test_an_attention_that_leaks_is_not_used(
    tiny_gpt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leaks(query: Any, key: Any, value: Any, documents: Any, kind: Any) -> Any:
        whole = attention.Documents((sum(documents.lengths),))
        return right(query, key, value, whole, kind)

    right = attention.attend_documents
    monkeypatch.setattr(attention, "attend_documents", leaks)
    model = load(tiny_gpt)
    assert not use_document_attention(model)
    assert model.config._attn_implementation == "sdpa"


def test_an_attention_that_is_wrong_within_a_document_is_not_used(
    tiny_gpt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = attention.attend_documents
    monkeypatch.setattr(attention, "attend_documents", lambda *some: 1.01 * right(*some))
    assert not use_document_attention(load(tiny_gpt))


def test_a_model_with_positions_of_its_own_keeps_nothing_apart() -> None:
    config = transformers.BloomConfig(vocab_size=50, hidden_size=16, n_layer=1, n_head=2)
    model = AutoModelForCausalLM.from_config(config).eval()
    assert not use_document_attention(model)
    assert not keeps_documents_apart(model)


def test_with_a_mask_documents_are_kept_apart_too(folder: Path) -> None:
    assert keeps_documents_apart(load(folder))


def test_the_head_is_cut_off_where_that_changes_nothing(folder: Path) -> None:
    assert logits_from(load(folder)) == "hidden"
    assert logits_from(load(folder), fast=False) in ("positions", "everywhere")


@pytest.mark.usefixtures("slices_logits")
def test_a_head_that_caps_its_logits_is_not_cut_off() -> None:
    config = transformers.Gemma2Config(
        vocab_size=50, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, head_dim=8, final_logit_softcapping=0.1,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config).eval()
    assert logits_from(model) == "positions"


def test_composed_gelus_become_one_operation_that_agrees_to_rounding(tiny_gpt: Path) -> None:
    model = load(tiny_gpt)
    before = model(input_ids=IDS).logits
    assert fuse_activations(model) == 2
    torch.testing.assert_close(model(input_ids=IDS).logits, before, atol=1e-5, rtol=1e-4)
    x = torch.linspace(-6, 6, 101, dtype=torch.float64)
    composed = 0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3)))
    torch.testing.assert_close(FusedGELU()(x), composed)


def test_an_exact_gelu_is_left_alone(tiny_bert: Path) -> None:
    assert fuse_activations(load(tiny_bert)) == 0


SECTIONS = {
    "lora": (AdapterSection(r=4), True),
    "rslora": (AdapterSection(r=4, use_rslora=True), True),
    "dora": (AdapterSection(r=4, use_dora=True), False),
    "dropout": (AdapterSection(r=4, lora_dropout=0.5), False),
    "bias": (AdapterSection(r=4, bias="all"), False),
}


@pytest.mark.parametrize("name", SECTIONS)
@pytest.mark.parametrize("family", ["tiny_gpt", "tiny_llama", "tiny_bert"])
def test_an_adapter_is_pefts_forwards_backwards_and_saved(
    name: str, family: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder = request.getfixturevalue(family)
    section, is_fast = SECTIONS[name]
    task = "masked_lm" if family == "tiny_bert" else "causal_lm"
    models = []
    for fast in (True, False):
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(5)
            model = add_adapter(load(folder), section, task, fast=fast).train()
            generator = torch.Generator().manual_seed(6)
            for parameter in model.parameters():
                if parameter.requires_grad:
                    noise = torch.randn(parameter.shape, generator=generator)
                    parameter.data.add_(0.1 * noise)
        models.append(model)
    layers = [layer for layer in models[0].modules() if isinstance(layer, FastLoraLinear)]
    assert layers
    is_fast = is_fast or (name == "bias" and family == "tiny_llama")  # which has no biases
    assert all((plain_adapter(layer) is not None) == is_fast for layer in layers)
    outputs, gradients = [], []
    for model in models:
        torch.manual_seed(7)  # for the dropout
        logits = model(input_ids=IDS).logits
        outputs.append(logits.detach())
        logits.square().mean().backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.requires_grad})
    torch.testing.assert_close(*outputs, atol=1e-5, rtol=1e-4)
    assert gradients[0].keys() == gradients[1].keys()
    for key, value in gradients[0].items():
        torch.testing.assert_close(value, gradients[1][key], atol=1e-6, rtol=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for place, model in zip(("fast", "plain"), models, strict=True):
            model.save_pretrained(tmp_path / place)
    files = [(tmp_path / place / "adapter_config.json").read_text() for place in ("fast", "plain")]
    assert files[0] == files[1]
    again = attach_adapter(load(folder), tmp_path / "fast", is_trainable=True, fast=True)
    models[0].eval()
    again.eval()
    torch.testing.assert_close(again(input_ids=IDS).logits, models[0](input_ids=IDS).logits)
    if name != "bias":  # trained biases stay
        with models[0].disable_adapter():
            off = models[0](input_ids=IDS).logits
        torch.testing.assert_close(off, load(folder)(input_ids=IDS).logits)


def test_peft_itself_still_makes_its_own_layers(tiny_gpt: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = get_peft_model(load(tiny_gpt), LoraConfig(r=2, target_modules=["c_attn"]))
    assert not [layer for layer in model.modules() if isinstance(layer, FastLoraLinear)]
