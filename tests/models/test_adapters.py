"""Where LoRA attaches, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from kft.errors import ModelError
from kft.models.adapters import add_adapter, count_parameters
from kft.models.loader import load_model
from kft.models.logits import keeps_positions
from kft.models.target_modules import target_modules
from kft.recipe.schema import AdapterSection, ModelSection
from kft.tasks.causal_lm import CausalLM
from kft.tasks.task import Example


def load(folder: Path, **keys: Any) -> Any:
    return load_model(
        ModelSection(name_or_path=str(folder), **keys),
        auto_class="AutoModelForCausalLM",
        dtype=torch.float32,
        device=torch.device("cpu"),
    )


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("tiny_gpt", ["c_attn", "c_fc", "c_proj"]),
        (
            "tiny_llama",
            ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"],
        ),
        ("tiny_neox", ["dense", "dense_4h_to_h", "dense_h_to_4h", "query_key_value"]),
    ],
)
@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_auto_is_every_linear_layer_of_the_blocks(
    family: str, expected: list[str], quantization: str, request: pytest.FixtureRequest
) -> None:
    model = load(request.getfixturevalue(family), quantization=quantization)
    assert target_modules(model, AdapterSection()) == expected
    adapted = add_adapter(model, AdapterSection(r=2), "causal_lm")
    trained = {name for name, p in adapted.named_parameters() if p.requires_grad}
    assert len(trained) == 2 * 2 * len(expected) + (4 if family == "tiny_gpt" else 0)
    assert all("lora_" in name for name in trained)  # GPT-2 has two c_proj in a block
    assert all(p.dtype == torch.float32 for p in adapted.parameters() if p.requires_grad)


def test_names_regular_expressions_and_all_linear(tiny_gpt: Path) -> None:
    model = load(tiny_gpt)
    assert target_modules(model, AdapterSection(target_modules=["c_attn"])) == ["c_attn"]
    pattern = r".*\.h\.0\..*c_proj"
    assert target_modules(model, AdapterSection(target_modules=pattern)) == pattern
    assert target_modules(model, AdapterSection(target_modules="all-linear")) == "all-linear"


def test_an_unknown_module_is_answered_with_the_names_there_are(tiny_gpt: Path) -> None:
    with pytest.raises(ModelError) as caught:
        target_modules(load(tiny_gpt), AdapterSection(target_modules=["c_atn"]))
    assert str(caught.value) == (
        "error: No layer of `gpt2` matches `c_atn`\n"
        "  --> `adapter.target_modules`\n"
        "  expected: names among `c_attn`, `c_fc`, `c_proj`, `lm_head`\n"
        "\n"
        "hint: Did you mean `c_attn`?"
    )


@pytest.mark.parametrize(
    ("family", "target", "meant"),
    [
        ("tiny_gpt", "q_proj", "c_attn"),
        ("tiny_llama", "c_fc", "gate_proj"),
        ("tiny_bert", "q_proj", "query"),
        ("tiny_bert", "v_proj", "value"),
        ("tiny_llama", "key", "k_proj"),
    ],
)
def test_the_name_of_another_family_is_understood(
    family: str, target: str, meant: str, request: pytest.FixtureRequest
) -> None:
    model = load(request.getfixturevalue(family))
    with pytest.raises(ModelError) as caught:
        target_modules(model, AdapterSection(target_modules=[target]))
    assert caught.value.hint == f"Did you mean `{meant}`?"


def test_a_rank_above_the_layer_is_refused(tiny_gpt: Path) -> None:
    with pytest.raises(ModelError, match="larger than the layer") as caught:
        target_modules(load(tiny_gpt), AdapterSection(r=33))
    assert caught.value.expected == "at most 32, the layer's smaller side"


def test_full_trains_every_weight_in_float32(tiny_gpt: Path) -> None:
    model = add_adapter(load(tiny_gpt).bfloat16(), AdapterSection(method="full"), "causal_lm")
    trained, total = count_parameters(model)
    assert trained == total
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


def test_a_4_bit_weight_counts_as_its_elements(tiny_llama: Path) -> None:
    assert (
        count_parameters(load(tiny_llama, quantization="nf4"))[1]
        == (count_parameters(load(tiny_llama))[1])
    )


@pytest.mark.usefixtures("slices_logits")
def test_positions_without_a_target_never_reach_the_head(tiny_llama: Path) -> None:
    model = load(tiny_llama)
    assert keeps_positions(model)
    seen: list[int] = []
    model.lm_head.register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0].shape[:-1]))
    examples = [
        Example([5, 6, 7, 8, 9], [-100, -100, -100, 8, 9], "a", "가"),
        Example([5, 6, 7], [-100, -100, 7], "b", "나"),
    ]
    batch = CausalLM().collate(examples, 3)
    fast = CausalLM().with_loss(model, logits_from="positions")
    slow = CausalLM().with_loss(model, logits_from="everywhere")
    torch.testing.assert_close(fast(batch).total, slow(batch).total)
    torch.testing.assert_close(fast.row_losses(batch).total, slow.row_losses(batch).total)
    assert int(fast(batch).count) == 3
    assert seen[0] == torch.Size([3])
    assert seen[1] == torch.Size([2, 5])


@pytest.mark.usefixtures("slices_logits")
def test_padding_changes_no_row(tiny_gpt: Path) -> None:
    module = CausalLM().with_loss(load(tiny_gpt), logits_from="positions")
    examples = [
        Example(list(range(10, 10 + n)), list(range(10, 10 + n)), "a", "가") for n in (3, 9, 5)
    ]
    together = module.row_losses(CausalLM().collate(examples, 3))
    for row, example in enumerate(examples):
        alone = module.row_losses(CausalLM().collate([example], 3))
        torch.testing.assert_close(together.total[row], alone.total[0], atol=1e-5, rtol=1e-5)
        assert together.count[row] == alone.count[0] == example.num_targets
