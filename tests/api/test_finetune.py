"""Whole runs on tiny checkpoints: what they leave, and that it starts again and loads anywhere."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

import kft
from kft.api.merge import merge
from kft.errors import ExportError, UsageError

if TYPE_CHECKING:
    from conftest import RecipeFile, WriteJsonl

Rows = list[dict[str, str]]


def test_a_run_leaves_what_it_promises(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: Rows
) -> None:
    keys = {"evaluate.eval_steps": 2, "evaluate.generate": 2, "data.eval_fraction": 0.5}
    path = recipe_file(tiny_gpt, korean_rows, {**keys, "train.logging_steps": 2})
    run = kft.finetune(path)
    assert {p.name for p in run.folder.iterdir()} == {
        "adapter",
        "checkpoints",
        "environment.json",
        "held_out.jsonl",
        "merged",
        "metrics.jsonl",
        "recipe.yaml",
        "report.html",
        "result.json",
    }
    result = run.result
    assert result["steps"] == 4
    assert result["tuned"]["eval_loss"] < result["base"]["eval_loss"]
    assert result["tuned"]["num_rows"] == 12
    interval = result["intervals"]["eval_loss"]
    difference = result["tuned"]["eval_loss"] - result["base"]["eval_loss"]
    assert interval["difference"] == pytest.approx(difference)
    assert interval["low"] <= difference <= interval["high"]
    assert result["verification"]["passed"]
    assert [len(result["samples"]), len(result["findings"])] == [2, 0]
    lines = (run.folder / "held_out.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    nats, targets = (sum(row[key] for row in rows) for key in ("tuned_nats", "num_targets"))
    assert nats / targets == pytest.approx(result["tuned"]["eval_loss"])
    metrics = run.metrics
    assert metrics["step"].tolist() == [1, 2, 2, 3, 4, 4]
    looked_at = metrics.dropna(subset="grad_norm_by_layer")
    assert looked_at["step"].tolist() == [2, 4]
    for norm, layers in zip(looked_at["grad_norm"], looked_at["grad_norm_by_layer"], strict=True):
        assert len(layers) == 2
        assert math.hypot(*layers.values()) == pytest.approx(norm, rel=1e-5)
    assert metrics["eval_loss"].dropna().iloc[-1] == pytest.approx(result["tuned"]["eval_loss"])
    environment = json.loads((run.folder / "environment.json").read_text(encoding="utf-8"))
    assert environment["auto"]["data.template"] == "`plain`"
    assert all(len(sha) == 64 for sha in environment["data_sha256"].values())
    record = json.loads((run.folder / "adapter" / "kft_base.json").read_text(encoding="utf-8"))
    assert record["sha256"] == environment["base_sha256"]


def test_the_resolved_recipe_starts_the_same_run_again(
    tiny_llama: Path, recipe_file: RecipeFile, korean_rows: Rows, tmp_path: Path
) -> None:
    first = kft.finetune(recipe_file(tiny_llama, korean_rows, {"export.merge": False}))
    again = kft.finetune(first.folder / "recipe.yaml", {"output_dir": str(tmp_path / "again")})
    assert again.metrics["loss"].tolist() == first.metrics["loss"].tolist()
    weights = [
        load_file(r.folder / "adapter" / "adapter_model.safetensors") for r in (first, again)
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize("family", ["tiny_gpt", "tiny_llama", "tiny_neox"])
@pytest.mark.parametrize("method", ["qlora", "full"])
def test_qlora_and_full_learn_and_are_verified(
    family: str,
    method: str,
    request: pytest.FixtureRequest,
    recipe_file: RecipeFile,
    korean_rows: Rows,
) -> None:
    checkpoint = request.getfixturevalue(family)
    run = kft.finetune(recipe_file(checkpoint, korean_rows, {"adapter.method": method}))
    assert run.result["tuned"]["eval_loss"] < run.result["base"]["eval_loss"]
    assert run.result["verification"]["passed"]
    saved = run.folder / ("model" if method == "full" else "merged")
    assert (saved / "model.safetensors").is_file()
    written = yaml.safe_load((run.folder / "recipe.yaml").read_text(encoding="utf-8"))
    assert written["model"]["quantization"] == ("nf4" if method == "qlora" else "none")
    if method == "full":
        assert run.result["trainable_parameters"] == run.result["total_parameters"]
    else:
        with pytest.raises(ExportError) as caught:
            merge(str(run.folder), output=str(run.folder / "usual"), base="original")
        assert caught.value.numbers is not None
        assert caught.value.numbers["kl_nats"] > 100 * run.result["verification"]["kl_nats"]
        assert not (run.folder / "usual").exists()


def test_bfloat16_keeps_the_adapter_in_float32(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: Rows
) -> None:
    run = kft.finetune(recipe_file(tiny_gpt, korean_rows, {"train.precision": "bfloat16"}))
    weights = load_file(run.folder / "adapter" / "adapter_model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    assert run.result["tuned"]["eval_loss"] < run.result["base"]["eval_loss"]
    assert run.result["verification"]["passed"]


@pytest.mark.parametrize("optim", ["adamw_8bit"])
def test_checkpointing_and_8_bit_states_take_nearly_the_same_steps(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: Rows, optim: str, tmp_path: Path
) -> None:
    path = recipe_file(tiny_gpt, korean_rows, {"export.merge": False})
    plain = kft.finetune(path)
    lean = kft.finetune(
        path,
        {
            "train.gradient_checkpointing": True,
            "train.optim": optim,
            "output_dir": str(tmp_path / "lean"),
        },
    )
    assert lean.metrics["loss"].tolist() == pytest.approx(plain.metrics["loss"].tolist(), rel=1e-2)
    assert lean.metrics["loss"][0] == pytest.approx(plain.metrics["loss"][0], abs=1e-5)


def test_labels_are_scored_by_their_likelihood(
    tiny_gpt: Path, recipe_file: RecipeFile, write_jsonl: WriteJsonl, tmp_path: Path
) -> None:
    words = ["좋아요", "별로예요", "최고", "최악"]
    rows = [{"text": f"{words[i % 4]} {i}", "label": 1 - i % 2} for i in range(40)]
    path = recipe_file(
        tiny_gpt,
        write_jsonl(tmp_path / "labelled.jsonl", rows),
        {"data.labels": ["부정", "긍정"], "train.max_steps": 30, "export.merge": False},
    )
    run = kft.finetune(path)
    assert run.result["tuned"]["accuracy"] >= 0.8
    assert run.result["base"]["majority_accuracy"] < 0.8
    assert "accuracy" in run.result["intervals"]


def test_a_model_from_random_weights_with_a_tokenizer_of_its_own(
    recipe_file: RecipeFile, tmp_path: Path, write_jsonl: WriteJsonl
) -> None:
    config = {
        "model_type": "gpt2",
        "vocab_size": 300,
        "n_embd": 16,
        "n_layer": 1,
        "n_head": 2,
        "n_positions": 64,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "dtype": "float16",
    }
    (tmp_path / "shape").mkdir()
    (tmp_path / "shape" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    sentences = (Path(__file__).parents[1] / "assets" / "sentences.txt").read_text("utf-8")
    rows = [{"text": line} for line in sentences.splitlines()]
    path = recipe_file(
        tmp_path / "shape",
        write_jsonl(tmp_path / "texts.jsonl", rows),
        {
            "model.init": "random",
            "model.tokenizer": "train",
            "adapter": {"method": "full"},
            "data.max_length": 64,
            "data.on_too_long": "truncate",
        },
    )
    run = kft.finetune(path)
    assert run.result["tuned"]["bits_per_character"] < run.result["base"]["bits_per_character"]
    assert run.result["verification"]["dtype"] == "float16"
    assert run.tokenizer("가").input_ids[0] == run.tokenizer.bos_token_id == 0
    assert len(run.tokenizer) == 300


def test_what_is_saved_loads_without_kft(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: Rows
) -> None:
    run = kft.finetune(recipe_file(tiny_gpt, korean_rows))
    script = f"""
import sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained({str(run.folder / "merged")!r})
turns = [{{"role": "user", "content": "서울의 가을은"}}]
ids = tokenizer.apply_chat_template(
    turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)["input_ids"]
merged = AutoModelForCausalLM.from_pretrained({str(run.folder / "merged")!r})
base = AutoModelForCausalLM.from_pretrained({str(tiny_gpt)!r})
adapted = PeftModel.from_pretrained(base, {str(run.folder / "adapter")!r})
difference = (merged(ids).logits - adapted(ids).logits).abs().max().item()
assert "kft" not in sys.modules
print(ids.tolist(), difference)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    ids, difference = done.stdout.strip().rsplit(" ", 1)
    assert json.loads(ids) == [run.tokenizer("서울의 가을은").input_ids]
    assert float(difference) < 1e-4


def test_steps_can_be_watched(tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: Rows) -> None:
    path = recipe_file(tiny_gpt, korean_rows, {"export.merge": False})
    losses = [float(stats.loss) for stats in kft.steps(path)]
    run = kft.load_run(path.parent / "run")
    assert losses == run.metrics["loss"].tolist()
    assert all(math.isfinite(loss) for loss in losses)
    assert "eval_loss" in run._repr_html_()
    assert run.plot().axes[0].get_ylabel() == "loss (nats per target)"


def test_a_second_run_does_not_write_over_the_first(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: Rows
) -> None:
    path = recipe_file(tiny_gpt, korean_rows, {"export.merge": False})
    kft.finetune(path)
    with pytest.raises(UsageError, match="is not empty") as caught:
        kft.finetune(path)
    assert caught.value.hint is not None
    assert "--resume" not in caught.value.hint
    (path.parent / "run" / "result.json").unlink()  # as of a run that was stopped
    with pytest.raises(UsageError, match="is not empty") as caught:
        kft.finetune(path)
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("`--resume` goes on with the run that stands there; ")


def test_a_run_that_fails_keeps_its_traceback(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr("kft.api.concluding.save_trained", fail)
    path = recipe_file(tiny_gpt, korean_rows)
    with pytest.raises(RuntimeError, match="planted"):
        kft.finetune(path)
    assert "planted" in (path.parent / "run" / "error.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("fraction", [0.0, 0.5])
def test_rows_that_were_left_out_as_too_long_verify_nothing(
    fraction: float, tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: Rows
) -> None:
    """Nothing of such a row would be a target, were it cut."""
    long = [{"prompt": "봄 " * 200, "completion": "네"}] * 6
    keys = {"data.on_too_long": "drop", "data.max_length": 128, "data.eval_fraction": fraction}
    run = kft.finetune(recipe_file(tiny_gpt, [*long, *korean_rows], keys | {"train.max_steps": 1}))
    assert run.result["verification"]["passed"]
    assert sum(run.result["dropped_rows"].values()) == 6


def test_training_stops_at_a_loss_that_is_not_finite(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: Rows
) -> None:
    path = recipe_file(
        tiny_gpt,
        korean_rows,
        {"train.learning_rate": 1e30, "train.max_grad_norm": 0, "adapter.method": "full"},
    )
    with pytest.raises(kft.KftError) as caught:
        kft.finetune(path)
    assert caught.value.exit_code == 1
    assert "learning_rate" in (caught.value.hint or "")


@pytest.mark.slow
def test_an_iterator_that_is_left_ends_quietly(recipe_file: RecipeFile, tiny_gpt: Path) -> None:
    recipe = recipe_file(tiny_gpt, [{"text": f"봄 {n}"} for n in range(9)], {})
    program = f"import kft; steps = kft.steps({str(recipe)!r}); next(steps)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "Exception ignored" not in done.stderr
    assert "Traceback" not in done.stderr
