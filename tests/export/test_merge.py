"""Base + adapter as one plain checkpoint: every kind of adapter, base and embedding."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from kft.errors import ExportError
from kft.export.dequantize import dequantized_weight, is_quantized
from kft.export.differences import as_reference, measure
from kft.export.merge import merge_adapter, plain_base, save_merged
from kft.export.places import discard, publish, require_replaceable
from kft.models.loader import load_model
from kft.models.vocabulary import fit_vocabulary
from kft.recipe.schema import ModelSection
from kft.tasks.task import Batch

AUTO = "AutoModelForCausalLM"
Trained = Callable[..., Any]
ADAPTERS: dict[str, dict[str, Any]] = {
    "lora": {},
    "dora": {"use_dora": True},
    "rslora_and_biases": {"use_rslora": True, "bias": "all", "target_modules": "all-linear"},
}
MODELS: dict[str, tuple[dict[str, Any], str]] = {
    "nf4": ({"quantization": "nf4"}, "float32"),
    "nf4_single": ({"quantization": "nf4", "double_quant": False}, "float32"),
    "nf4_bfloat16": ({"quantization": "nf4"}, "bfloat16"),
    "fp4": ({"quantization": "fp4"}, "float32"),
    "int8": ({"quantization": "int8"}, "float32"),
    "int8_bfloat16": ({"quantization": "int8"}, "bfloat16"),
}


def merged_folder(run: Any, folder: Path, *, like_trained: bool = True) -> Path:
    base = plain_base(run.section, AUTO, run.base if like_trained else None)
    fit_vocabulary(base, run.tokenizer)
    merged = merge_adapter(base, run.folder)
    return save_merged(merged, run.tokenizer, folder / "merged", torch.float32, "5GB")


def differences(run: Any, part: Path, held_out: list[Any]) -> Any:
    merged = AutoModelForCausalLM.from_pretrained(part, dtype=torch.float32)
    return measure(as_reference(run.reference), merged, held_out)


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("checkpoint", ["tiny_gpt", "tiny_llama", "tiny_neox"])
def test_merged_says_the_same(
    checkpoint: str,
    adapter: str,
    trained: Trained,
    held_out: list[Any],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    run = trained(request.getfixturevalue(checkpoint), ADAPTERS[adapter])
    assert measure(run.reference, run.base, held_out).kl_nats > 1e-3  # the adapter does something
    seen = differences(run, merged_folder(run, tmp_path), held_out)
    assert float(seen.largest) < 3e-5
    assert seen.kl_nats < 1e-10


@pytest.mark.parametrize(
    "model",
    [
        "nf4_bfloat16",
        "fp4",
        "int8",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("nf4", "nf4_single")),
        pytest.param("int8_bfloat16", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("checkpoint", ["tiny_gpt", "tiny_llama"])
def test_quantized_base_is_merged_dequantized(
    checkpoint: str,
    model: str,
    trained: Trained,
    held_out: list[Any],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    section, dtype = MODELS[model]
    run = trained(request.getfixturevalue(checkpoint), model=section, dtype=dtype)
    seen = differences(run, merged_folder(run, tmp_path), held_out)
    assert float(seen.largest) < 3e-5
    assert seen.kl_nats < 1e-10
    usual = differences(run, merged_folder(run, tmp_path, like_trained=False), held_out)
    at_least = 5e-2 if "int8" in model else 1.0
    assert float(usual.largest) > at_least
    assert usual.kl_nats > (5e-5 if "int8" in model else 1e-2)


@pytest.mark.parametrize("quantization", ["nf4", "fp4", "int8"])
def test_dequantized_weight_is_the_one_computed_with(quantization: str, tiny_gpt: Path) -> None:
    section = ModelSection(name_or_path=str(tiny_gpt), quantization=quantization)  # type: ignore[arg-type]
    cpu = torch.device("cpu")
    quantized = as_reference(load_model(section, auto_class=AUTO, dtype=torch.bfloat16, device=cpu))
    plain = plain_base(section, AUTO, quantized)
    layers = {name: layer for name, layer in quantized.named_modules() if is_quantized(layer)}
    assert len(layers) == 8
    for name, layer in layers.items():
        weight = dequantized_weight(layer)  # (outputs, inputs)
        inputs = torch.eye(weight.shape[1])
        torch.testing.assert_close(layer(inputs) - layer.bias, weight.T, rtol=0, atol=1e-5)
        assert torch.equal(plain.get_submodule(name).weight, weight.T)
        torch.testing.assert_close(plain.get_submodule(name)(inputs), layer(inputs))


def test_base_held_in_bfloat16_is_merged_as_held(
    trained: Trained, tiny_llama: Path, held_out: list[Any], tmp_path: Path
) -> None:
    run = trained(tiny_llama, dtype="bfloat16")
    exact = differences(run, merged_folder(run, tmp_path), held_out)
    usual = differences(run, merged_folder(run, tmp_path, like_trained=False), held_out)
    assert float(exact.largest) < 3e-5 < 1e-2 < float(usual.largest)


@pytest.mark.parametrize(
    ("checkpoint", "saved", "stays_tied"),
    [
        ("tiny_gpt", ["wte"], False),  # the head stays as it was
        ("tiny_gpt", ["wte", "lm_head"], True),
        ("tiny_gpt", ["lm_head"], True),  # the embedding is trained with it
        ("tiny_llama", ["embed_tokens", "lm_head"], False),
        ("tiny_neox", ["lm_head"], False),
    ],
)
def test_embedding_and_head_survive(
    checkpoint: str,
    saved: list[str],
    stays_tied: bool,
    trained: Trained,
    held_out: list[Any],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    run = trained(request.getfixturevalue(checkpoint), {"modules_to_save": saved})
    part = merged_folder(run, tmp_path)
    seen = differences(run, part, held_out)
    assert float(seen.largest) < 3e-5
    config = json.loads((part / "config.json").read_text(encoding="utf-8"))
    assert config["tie_word_embeddings"] is stays_tied
    merged = AutoModelForCausalLM.from_pretrained(part)
    embedding, head = merged.get_input_embeddings().weight, merged.get_output_embeddings().weight
    assert (embedding is head) is stays_tied
    assert torch.equal(embedding, head) is stays_tied


@pytest.mark.parametrize("model", [{}, {"quantization": "nf4"}], ids=["plain", "nf4"])
@pytest.mark.parametrize("checkpoint", ["tiny_gpt", "tiny_llama"])
def test_new_tokens_survive(
    checkpoint: str,
    model: dict[str, Any],
    trained: Trained,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    run = trained(request.getfixturevalue(checkpoint), model=model, new_tokens=("ㅋㅋ", "<|끝|>"))
    ids = run.tokenizer("안녕 ㅋㅋ 그래 <|끝|>").input_ids
    assert {500, 501} <= set(ids)
    row = torch.tensor([ids])
    batch = Batch(row, row, None, None, len(ids), len(ids) - 1)
    part = merged_folder(run, tmp_path)
    assert float(differences(run, part, [batch]).largest) < 3e-5
    merged = AutoModelForCausalLM.from_pretrained(part)
    assert merged.config.vocab_size == 502
    assert merged.get_input_embeddings().weight.shape[0] == 502
    reloaded = AutoTokenizer.from_pretrained(part)
    assert reloaded("안녕 ㅋㅋ 그래 <|끝|>").input_ids == ids
    trained_rows = merged.get_input_embeddings().weight[500:]
    assert not torch.equal(trained_rows[0], trained_rows[1])  # they start as the same mean


ALONE = """
import sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
base, adapter, merged, out = sys.argv[1:]
ids = torch.arange(4, 40)[None]
with torch.no_grad():
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).eval()
    torch.save(model(ids).logits, out + "/adapter.pt")
    model = AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32).eval()
    torch.save(model(ids).logits, out + "/merged.pt")
assert not any(name == "kft" or name.startswith("kft.") for name in sys.modules)
"""


@pytest.mark.slow  # tests/api/test_finetune.py does the same with a whole run
def test_both_load_without_kft(trained: Trained, tiny_gpt: Path, tmp_path: Path) -> None:
    run = trained(tiny_gpt)
    part = merged_folder(run, tmp_path)
    arguments = [str(tiny_gpt), str(run.folder), str(part), str(tmp_path)]
    subprocess.run(
        [sys.executable, "-c", ALONE, *arguments], check=True, capture_output=True, cwd=tmp_path
    )
    with torch.no_grad():
        expected = run.reference(torch.arange(4, 40)[None]).logits
    for name in ("adapter", "merged"):
        got = torch.load(tmp_path / f"{name}.pt", weights_only=True)
        torch.testing.assert_close(got, expected, rtol=0, atol=3e-5)


def test_saved_folder_is_plain(trained: Trained, tiny_gpt: Path, tmp_path: Path) -> None:
    run = trained(tiny_gpt, model={"quantization": "nf4"})
    merged = merge_adapter(plain_base(run.section, AUTO, run.base), run.folder)
    merged.generation_config.temperature = 0.7  # yet greedy: transformers would refuse to save it
    merged.generation_config.top_k = 5
    run.tokenizer.chat_template = "{{ messages[0].content }}"
    before = {name: value.clone() for name, value in merged.state_dict().items()}
    part = save_merged(merged, run.tokenizer, tmp_path / "merged", torch.bfloat16, "40KB")
    assert part == tmp_path / "merged.part"
    assert not (tmp_path / "merged").exists()
    config = json.loads((part / "config.json").read_text(encoding="utf-8"))
    assert config["dtype"] == "bfloat16"
    assert config["architectures"] == ["GPT2LMHeadModel"]
    assert "quantization_config" not in config
    generation = json.loads((part / "generation_config.json").read_text(encoding="utf-8"))
    assert "temperature" not in generation
    assert "top_k" not in generation
    assert len(list(part.glob("model-*.safetensors"))) > 1
    assert AutoTokenizer.from_pretrained(part).chat_template == run.tokenizer.chat_template
    loaded = AutoModelForCausalLM.from_pretrained(part, dtype="auto")
    assert loaded.dtype == torch.bfloat16
    for name, value in merged.state_dict().items():
        assert torch.equal(value, before[name])  # what is saved is cast, not the model
        assert torch.equal(value.bfloat16(), loaded.state_dict()[name])


def test_nothing_half_written_is_left(trained: Trained, tiny_gpt: Path, tmp_path: Path) -> None:
    run = trained(tiny_gpt)
    merged = merge_adapter(plain_base(run.section, AUTO), run.folder)

    class FullDisk:
        def save_pretrained(self, _: Path) -> None:
            raise OSError(28, "No space left on device")

    with pytest.raises(ExportError, match="No space left"):
        save_merged(merged, FullDisk(), tmp_path / "merged", torch.float32, "5GB")
    merged.transformer.h[0].mlp.c_fc.weight.data[0, 0] = 1e5
    with pytest.raises(ExportError, match="too large for float16") as caught:
        save_merged(merged, run.tokenizer, tmp_path / "merged", torch.float16, "5GB")
    assert caught.value.where == "`transformer.h.0.mlp.c_fc.weight`"
    assert sorted(path.name for path in tmp_path.glob("merged*")) == []


def test_adapter_with_holes_or_nan_is_refused(trained: Trained, tiny_gpt: Path) -> None:
    run = trained(tiny_gpt)
    path = run.folder / "adapter_model.safetensors"
    weights = load_file(path)
    name = min(name for name in weights if "lora_B" in name)
    save_file({key: value for key, value in weights.items() if key != name}, path)
    with pytest.raises(ExportError, match="missing adapter keys"):
        merge_adapter(plain_base(run.section, AUTO), run.folder)
    save_file({**weights, name: weights[name] * torch.nan}, path)
    with pytest.raises(ExportError, match="NaNs detected"):
        merge_adapter(plain_base(run.section, AUTO), run.folder)


def test_base_of_another_checkpoint_is_refused(tiny_gpt: Path, tiny_llama: Path) -> None:
    section = ModelSection(name_or_path=str(tiny_gpt))
    other = AutoModelForCausalLM.from_pretrained(tiny_llama)
    with pytest.raises(ExportError, match="other layers"):
        plain_base(section, AUTO, other)


def test_publish_replaces_only_its_own(tmp_path: Path) -> None:
    part, final = tmp_path / "merged.part", tmp_path / "run" / "merged"
    part.mkdir()
    (part / "verification.json").write_text("1")
    publish(part, final)
    assert (final / "verification.json").read_text() == "1"
    assert not part.exists()
    part.mkdir()
    (part / "verification.json").write_text("2")
    publish(part, final)
    assert (final / "verification.json").read_text() == "2"
    discard(part)  # isn't there: nothing happens
    mine = tmp_path / "thesis"
    mine.mkdir()
    require_replaceable(mine)
    (mine / "chapter.txt").write_text("text")
    with pytest.raises(ExportError, match="has not written"):
        require_replaceable(mine)
    with pytest.raises(ExportError, match="has not written"):
        require_replaceable(mine / "chapter.txt")


def test_vocabulary_is_fitted_only_where_it_must(tiny_llama: Path, tiny_gpt: Path) -> None:
    for checkpoint, is_tied in ((tiny_gpt, True), (tiny_llama, False)):
        model = AutoModelForCausalLM.from_pretrained(checkpoint)
        tokenizer = AutoTokenizer.from_pretrained(checkpoint)
        before = model.get_input_embeddings().weight.clone()
        head = model.get_output_embeddings().weight.clone()
        assert fit_vocabulary(model, tokenizer) == []
        tokenizer.add_tokens(["ㅋㅋ", "ㅠㅠ"])
        assert fit_vocabulary(model, tokenizer) == [500, 501]
        after, new_head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
        assert (after is new_head) is is_tied
        assert torch.equal(after[:500], before)
        torch.testing.assert_close(after[500:], before.mean(0).expand(2, -1))
        torch.testing.assert_close(new_head[500:], head.mean(0).expand(2, -1))
        model.resize_token_embeddings(512, mean_resizing=False)  # padded, as Polyglot-Ko's is
        assert fit_vocabulary(model, tokenizer) == []
        assert model.get_input_embeddings().weight.shape[0] == 512
