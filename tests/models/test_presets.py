"""The facts about Korean checkpoints: whole, well-formed, and true where that can be computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from kft.data.named_templates import TEMPLATES
from kft.errors import UsageError
from kft.models.preset_memory import count_parameters, linear_shapes, memory_need
from kft.models.presets import (
    FILE,
    TASKS,
    Preset,
    find_preset,
    read_presets,
    recognise,
)
from kft.models.remedies import REMEDIES
from kft.recipe.schema import TaskName

ENCODERS = 25
DECODERS = 31

ENTRY: dict[str, Any] = {
    "name": "one",
    "hub": "some/one",
    "family": "bert",
    "kind": "encoder",
    "commercial": True,
    "lora_targets": ["query"],
    "layers": 12,
}


def test_every_checkpoint_is_there_once() -> None:
    presets = read_presets()
    kinds = [preset.kind for preset in presets]
    assert (kinds.count("encoder"), kinds.count("decoder")) == (ENCODERS, DECODERS)
    assert kinds == sorted(kinds, reverse=True)  # the table shows encoders first
    for preset in presets:
        assert preset.sources, preset.name
        assert preset.lora_targets, preset.name


def test_it_agrees_with_the_recipe_schema() -> None:
    for preset in read_presets():
        assert preset.template in {*TEMPLATES, "checkpoint"}, preset.name
        assert set(preset.remedies) <= REMEDIES, preset.name
    assert set(get_args(TaskName)) <= {task for tasks in TASKS.values() for task in tasks}


def test_a_licence_that_forbids_commercial_use_is_known_to() -> None:
    forbidding = [p for p in read_presets() if p.licence and "NC" in p.licence.split(";")[0]]
    assert len(forbidding) >= 8
    assert {preset.commercial for preset in forbidding} == {False}
    assert {p.commercial for p in read_presets() if p.licence is None} == {None}


def planted(tmp_path: Path, *entries: Any) -> Path:
    path = tmp_path / "presets.yaml"
    path.write_text(yaml.safe_dump(list(entries)), encoding="utf-8")
    return path


def test_a_right_entry_is_read(tmp_path: Path) -> None:
    (preset,) = read_presets(planted(tmp_path, {**ENTRY, "parameters": "1.3B"}))
    assert (preset.layers, preset.parameters, preset.commercial) == (12, 1_300_000_000, True)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"layer": 12}, "unknown field `layer`"),
        ({"layers": "12"}, "`layers` can't be '12'"),
        ({"layers": True}, "`layers` can't be True"),
        ({"kind": "both"}, "`kind` can't be 'both'"),
        ({"commercial": "maybe"}, "`commercial` can't be 'maybe'"),
        ({"lora_targets": [30, "pieces"]}, "`lora_targets` can't be"),
        ({"special_tokens": {"end": "</s>"}}, "`special_tokens` can't be"),
        ({"parameters": "125"}, "`parameters` can't be"),
        ({"unverified": ["context"]}, "`context` is unverified and not given"),
        ({"name": None}, "with a name"),
    ],
)
def test_a_planted_fault_is_caught(tmp_path: Path, fault: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_presets(planted(tmp_path, {**ENTRY, **fault}))


@pytest.mark.parametrize("missing", ["hub", "family", "kind", "commercial", "lora_targets"])
def test_a_missing_field_is_caught(tmp_path: Path, missing: str) -> None:
    entry = {key: value for key, value in ENTRY.items() if key != missing}
    with pytest.raises(ValueError, match=f"`{missing}` is missing"):
        read_presets(planted(tmp_path, entry))


def test_a_name_twice_is_caught(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`one` is there twice"):
        read_presets(planted(tmp_path, ENTRY, {**ENTRY, "hub": "other/one", "name": "One"}))


@pytest.mark.parametrize("name", ["kogpt2", "skt/kogpt2-base-v2", "kogpt2-base-v2", "KoGPT2"])
def test_a_preset_is_found_by_each_of_its_names(name: str) -> None:
    assert find_preset(name).name == "kogpt2"


def test_a_misspelt_name_gets_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        find_preset("kcbret-base")
    assert caught.value.hint == "Did you mean `kcbert-base`?"


def test_a_checkpoint_is_recognised_by_its_sizes() -> None:
    sizes = {"model_type": "gpt2", "vocab_size": 51200, "n_embd": 768, "n_layer": 12}
    found = recognise("somewhere/mine", sizes)
    assert found is not None
    assert found.name == "kogpt2"
    assert recognise("somewhere/mine", {**sizes, "n_layer": 6}) is None
    assert recognise("somewhere/mine", {}) is None


# Published counts (polyglot's cards) and those of transformers' own modules.
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("polyglot-ko-1.3b", 1_331_810_304),
        ("polyglot-ko-5.8b", 5_885_059_072),
        ("polyglot-ko-12.8b", 12_898_631_680),
    ],
)
def test_sizes_add_up_to_the_published_count(name: str, parameters: int) -> None:
    counted = count_parameters(find_preset(name))
    assert counted == pytest.approx(parameters, rel=1e-3)


def test_memory_is_what_the_formula_says() -> None:
    preset = find_preset("kogpt2")
    assert linear_shapes(preset) == [
        *[(768, 768)] * 4,
        (768, 3072),
        (3072, 768),
    ]
    blocks = 12 * 12 * 768**2  # = 84,934,656 of the 125 million
    lora, qlora = (memory_need(preset, quantized=quantized) for quantized in (False, True))
    assert lora is not None
    assert qlora is not None
    assert lora.weights == 2 * 125_000_000
    nf4 = 0.5 + (8 / 64 + 32 / 16384) / 8
    assert qlora.weights == pytest.approx(2 * (125_000_000 - blocks) + nf4 * blocks)
    assert lora.adapter == 16 * 12 * 8 * (4 * 1536 + 2 * 3840)
    assert lora.activations == 8 * 512 * (34 * 12 * 768 + 10 * 51200)
    assert lora.total == lora.weights + lora.adapter + lora.activations
    assert lora.with_rows(1) == lora.weights + lora.adapter + lora.activations // 8


def test_unknown_sizes_are_not_made_up() -> None:
    bare = memory_need(find_preset("kanana-1.5-8b"), quantized=False)
    assert bare is not None
    assert (bare.total, bare.is_whole) == (16_000_000_000, False)
    assert memory_need(find_preset("ax-encoder-base"), quantized=False) is None


CONFIGS: dict[str, dict[str, Any]] = {
    "distilbert": {"dim": 16, "n_heads": 2, "hidden_dim": 32, "n_layers": 2},
    "modernbert": {"pad_token_id": 0},
    "gpt2": {"n_embd": 16, "n_head": 2, "n_layer": 2},
    "gptj": {"n_embd": 16, "n_head": 2, "n_layer": 2, "rotary_dim": 4},
}
SMALL = {
    "vocab_size": 40,
    "num_hidden_layers": 2,
    "hidden_size": 16,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "intermediate_size": 32,
}


@pytest.mark.parametrize("family", sorted({p.family for p in read_presets()} - {"exaone"}))
def test_lora_targets_are_every_linear_layer_of_the_blocks(family: str) -> None:
    """On transformers' own modules; EXAONE 3's are remote code."""
    import torch
    from transformers import AutoConfig, AutoModel
    from transformers.pytorch_utils import Conv1D

    own = CONFIGS.get(family, {})
    sizes = own if family in {"distilbert", "gpt2", "gptj"} else {**SMALL, **own}
    config = AutoConfig.for_model(family, **sizes)
    with torch.device("meta"):
        model = AutoModel.from_config(config)
    linear = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D)
        and any(p.isdigit() for p in name.split("."))
    ]
    targets = {t for p in read_presets() if p.family == family for t in p.lora_targets}
    ends = {target: sum(name.endswith(f".{target}") for name in linear) for target in targets}
    assert linear
    assert 0 not in ends.values(), ends
    hit = [name for name in linear if any(name.endswith(f".{target}") for target in targets)]
    assert hit == linear


def test_the_file_is_the_one_that_is_shipped() -> None:
    assert FILE.parent.name == "models"
    assert isinstance(read_presets()[0], Preset)
