"""Wrong input of each kind: one message with place and hint, exit code 2, no run folder.

`<tmp>` stands for the test's folder in every message.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

import kft

if TYPE_CHECKING:
    from conftest import RecipeFile, WriteJsonl
    from kft.errors import KftError

Fails = Callable[..., str]
Rows = list[dict[str, str]]


@pytest.fixture
def fails(
    tmp_path: Path, recipe_file: RecipeFile, capfd: pytest.CaptureFixture[str], tiny_gpt: Path
) -> Fails:
    """`fails(rows, overrides, checkpoint=...)`: the message of a run that must be refused.

    `checked` is whether `kft check` says the same: it reads no weights.
    """

    def run(
        rows: Any,
        overrides: Mapping[str, Any] | None = None,
        checkpoint: Path = tiny_gpt,
        *,
        checked: bool = True,
    ) -> str:
        recipe = recipe_file(checkpoint, rows, overrides)
        folder = Path(yaml.safe_load(recipe.read_text(encoding="utf-8"))["output_dir"])
        before = sorted(folder.iterdir()) if folder.is_dir() else folder.exists()
        capfd.readouterr()
        with pytest.raises(kft.KftError) as told:
            kft.finetune(recipe)
        error: KftError = told.value
        assert error.exit_code == 2
        assert (sorted(folder.iterdir()) if folder.is_dir() else folder.exists()) == before
        if checked:
            with pytest.raises(type(error)) as told_by_check:
                kft.check(recipe)
            assert str(told_by_check.value) == str(error)
        assert capfd.readouterr() == ("", "")
        return str(error).replace(str(tmp_path), "<tmp>")

    return run


# Recipe and data


def test_a_recipe_that_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(kft.KftError) as told:
        kft.finetune(tmp_path)
    assert told.value.exit_code == 2
    assert "a recipe in YAML" in str(told.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    ids=["empty", "header only", "no text", "no completion", "unknown label"],
    argvalues=[
        (
            "empty.jsonl",
            "",
            "error: The file has no rows\n  --> <tmp>/empty.jsonl\n  expected: at least one row",
        ),
        (
            "header.csv",
            "prompt,completion\n",
            "error: The file has no rows\n  --> <tmp>/header.csv\n  expected: at least one row",
        ),
        (
            "blank.csv",
            'prompt,completion\n"",안녕\n" ",안녕\n',
            "error: No row is left\n"
            "  --> <tmp>/blank.csv\n"
            "  expected: at least one row with text in every column; "
            "left out were 2 with empty `prompt`",
        ),
        (
            "keys.jsonl",
            '{"prompt": "가", "completion": "나"}\n{"prompt": "다", "completio": "라"}\n',
            "error: Row has no `completion`\n"
            "  --> <tmp>/keys.jsonl:2\n"
            "  expected: `completion` (completion), as in the first row; got `prompt`, "
            "`completio`\n"
            "\n"
            "hint: Rename `completio` to `completion`.",
        ),
        (
            "labels.jsonl",
            '{"text": "좋다", "label": "긍정"}\n{"text": "음", "label": "중립"}\n',
            "error: Unknown label `중립`\n"
            "  --> <tmp>/labels.jsonl:2\n"
            "  expected: one of `부정`, `긍정`\n"
            "\n"
            "hint: Correct the row, or add the label to `data.labels`.",
        ),
    ],
)
def test_a_file(tmp_path: Path, fails: Fails, name: str, content: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    assert fails(path, {"data.labels": ["부정", "긍정"]}) == message


def test_a_missing_file_and_a_folder_without_one(
    tmp_path: Path, fails: Fails, korean_rows: Rows
) -> None:
    (tmp_path / "folder").mkdir()
    assert fails(tmp_path / "folder") == (
        "error: No data file in folder `<tmp>/folder`\n"
        "  --> data.train\n"
        "  expected: files that end in `.jsonl`, `.ndjson`, `.json`, `.csv`, `.tsv`, `.txt`, "
        "`.parquet`, `.arrow`, also with `.gz` or `.zst`, or in `.zip`"
    )
    overrides = {"data.eval": str(tmp_path / "recip.jsonl")}
    assert fails(korean_rows, overrides) == (
        "error: No file or folder `<tmp>/recip.jsonl`\n"
        "  --> data.eval\n"
        "  expected: a path that exists; relative ones count from the current directory\n"
        "\n"
        "hint: Did you mean `<tmp>/recipe.jsonl`?"
    )


def test_held_out_rows_that_are_all_empty(
    tmp_path: Path, fails: Fails, korean_rows: Rows, write_jsonl: WriteJsonl
) -> None:
    path = write_jsonl(tmp_path / "eval.jsonl", [{"prompt": "가", "completion": ""}])
    assert fails(korean_rows, {"data.eval": str(path)}) == (
        "error: No row is left\n"
        "  --> <tmp>/eval.jsonl\n"
        "  expected: at least one row with text in every column; "
        "left out were 1 with empty `completion`"
    )


def test_rows_that_are_too_long(fails: Fails, korean_rows: Rows) -> None:
    assert fails([*korean_rows, {"prompt": "뷁" * 90, "completion": "가"}]) == (
        "error: Row has no target: the prompt alone fills `max_length`\n"
        "  --> <tmp>/recipe.jsonl:25\n"
        "  expected: at least one target within 128 tokens; the row has 272\n"
        "\n"
        "hint: Raise `data.max_length`, or set `data.on_too_long: drop` to leave such rows out."
    )
    rows = [*korean_rows, {"prompt": "가", "completion": "뷁" * 90}]
    assert fails(rows, {"data.max_length": 200}) == (
        "error: Row has 200 tokens, and the model 128 positions\n"
        "  --> <tmp>/recipe.jsonl:25\n"
        "  expected: at most 128 tokens\n"
        "\n"
        "hint: `data.max_length=128`"
    )


def test_a_max_length_that_no_row_reaches_may_exceed_the_positions(
    recipe_file: RecipeFile, tiny_gpt: Path, korean_rows: Rows
) -> None:
    assert kft.check(recipe_file(tiny_gpt, korean_rows, {"data.max_length": 512})).findings == []


def test_samples_share_the_positions_with_their_prompts(
    recipe_file: RecipeFile, tiny_gpt: Path
) -> None:
    rows = [{"text": "뷁 가나다 " * 60}] * 4
    overrides = {
        "train.max_steps": 1,
        "export.merge": False,
        "evaluate.generate": 1,
        "evaluate.max_new_tokens": 100,
    }
    samples = kft.finetune(recipe_file(tiny_gpt, rows, overrides)).result["samples"]
    assert len(samples) == 1


# Templates


@pytest.mark.parametrize(
    ("template", "message"),
    ids=["broken", "undefined", "without answer"],
    argvalues=[
        (
            "{% for message in messages %}{{ message.content }",
            "error: The template can't be read: unexpected '}'\n"
            "  --> <tmp>/own.jinja:1\n"
            "  expected: jinja in UTF-8",
        ),
        (
            "{{ messages[9].content.strip() }}",
            "error: The template can't render this row: list object has no element 9\n"
            "  --> <tmp>/recipe.jsonl:1\n"
            "\n"
            "hint: `data.template` takes another template, or a jinja file of your own.",
        ),
        (
            "{% for message in messages %}{% if message.role == 'user' %}{{ message.content }}"
            "{% else %}{{ eos_token }}{% endif %}{% endfor %}",
            "error: The template `<tmp>/own.jinja` leaves the answer out\n"
            "  --> <tmp>/recipe.jsonl:1, `data.template`\n"
            "  expected: `{{ message.content }}` of the turns of `assistant`, too",
        ),
    ],
)
def test_a_template(
    tmp_path: Path, fails: Fails, korean_rows: Rows, template: str, message: str
) -> None:
    path = tmp_path / "own.jinja"
    path.write_text(template, encoding="utf-8")
    # Without held-out rows the first row of the file is the first of the training rows.
    assert fails(korean_rows, {"data.template": str(path), "data.eval_fraction": 0}) == message


def test_a_missing_template(tmp_path: Path, fails: Fails, korean_rows: Rows) -> None:
    told = fails(korean_rows, {"data.template": "koalpacca"})
    assert told.startswith("error: Unknown template or missing file `koalpacca`\n")
    assert told.endswith("\n\nhint: Did you mean `koalpaca`?")


def test_a_template_without_end_token_is_a_warning(
    tmp_path: Path, recipe_file: RecipeFile, tiny_gpt: Path, korean_rows: Rows
) -> None:
    path = tmp_path / "endless.jinja"
    path.write_text("{% for message in messages %}{{ message.content }}\n{% endfor %}")
    recipe = recipe_file(tiny_gpt, korean_rows, {"data.template": str(path)})
    (finding,) = kft.check(recipe).findings
    assert finding.severity == "warning"
    assert finding.what.startswith("Answers don't end with the end token `</s>`")


# Checkpoints


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (f"touch {self.target}",))


def cut(folder: Path, name: str) -> None:
    path = folder / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def overwrite(folder: Path, name: str, content: bytes = b"{") -> None:
    (folder / name).write_bytes(content)


def change_config(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values), encoding="utf-8")


def change_weights(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def without_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


BLOCK = "transformer.h.1.mlp.c_fc.weight"
DAMAGED = (
    "error: The file of weights is damaged: Error while deserializing header: {}\n"
    "  --> <tmp>/gpt/model.safetensors\n"
    "  expected: the whole file; this one may be cut off\n"
    "\n"
    "hint: Copy or download it again."
)
KEY = "  --> `model.name_or_path`\n"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(
            lambda folder: cut(folder, "model.safetensors"),
            DAMAGED.format("incomplete metadata, file not fully covered"),
            id="cut off",
        ),
        pytest.param(
            lambda folder: overwrite(folder, "model.safetensors", b"\xff" * 64),
            DAMAGED.format("header too large"),
            id="header",
        ),
        pytest.param(
            lambda folder: overwrite(
                folder, "model.safetensors", b"version https://git-lfs.github.com/spec/v1\n"
            ),
            "error: The weights were not fetched: the file is a git-lfs pointer\n"
            "  --> <tmp>/gpt/model.safetensors\n"
            "  expected: the weights themselves\n"
            "\n"
            "hint: `git -C <tmp>/gpt lfs pull` fetches them.",
            id="git-lfs",
        ),
        pytest.param(
            lambda folder: (folder / "model.safetensors").unlink(),
            "error: There are no weights in `<tmp>/gpt`\n"
            + KEY
            + "  expected: `model.safetensors` or `pytorch_model.bin` beside `config.json`",
            id="no weights",
        ),
        pytest.param(
            lambda folder: (folder / "config.json").unlink(),
            "error: There is no `config.json` in `<tmp>/gpt`\n"
            + KEY
            + "  expected: a checkpoint's folder",
            id="no config",
        ),
        pytest.param(
            lambda folder: overwrite(folder, "config.json"),
            "error: `config.json` is not JSON: Expecting property name enclosed in double quotes\n"
            "  --> <tmp>/gpt/config.json:1\n"
            "  expected: the file as it was saved; this one may be cut off",
            id="config not JSON",
        ),
        pytest.param(
            lambda folder: cut(folder, "tokenizer.json"),
            "error: `tokenizer.json` is not JSON: ",
            id="tokenizer not JSON",
        ),
        pytest.param(
            lambda folder: overwrite(folder, "tokenizer.json", b'{"model": {"type": "BPEE"}}'),
            "error: The tokenizer of `<tmp>/gpt` can't be loaded: ",
            id="tokenizer of no type",
        ),
        pytest.param(
            without_tokenizer,
            "error: The checkpoint `<tmp>/gpt` has no tokenizer\n"
            + KEY
            + "  expected: a `tokenizer.json`, a `vocab.txt` or a sentencepiece model in the "
            "folder\n"
            "\n"
            "hint: `model.tokenizer` names a folder that has one.",
            id="no tokenizer",
        ),
        pytest.param(
            lambda folder: change_config(folder, model_type="hyperclovaz"),
            "error: The config of `<tmp>/gpt` can't be loaded: The checkpoint you are trying to "
            "load has model type `hyperclovaz` but",
            id="model type",
        ),
        pytest.param(
            lambda folder: change_config(folder, n_layer="two"),
            "error: The config of `<tmp>/gpt` can't be loaded: TypeError: Field 'n_layer' "
            "expected int, got str (value: 'two')\n",
            id="config of another kind",
        ),
        pytest.param(
            lambda folder: change_config(folder, n_head=5),
            "error: The configuration of `<tmp>/gpt` doesn't make a model: `embed_dim` must be "
            "divisible by num_heads",
            id="config makes no model",
        ),
    ],
)
def test_a_checkpoint(
    tmp_path: Path,
    fails: Fails,
    korean_rows: Rows,
    tiny_gpt: Path,
    damage: Callable[[Path], None],
    message: str,
) -> None:
    folder = shutil.copytree(tiny_gpt, tmp_path / "gpt")
    damage(folder)
    told = fails(korean_rows, checkpoint=folder)
    assert told == message or (not message.endswith(".") and told.startswith(message))


@pytest.mark.parametrize(
    ("change", "message"),
    ids=["lacking", "of another shape"],
    argvalues=[
        (
            lambda tensors: tensors.pop(BLOCK),
            "error: The checkpoint lacks 1 of the weights that `GPT2LMHeadModel` needs, first "
            f"`{BLOCK}`\n  --> <tmp>/gpt\n"
            "  expected: a checkpoint of this architecture with all its weights",
        ),
        (
            lambda tensors: tensors.update({BLOCK: tensors[BLOCK][:, :64].clone()}),
            f"error: The weight `{BLOCK}` has the shape (32, 64) and `config.json` asks for "
            "(32, 128)\n  --> <tmp>/gpt\n"
            "  expected: weights and configuration of the same model",
        ),
    ],
)
def test_weights_that_do_not_fill_the_model(
    tmp_path: Path, fails: Fails, korean_rows: Rows, tiny_gpt: Path, change: Any, message: str
) -> None:
    folder = shutil.copytree(tiny_gpt, tmp_path / "gpt")
    change_weights(folder, change)
    assert fails(korean_rows, checkpoint=folder, checked=False) == message


@pytest.mark.parametrize("zipped", [True, False])
def test_a_hostile_pickle_is_refused_and_not_run(
    tmp_path: Path, fails: Fails, korean_rows: Rows, tiny_gpt: Path, zipped: bool
) -> None:
    import torch

    folder = shutil.copytree(tiny_gpt, tmp_path / "gpt")
    (folder / "model.safetensors").unlink()
    content = {"transformer.wte.weight": Hostile(tmp_path / "ran")}
    if zipped:
        torch.save(content, folder / "pytorch_model.bin")
    else:
        overwrite(folder, "pytorch_model.bin", pickle.dumps(content, protocol=2))
    told = fails(korean_rows, checkpoint=folder, checked=False)
    assert not (tmp_path / "ran").exists()
    assert told == (
        "error: The weights in `<tmp>/gpt` would call `posix.system` when they are read\n"
        "  --> <tmp>/gpt\n"
        "  expected: a `.bin` file of tensors alone, or safetensors; kft runs nothing that a "
        "checkpoint brings"
    )
    pickle.loads(pickle.dumps(content))  # noqa: S301 -- it would have run
    assert (tmp_path / "ran").exists()


def test_a_bin_file_that_is_cut_off(
    tmp_path: Path, fails: Fails, korean_rows: Rows, tiny_gpt: Path
) -> None:
    import torch
    from safetensors.torch import load_file

    folder = shutil.copytree(tiny_gpt, tmp_path / "gpt")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    cut(folder, "pytorch_model.bin")
    told = fails(korean_rows, checkpoint=folder)
    assert told.startswith("error: The file of weights is damaged: its end is missing\n")


@pytest.mark.parametrize("kind", ["DistilBert", "T5"])
def test_a_checkpoint_that_does_not_write(
    tmp_path: Path, fails: Fails, korean_rows: Rows, kind: str
) -> None:
    import transformers

    getattr(transformers, f"{kind}Config")().save_pretrained(tmp_path / "other")
    what = {
        "DistilBert": "`distilbert` is an encoder: its tokens see those that come after them",
        "T5": "transformers has no causal language model of the architecture `t5`",
    }[kind]
    assert fails(korean_rows, checkpoint=tmp_path / "other") == (
        f"error: {what}\n"
        + KEY
        + "  expected: a model that writes from left to right, such as GPT-2, GPT-NeoX or Llama, "
        "or an encoder that can: `bert`, `camembert`, `electra`, `roberta`, `xlm-roberta`"
    )


@pytest.mark.parametrize("key", ["train.precision", "model.dtype"])
def test_float16_on_a_cpu(
    fails: Fails, korean_rows: Rows, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert fails(korean_rows, {key: "float16"}) == (
        "error: float16 can't be trained on a CPU\n"
        f"  --> `{key}`\n"
        "  expected: `auto`, `float32` or `bfloat16`\n"
        "\n"
        f"hint: Leave `{key}` at `auto`."
    )


# Adapters

NAMES = "  expected: names among `c_attn`, `c_fc`, `c_proj`, `lm_head`\n"


@pytest.mark.parametrize(
    ("section", "message"),
    ids=["r", "module", "expression", "modules_to_save", "block", "blocks of an expression"],
    argvalues=[
        (
            {"r": 64},
            "error: `adapter.r` is 64, larger than the layer it is to approximate\n"
            "  --> layer `transformer.h.0.attn.c_attn`\n"
            "  expected: at most 32, the layer's smaller side\n"
            "\n"
            "hint: `adapter.r=8`",
        ),
        (
            {"target_modules": ["c_attn", "c_prj"]},
            "error: No layer of `gpt2` matches `c_prj`\n"
            "  --> `adapter.target_modules`\n" + NAMES + "\nhint: Did you mean `c_proj`?",
        ),
        (
            {"target_modules": ".*attention.*"},
            "error: No layer of `gpt2` matches `.*attention.*`\n"
            "  --> `adapter.target_modules`\n"
            + NAMES
            + "\nhint: Leave `adapter.target_modules` out to train every linear layer of the "
            "blocks.",
        ),
        (
            {"modules_to_save": ["lm_haed"]},
            "error: No module of `gpt2` matches `lm_haed`\n"
            "  --> `adapter.modules_to_save`\n"
            "  expected: the end of a module's name\n"
            "\n"
            "hint: Did you mean `lm_head`?",
        ),
        (
            {"layers_to_transform": [1, 2]},
            "error: `gpt2` has no block 2\n"
            "  --> `adapter.layers_to_transform`\n"
            "  expected: numbers from 0 to 1",
        ),
        (
            {"layers_to_transform": [0], "target_modules": "all-linear"},
            "error: `adapter.layers_to_transform` does not go with `target_modules: all-linear`\n"
            "  --> `adapter.layers_to_transform`\n"
            "  expected: `adapter.target_modules: auto`, or a list of module names",
        ),
    ],
)
def test_an_adapter(fails: Fails, korean_rows: Rows, section: dict[str, Any], message: str) -> None:
    assert (
        fails(korean_rows, {f"adapter.{key}": value for key, value in section.items()}) == message
    )


@pytest.fixture(scope="module")
def adapter(tiny_gpt: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a saved LoRA of rank 4 on the GPT-2, as peft saves it."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("adapter")
    config = LoraConfig(r=4, target_modules=["c_attn"], fan_in_fan_out=True, task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_gpt), config)
    model.save_pretrained(str(folder))
    return folder


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(
            lambda folder: (folder / "adapter_config.json").unlink(),
            "error: There is no adapter in `<tmp>/adapter`\n"
            "  --> `adapter.start_from`\n"
            "  expected: a folder with `adapter_config.json` and `adapter_model.safetensors`",
            id="missing",
        ),
        pytest.param(
            lambda folder: overwrite(folder, "adapter_config.json", b'{"peft_type": "LOHA"}'),
            "error: The adapter in `<tmp>/adapter` is of the type `LOHA`\n"
            "  --> `adapter.start_from`\n"
            "  expected: `LORA`",
            id="of another type",
        ),
        pytest.param(
            lambda folder: overwrite(
                folder,
                "kft_base.json",
                b'{"name_or_path": "skt/kogpt2-base-v2", "sha256": "0123456789abcdef"}',
            ),
            "error: The adapter in `<tmp>/adapter` was trained on another base than ",
            id="of another base",
        ),
        pytest.param(
            lambda folder: cut(folder, "adapter_model.safetensors"),
            "error: The file of weights is damaged: ",
            id="cut off",
        ),
    ],
)
def test_an_adapter_to_start_from(
    tmp_path: Path,
    fails: Fails,
    korean_rows: Rows,
    adapter: Path,
    damage: Callable[[Path], None],
    message: str,
) -> None:
    folder = shutil.copytree(adapter, tmp_path / "adapter")
    damage(folder)
    assert fails(korean_rows, {"adapter.start_from": str(folder)}).startswith(message)


def test_an_adapter_of_other_shapes(
    tmp_path: Path, fails: Fails, korean_rows: Rows, tiny_gpt: Path, adapter: Path
) -> None:
    """Wider layers don't take it; blocks that it has no weights for aren't drawn at random."""
    from transformers import AutoConfig, AutoModelForCausalLM

    for other, reason in [
        ({"n_embd": 64}, "size mismatch for base_model.model.transformer.h.0.attn.c_attn.lora_A"),
        ({"n_layer": 3}, "Found missing adapter keys"),
    ]:
        base = shutil.copytree(tiny_gpt, tmp_path / "-".join(other))
        config = AutoConfig.from_pretrained(tiny_gpt, **other)
        AutoModelForCausalLM.from_config(config).save_pretrained(base)
        told = fails(korean_rows, {"adapter.start_from": str(adapter)}, base, checked=False)
        assert told.startswith(f"error: The adapter in `{adapter}` doesn't load onto the base: ")
        assert reason in told


# The run folder


def test_a_run_folder_that_is_not_empty(tmp_path: Path, fails: Fails, korean_rows: Rows) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").write_text("mine", encoding="utf-8")
    assert fails(korean_rows, checked=False) == (
        "error: The run folder `<tmp>/run` is not empty\n"
        "  --> `output_dir`\n"
        "  expected: a folder that doesn't exist yet, or is empty\n"
        "\n"
        "hint: `output_dir=<tmp>/run-2` on the command line names another one."
    )
    (finding,) = kft.check(tmp_path / "recipe.yaml").findings
    assert (finding.severity, finding.where) == ("warning", "`output_dir`")


def test_a_run_folder_without_a_place(
    tmp_path: Path, fails: Fails, korean_rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    below_a_file = {"output_dir": str(tmp_path / "recipe.jsonl" / "run")}
    rest = "  --> `output_dir`\n  expected: a folder, or a place where one can be made"
    assert fails(korean_rows, below_a_file) == (
        "error: The run folder `<tmp>/recipe.jsonl/run` can't be made: "
        f"there is no folder `<tmp>/recipe.jsonl`\n{rest}"
    )
    monkeypatch.setattr("kft.api.run_folder.os.access", lambda *_: False)
    assert fails(korean_rows) == (
        "error: The run folder `<tmp>/run` can't be made: "
        f"nothing may be written into `<tmp>`\n{rest}"
    )


# The real command


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "kft", *words], capture_output=True, text=True)


def assert_refused(done: subprocess.CompletedProcess[str], message: str) -> None:
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.count("error: ") == 1
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr


@pytest.mark.slow
def test_the_command_on_a_cut_checkpoint(
    tmp_path: Path, recipe_file: RecipeFile, tiny_gpt: Path, korean_rows: Rows
) -> None:
    folder = shutil.copytree(tiny_gpt, tmp_path / "gpt")
    cut(folder, "model.safetensors")
    done = command("finetune", str(recipe_file(folder, korean_rows)))
    assert_refused(done, "error: The file of weights is damaged: ")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("word", ["finetune", "check"])
@pytest.mark.parametrize(
    ("overrides", "message"),
    ids=["r", "data", "checkpoint", "key"],
    argvalues=[
        (["adapter.r=64"], "error: `adapter.r` is 64, larger than the layer"),
        (["data.train=nothing.jsonl"], "error: No file or folder `nothing.jsonl`"),
        (["model.name_or_path=./nothing"], "error: There is no checkpoint folder `./nothing`"),
        (["data.max_lenght=64"], "error: Unknown key `data.max_lenght`"),
    ],
)
def test_the_command(
    tmp_path: Path,
    recipe_file: RecipeFile,
    tiny_gpt: Path,
    korean_rows: Rows,
    word: str,
    overrides: list[str],
    message: str,
) -> None:
    done = command(word, str(recipe_file(tiny_gpt, korean_rows)), *overrides)
    assert_refused(done, message)
    assert not (tmp_path / "run").exists()


# Real files


def test_real_reviews_without_label_names(fails: Fails, real_data: Path, tmp_path: Path) -> None:
    """NSMC's labels are 0 and 1, and its first lines have reviews without any text."""
    reviews = real_data / "data" / "nsmc" / "ratings_test.txt"
    if not reviews.is_file():
        pytest.skip(f"no {reviews}")
    lines = reviews.read_text(encoding="utf-8").splitlines()
    path = tmp_path / "ratings.txt"
    path.write_text("\n".join(lines[:200]) + "\n", encoding="utf-8")
    assert fails(path) == (
        "error: Labels are numbers, such as `1`, and have no names\n"
        "  --> <tmp>/ratings.txt:2\n"
        "  expected: their names in `data.labels`\n"
        "\n"
        "hint: Name them in the order of their numbers, such as `data.labels: [부정, 긍정]`."
    )
    cells = lines[1].split("\t")
    path.write_text("\n".join([*lines[:3], "\t".join(cells[:2])]) + "\n", encoding="utf-8")
    assert fails(path, {"data.labels": ["부정", "긍정"]}) == (
        "error: Fields of the row don't match the header\n"
        "  --> <tmp>/ratings.txt:4\n"
        "  expected: 3 fields: `id`, `document`, `label`; got 2\n"
        "\n"
        "hint: A tsv has a row per line and no quoting; save as csv what has tabs or lines in "
        "a field."
    )
