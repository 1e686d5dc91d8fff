"""Checkpoints with weights that the model has no place for: told by name, or refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file, save_file

import kft
from kft.api.observer import Silent
from kft.errors import Finding, ModelError
from kft.models.heads import HeadOptions
from kft.models.loader import load_model_with_head
from kft.recipe.schema import ModelSection

if TYPE_CHECKING:
    from conftest import RecipeFile

SEQUENCE = "AutoModelForSequenceClassification"
CAUSAL = "AutoModelForCausalLM"
MASKED = "AutoModelForMaskedLM"
ONE = torch.ones(4)


def planted(
    checkpoint: Path, folder: Path, more: Mapping[str, torch.Tensor], cut: str = ""
) -> Path:
    """A copy of a checkpoint with more weights, the prefix `cut` taken off all names."""
    shutil.copytree(checkpoint, folder)
    weights = load_file(folder / "model.safetensors") | dict(more)
    weights = {name.removeprefix(cut): value.clone() for name, value in weights.items()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def findings_of(folder: Path, auto_class: str) -> list[Finding]:
    return load_model_with_head(
        ModelSection(name_or_path=str(folder)),
        auto_class=auto_class,
        dtype=torch.float32,
        device=torch.device("cpu"),
        head=HeadOptions("classes", ("a", "b")) if auto_class == SEQUENCE else None,
    )[2]


def test_a_checkpoint_of_its_own_architecture_has_nothing_to_tell(
    tiny_gpt: Path, tiny_bert: Path
) -> None:
    assert findings_of(tiny_gpt, CAUSAL) == []
    assert findings_of(tiny_bert, MASKED) == []
    assert findings_of(tiny_bert, CAUSAL) == []


@pytest.mark.parametrize("auto_class", [SEQUENCE, CAUSAL, MASKED])
def test_heads_of_pretraining_are_a_note_with_their_names(
    auto_class: str, tiny_bert: Path, tmp_path: Path
) -> None:
    pooler = {
        "bert.pooler.dense.weight": torch.zeros(32, 32),
        "bert.pooler.dense.bias": torch.zeros(32),
    }
    next_sentence = {
        "cls.seq_relationship.weight": torch.zeros(2, 32),
        "cls.seq_relationship.bias": torch.zeros(2),
    }
    ids = {"bert.embeddings.position_ids": torch.arange(128)[None]}
    folder = planted(tiny_bert, tmp_path / "bert", pooler | next_sentence | ids)
    (told,) = findings_of(folder, auto_class)
    assert told.severity == "note"
    assert "`cls." in told.what
    assert ("pooler" in told.what) == (auto_class != SEQUENCE)
    assert ("cls.predictions" in told.what) == (auto_class == SEQUENCE)


def test_buffers_of_older_versions_are_no_news(tiny_gpt: Path, tmp_path: Path) -> None:
    mask = torch.ones(1, 1, 8, 8)
    old = {"transformer.h.0.attn.bias": mask, "transformer.h.0.attn.masked_bias": ONE[:1]}
    (told,) = findings_of(planted(tiny_gpt, tmp_path / "gpt", old), CAUSAL)
    assert told.severity == "note"
    assert "attn.masked_bias" in told.what


def test_another_part_beside_the_body_is_a_warning(tiny_llama: Path, tmp_path: Path) -> None:
    folder = planted(tiny_llama, tmp_path / "llama", {"vision_tower.patch.weight": ONE})
    (told,) = findings_of(folder, CAUSAL)
    assert (told.severity, "`vision_tower.patch.weight`" in told.what) == ("warning", True)


@pytest.mark.parametrize(("auto_class", "cut"), [(SEQUENCE, ""), (SEQUENCE, "bert."), (MASKED, "")])
def test_a_config_with_fewer_layers_than_the_weights_is_refused(
    auto_class: str, cut: str, tiny_bert: Path, tmp_path: Path
) -> None:
    folder = planted(tiny_bert, tmp_path / "bert", {}, cut)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}), "utf-8")
    with pytest.raises(ModelError, match="has 16 weights that `BertFor") as caught:
        findings_of(folder, auto_class)
    assert "encoder.layer.1.attention.output.LayerNorm.bias" in caught.value.what


@pytest.mark.parametrize(
    "name",
    [
        "transformer.h.0.attn.c_attn.lora_A.weight",
        "h.0.attn.c_attn.weight.absmax",
        "base_model.model.transformer.h.0.mlp.c_fc.bias",
    ],
)
def test_what_belongs_inside_is_refused(name: str, tiny_gpt: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no place for") as caught:
        findings_of(planted(tiny_gpt, tmp_path / "gpt", {name: ONE}), CAUSAL)
    assert name.removeprefix("transformer.") in caught.value.what


class Told(Silent):
    def __init__(self) -> None:
        self.findings: list[Finding] = []

    def finding(self, finding: Finding) -> None:
        self.findings.append(finding)


def test_a_run_tells_it(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: list[dict[str, str]], tmp_path: Path
) -> None:
    old = {"transformer.h.0.attn.masked_bias": ONE}
    folder = planted(tiny_gpt, tmp_path / "gpt", old)
    keys = {"train.max_steps": 1, "export.merge": False, "evaluate.generate": 0}
    observer = Told()
    kft.finetune(recipe_file(folder, korean_rows, keys), observer=observer)
    assert any("attn.masked_bias" in told.what for told in observer.findings)
