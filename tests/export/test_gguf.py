"""GGUF: what stands in the file is the model, laid out as llama.cpp reads it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kft.cli.main import run_words
from kft.errors import ExportError, UsageError

if TYPE_CHECKING:
    from conftest import RecipeFile

FAMILIES = ["tiny_gpt", "tiny_llama", "tiny_neox"]
PROMPTS = [{"prompt": "하늘이 " + "높고 " * (at % 3), "completion": "바람이 분다"[: 2 + at % 4]}
           for at in range(20)]  # fmt: skip


def loaded(checkpoint: Path, dtype: str = "float32") -> Any:
    """A checkpoint as what a file is written from."""
    import torch
    from transformers import AutoModelForCausalLM

    return content_of(
        AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32), checkpoint, dtype
    )


def content_of(model: Any, tokenizer: Path, dtype: str = "float32") -> Any:
    from transformers import AutoTokenizer

    from kft.export.gguf_architecture import describe
    from kft.export.gguf_file import Content
    from kft.export.gguf_tokenizer import read_vocabulary

    rows = model.get_input_embeddings().num_embeddings
    vocabulary = read_vocabulary(AutoTokenizer.from_pretrained(tokenizer), rows)
    return Content(model.eval(), describe(model.config), vocabulary, "tiny", dtype)


def tensors_of(path: Path) -> dict[str, Any]:
    """Name -> (kind, values in float32 as the file has them)."""
    import gguf

    return {
        one.name: (one.tensor_type.name, gguf.dequantize(one.data, one.tensor_type))
        for one in gguf.GGUFReader(path).tensors
    }


def interleaved(rows: Any, heads: int) -> Any:
    """Rows of each head, its halves dealt out in turn: what llama.cpp's `llama` wants."""
    import numpy

    out = numpy.empty_like(rows)
    width = len(rows) // heads
    for head in range(heads):
        own = rows[head * width : (head + 1) * width]
        out[head * width : (head + 1) * width : 2] = own[: width // 2]
        out[head * width + 1 : (head + 1) * width : 2] = own[width // 2 :]
    return out


def test_gpt2_is_transposed_and_its_head_left_out(tiny_gpt: Path, tmp_path: Path) -> None:
    import numpy

    from kft.export.gguf_file import write_gguf

    content = loaded(tiny_gpt)
    write_gguf(content, tmp_path / "m.gguf")
    state = {key: value.numpy() for key, value in content.model.state_dict().items()}
    found = tensors_of(tmp_path / "m.gguf")
    assert "output.weight" not in found
    assert len(found) == 2 + 2 * 12 + 2
    for name, key in {
        "token_embd.weight": "transformer.wte.weight",
        "position_embd.weight": "transformer.wpe.weight",
        "blk.1.attn_qkv.bias": "transformer.h.1.attn.c_attn.bias",
        "output_norm.bias": "transformer.ln_f.bias",
    }.items():
        assert numpy.array_equal(found[name][1], state[key]), name
    for name, key in {
        "blk.0.attn_qkv.weight": "transformer.h.0.attn.c_attn.weight",
        "blk.1.attn_output.weight": "transformer.h.1.attn.c_proj.weight",
        "blk.1.ffn_up.weight": "transformer.h.1.mlp.c_fc.weight",
        "blk.0.ffn_down.weight": "transformer.h.0.mlp.c_proj.weight",
    }.items():
        assert numpy.array_equal(found[name][1], state[key].T), name


def test_llama_has_its_rotary_rows_dealt_out(tiny_llama: Path, tmp_path: Path) -> None:
    import numpy

    from kft.export.gguf_file import write_gguf

    content = loaded(tiny_llama, "float16")
    write_gguf(content, tmp_path / "m.gguf")
    state = {key: value.numpy() for key, value in content.model.state_dict().items()}
    found = tensors_of(tmp_path / "m.gguf")
    assert len(found) == 2 * 9 + 3
    for name, heads in {"q": 4, "k": 2}.items():
        kind, values = found[f"blk.1.attn_{name}.weight"]
        wanted = interleaved(state[f"model.layers.1.self_attn.{name}_proj.weight"], heads)
        assert kind == "F16"
        assert numpy.array_equal(values, wanted.astype(numpy.float16).astype(numpy.float32))
    assert found["blk.0.attn_norm.weight"][0] == "F32"
    half = state["lm_head.weight"].astype(numpy.float16).astype(numpy.float32)
    assert numpy.array_equal(found["output.weight"][1], half)


def test_neox_has_all_queries_first(tiny_neox: Path, tmp_path: Path) -> None:
    import numpy

    from kft.export.gguf_file import write_gguf

    content = loaded(tiny_neox)
    write_gguf(content, tmp_path / "m.gguf")
    state = {key: value.numpy() for key, value in content.model.state_dict().items()}
    found = tensors_of(tmp_path / "m.gguf")
    fused = state["gpt_neox.layers.1.attention.query_key_value.weight"]  # 4 heads x 3 x 8 rows
    parts = [
        numpy.concatenate([fused[head * 24 + at * 8 : head * 24 + at * 8 + 8] for head in range(4)])
        for at in range(3)
    ]
    assert numpy.array_equal(found["blk.1.attn_qkv.weight"][1], numpy.concatenate(parts))
    assert numpy.array_equal(found["output.weight"][1], state["lm_head.weight"])


@pytest.mark.parametrize("dtype", ["float32", "float16", "q8_0"])
@pytest.mark.parametrize("name", FAMILIES)
def test_the_file_computes_what_the_model_does(
    name: str, dtype: str, held_out: list[Any], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    from kft.export.gguf_file import verify_gguf, write_gguf

    content = loaded(request.getfixturevalue(name), dtype)
    write_gguf(content, tmp_path / "m.gguf")
    verification, rounding = verify_gguf(content, tmp_path / "m.gguf", held_out)
    assert verification.passed
    assert verification.max_logit_difference < 1e-4
    assert verification.num_rows == 8
    limits = {"float32": 1e-4, "float16": 0.1, "q8_0": 2.0}
    moved = rounding["rounding_max_logit_difference"]
    assert moved < limits[dtype]
    assert (moved > 1e-4) == (dtype != "float32")


def test_a_name_that_llama_cpp_takes_for_another_model(tiny_gpt: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    import gguf

    from kft.export.gguf_file import write_gguf

    for name, told in (("my-Phi3-run", "model"), ("첫 실행", "첫 실행")):
        write_gguf(replace(loaded(tiny_gpt), name=name), tmp_path / "m.gguf")
        field = gguf.GGUFReader(tmp_path / "m.gguf").get_field("general.name")
        assert field is not None
        assert field.contents() == told


@pytest.mark.parametrize("scaling", ["llama3", "linear"])
def test_scaled_positions(
    scaling: str, tiny_tokenizer: Path, held_out: list[Any], tmp_path: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    from kft.export.gguf_file import verify_gguf, write_gguf

    rope = {"rope_type": scaling, "rope_theta": 500.0, "factor": 8.0}
    if scaling == "llama3":
        rope |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0,
                 "original_max_position_embeddings": 16}  # fmt: skip
    config = LlamaConfig(
        vocab_size=512,  # twelve rows without a token
        max_position_embeddings=128,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        attention_bias=True,
        tie_word_embeddings=True,
        initializer_range=0.2,
        rope_parameters=rope,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    content = content_of(model, tiny_tokenizer)
    assert "[PAD499]" not in content.vocabulary.tokens
    assert list(content.vocabulary.tokens[500:502]) == ["[PAD500]", "[PAD501]"]
    path = tmp_path / "m.gguf"
    write_gguf(content, path)
    assert ("rope_freqs.weight" in tensors_of(path)) == (scaling == "llama3")
    assert verify_gguf(content, path, held_out)[0].passed


def test_planted_faults_are_caught(
    held_out: list[Any], tmp_path: Path, request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from dataclasses import replace

    import torch

    from kft.export import gguf_file, gguf_tensors
    from kft.export.gguf_file import verify_gguf, write_gguf

    path = tmp_path / "m.gguf"

    def refused(match: str, content: Any, written: Any = None) -> None:
        write_gguf(written or content, path)
        with pytest.raises(ExportError, match=match):
            verify_gguf(content, path, held_out)

    # A tensor isn't written.
    content = loaded(request.getfixturevalue("tiny_gpt"))
    everything = gguf_file.placed_tensors

    def without(model: Any, architecture: Any) -> Any:
        return (one for one in everything(model, architecture) if "ffn_up.bias" not in one.name)

    with monkeypatch.context() as patched:
        patched.setattr(gguf_file, "placed_tensors", without)
        write_gguf(content, path)
    with pytest.raises(ExportError, match="lacks or adds 2 tensors"):
        verify_gguf(content, path, held_out)

    # A square matrix isn't transposed: no shape tells.
    def turned(model: Any, architecture: Any) -> Any:
        for one in everything(model, architecture):
            is_it = one.name == "blk.1.attn_output.weight"
            yield replace(one, value=one.value.T.contiguous()) if is_it else one

    with monkeypatch.context() as patched:
        patched.setattr(gguf_file, "placed_tensors", turned)
        write_gguf(content, path)
    with pytest.raises(ExportError, match=r"`blk.1.attn_output.weight` and `transformer.h.1.attn"):
        verify_gguf(content, path, held_out)
    # Nor is one that isn't square.
    with monkeypatch.context() as patched:
        patched.setattr(gguf_tensors, "Conv1D", torch.nn.Bilinear)
        write_gguf(content, path)
    with pytest.raises(ExportError, match="has another shape for"):
        verify_gguf(content, path, held_out)
    # Rows stay in transformers' order, on the way there and on the way back: only the logits tell.
    content = loaded(request.getfixturevalue("tiny_llama"))
    plain = replace(content.architecture, pairs_neighbours=False)
    refused("doesn't say what the model says", replace(content, architecture=plain))
    # A size is another one.
    fields = {**content.architecture.fields, "rope.freq_base": 9000.0}
    written = replace(content, architecture=replace(content.architecture, fields=fields))
    refused("doesn't say what the model says", content, written)
    # A token is another one, or the end is; a weight was changed.
    content = loaded(request.getfixturevalue("tiny_neox"), "q8_0")
    tokens = [*content.vocabulary.tokens[:-1], "other"]
    written = replace(content, vocabulary=replace(content.vocabulary, tokens=tokens))
    refused("has other tokens", content, written)
    special = {**content.vocabulary.special, "eos": 3}
    written = replace(content, vocabulary=replace(content.vocabulary, special=special))
    refused("has other tokens", content, written)
    write_gguf(content, path)
    with torch.no_grad():
        content.model.gpt_neox.layers[1].mlp.dense_4h_to_h.weight[3, 5] += 0.5
    with pytest.raises(ExportError, match=r"`blk.1.ffn_down.weight` and `gpt_neox.layers.1.mlp"):
        verify_gguf(content, path, held_out)
    # What float16 can't hold is refused while it is written.
    with torch.no_grad():
        content.model.gpt_neox.layers[1].mlp.dense_4h_to_h.weight[3, 5] = 1e6
    with pytest.raises(ExportError, match="too large"):
        write_gguf(content, path)


@pytest.mark.parametrize(
    ("kind", "keys", "said"),
    [
        ("gpt2", {"activation_function": "relu"}, "`activation_function: relu`"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "`scale_attn_by_inverse_layer_idx"),
        ("gpt_neox", {"attention_bias": False}, "`attention_bias: False`"),
        ("llama", {"hidden_act": "gelu"}, "`hidden_act: gelu`"),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0,
                                       "rope_theta": 1e4}}, "rope_type: dynamic"),
        ("qwen2", {"rope_parameters": {"rope_type": "yarn", "factor": 2.0, "rope_theta": 1e4,
                                       "original_max_position_embeddings": 64}}, "rope_type: yarn"),
        ("qwen3", {"attention_bias": True}, "`attention_bias: True`"),
        ("exaone4", {"sliding_window": 64}, "`sliding_window: 64`"),
        ("gemma2", {}, "type `gemma2` aren't written as GGUF"),
        ("bert", {}, "type `bert` aren't written as GGUF"),
    ],
)  # fmt: skip
def test_models_that_llama_cpp_computes_otherwise(
    kind: str, keys: dict[str, Any], said: str
) -> None:
    from transformers import AutoConfig

    from kft.export.gguf_architecture import describe

    with pytest.raises(UsageError) as caught:
        describe(AutoConfig.for_model(kind, **keys))
    assert said in str(caught.value)


def test_a_window_of_attention_is_the_context() -> None:
    from transformers import MistralConfig, Qwen2Config

    from kft.export.gguf_architecture import describe

    sizes = {"max_position_embeddings": 512, "sliding_window": 64}
    assert describe(MistralConfig(**sizes)).fields["context_length"] == 64
    assert describe(Qwen2Config(**sizes)).fields["context_length"] == 512
    used = Qwen2Config(**sizes, use_sliding_window=True, max_window_layers=0)
    assert describe(used).fields["context_length"] == 64


def test_the_command(
    tiny_gpt: Path,
    recipe_file: RecipeFile,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import kft

    more = {"train.max_steps": 2, "data.max_length": 48, "data.template": "koalpaca"}
    run = kft.finetune(recipe_file(tiny_gpt, PROMPTS, more))
    words = ["export", str(run.folder), "--format", "gguf"]
    assert run_words([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    folder = run.folder / "gguf"
    assert told["folder"] == str(folder)
    assert told["verification"] == json.loads((folder / "verification.json").read_text("utf-8"))
    assert told["verification"]["passed"]
    assert told["verification"]["weights"] == "float16"
    assert sorted(path.name for path in folder.iterdir()) == [
        "Modelfile", "README.md", "model.gguf", "verification.json",
    ]  # fmt: skip
    text = (folder / "Modelfile").read_text("utf-8")
    assert "FROM ./model.gguf\n" in text
    assert "### 질문: {{ .Content }}" in text
    assert text.endswith(
        'PARAMETER stop "</s>"\n# The likeliest token each time, as kft\'s own answers are made.\n'
        "PARAMETER temperature 0\nPARAMETER repeat_penalty 1\nPARAMETER num_ctx 128\n"
    )
    card = (folder / "README.md").read_text("utf-8")
    assert "library_name: gguf" in card
    assert "create_chat_completion" in card
    # Again, in other words; what fails leaves what was there.
    assert run.export("gguf", dtype="q8_0") == folder
    assert '"q8_0"' in (folder / "verification.json").read_text("utf-8")
    assert run_words(["export", str(run.folder), "--format", "onnx", "--dtype", "float16"]) == 2
    assert "`--dtype float16` is for GGUF alone" in capsys.readouterr().err
    assert run_words([*words, "--output", str(run.folder)]) == 1
    assert "holds something that" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "gguf", None)
    assert run_words(words) == 2
    assert "hint: `pip install 'kft[gguf]'`" in capsys.readouterr().err
    assert not (run.folder / "gguf.part").exists()
