"""What is said to be kept for the backward pass, against what autograd saves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig

from kft.models.activations import fuse_activations
from kft.models.adapters import add_adapter
from kft.models.architecture import skeleton
from kft.models.attention import use_document_attention
from kft.models.kept import Ways
from kft.models.sizes import ModelSizes, model_sizes
from kft.ops.attention import Documents
from kft.recipe.schema import AdapterSection, ModelSection
from kft.tasks.inputs import model_inputs, plain_model
from kft.tasks.task import Batch

LENGTHS = (24, 16)
CLASSES = {"tiny_bert": "AutoModelForMaskedLM", "tiny_electra": "AutoModelForMaskedLM"}


def saved_numbers(model: Any, *, unpadded: bool) -> int:
    """float32 numbers in the arrays that one forward of the body saves, parameters apart."""
    parameters = {one.untyped_storage().data_ptr() for one in model.parameters()}
    found: dict[int, tuple[int, Any]] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            found[storage.data_ptr()] = (storage.nbytes(), storage)
        return tensor

    lengths = LENGTHS if unpadded else (sum(LENGTHS),)
    batch = Batch(
        input_ids=torch.arange(sum(lengths)).unsqueeze(0) % 90 + 5,
        labels=torch.zeros(0),
        attention_mask=None,
        position_ids=torch.cat([torch.arange(one) for one in lengths]).unsqueeze(0),
        num_tokens=sum(lengths),
        num_counted=0,
        documents=Documents(lengths) if unpadded else None,
    )
    plain = plain_model(model)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        hidden = getattr(plain, plain.base_model_prefix)(**model_inputs(plain, batch))
    assert hidden.last_hidden_state.requires_grad
    return sum(size for size, _ in found.values()) // 4


def counted(
    folder: Path, name: str, section: AdapterSection, blocks: int, *, fast: bool
) -> tuple[ModelSizes, Any]:
    """A model of so many blocks, in numbers and as it is trained."""
    config = AutoConfig.from_pretrained(folder)
    config.num_hidden_layers = blocks
    for key in ("attn_pdrop", "resid_pdrop", "embd_pdrop", "hidden_dropout_prob",
                "attention_probs_dropout_prob"):  # fmt: skip
        if hasattr(config, key):
            setattr(config, key, 0.0)
    auto_class = CLASSES.get(name, "AutoModelForCausalLM")
    import transformers

    model = getattr(transformers, auto_class).from_config(config, dtype=torch.float32)
    if fast:
        assert use_document_attention(model)
        fuse_activations(model)
    task = "masked_lm" if name in CLASSES else "causal_lm"
    model = add_adapter(model, section, task, fast=fast).train()
    bare = skeleton(config, ModelSection(name_or_path=str(folder)), auto_class)
    ways = Ways(fast=fast, unpadded=fast)
    return model_sizes(bare, section, ways, quantized=False, head_is_cut=True), model


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("name", ["tiny_gpt", "tiny_llama", "tiny_neox", "tiny_bert"])
def test_a_block_keeps_what_is_said(
    name: str, method: Any, fast: bool, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(name)
    section = AdapterSection(method=method, r=4)
    sizes, two = counted(folder, name, section, 2, fast=fast)
    _, three = counted(folder, name, section, 3, fast=fast)
    measured = saved_numbers(three, unpadded=fast) - saved_numbers(two, unpadded=fast)
    kept = sizes.blocks[-1]
    assert measured / sum(LENGTHS) == kept.computed + kept.stream + kept.float32
    trained = [one.numel() for one in two.parameters() if one.requires_grad]
    frozen = [one.numel() for one in two.parameters() if not one.requires_grad]
    assert (sizes.trained, sizes.frozen) == (sum(trained), sum(frozen))


def test_a_block_of_gpt2_by_hand(tiny_gpt: Path) -> None:
    sizes, _ = counted(tiny_gpt, "tiny_gpt", AdapterSection(r=4), 2, fast=True)
    kept = sizes.blocks[0]
    # Inputs of c_attn, c_proj, c_fc (D each) and the second c_proj (4 D), four (N, r);
    # query, key, value and output; GELU's input (4 D). Norms' inputs. Four heads, two norms.
    assert kept.computed == 32 * (3 + 4) + 4 * 4 + 32 * 4 + 32 * 4
    assert kept.stream == 2 * 32
    assert kept.float32 == 4 + 2 * 2
    assert sizes.trained == 2 * 4 * ((32 + 96) + (32 + 32) + (32 + 128) + (128 + 32))


def test_quantized_layers_are_those_of_the_blocks(tiny_gpt: Path) -> None:
    config = AutoConfig.from_pretrained(tiny_gpt)
    bare = skeleton(config, ModelSection(name_or_path=str(tiny_gpt)), "AutoModelForCausalLM")
    sizes = model_sizes(bare, AdapterSection(r=4), Ways(), quantized=True, head_is_cut=True)
    assert sizes.quantized == 2 * 12 * 32 * 32
