"""What plans ask of a model's modules is kept: the same answers, and no modelling code imported."""

from __future__ import annotations

import errno
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import kft
from kft.api import duration, memory, shapes
from kft.data import cache
from kft.errors import ModelError

if TYPE_CHECKING:
    from conftest import RecipeFile

Rows = list[dict[str, str]]
CLASSES = {"task": "sequence_classification"}
FULL, QLORA = {"adapter.method": "full"}, {"adapter.method": "qlora"}


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of what is kept; and a machine that is the same at all times."""
    monkeypatch.setenv("KFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(memory, "held_bytes", lambda _: 400_000_000)
    monkeypatch.setattr(memory, "free_bytes", lambda _: 8_000_000_000)
    monkeypatch.setattr(duration, "matmul_peak", lambda *_: 1e9)
    monkeypatch.setattr(duration, "small_step_seconds", lambda: 1e-4)
    return tmp_path / "cache" / "shapes"


def entries(kept: Path) -> set[Path]:
    return set(kept.glob("*/shapes.json"))


def labelled(rows: Rows) -> Rows:
    names = ("긍정", "부정")
    return [
        {"text": row["completion"], "label": names[number % 2]} for number, row in enumerate(rows)
    ]


def never(*_: Any) -> Any:
    raise AssertionError("a model was built")


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("tiny_gpt", {}),
        ("tiny_gpt", QLORA),
        ("tiny_gpt", FULL),
        ("tiny_bert", CLASSES),
        ("tiny_bert", CLASSES | QLORA),
        ("tiny_bert", CLASSES | FULL),
        ("tiny_bert", {"model.attention": "prefix"}),
    ],
)
def test_a_second_check_says_the_same_without_a_model(
    name: str,
    overrides: dict[str, Any],
    recipe_file: RecipeFile,
    korean_rows: Rows,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = labelled(korean_rows) if "task" in overrides else korean_rows
    path = recipe_file(request.getfixturevalue(name), rows, overrides)
    first = kft.check(path).as_dict()
    assert first["memory"]["adapter_bytes"] or overrides == FULL or overrides == CLASSES | FULL
    with monkeypatch.context() as patch:
        patch.setattr(shapes, "skeleton", never)
        assert kft.check(path).as_dict() == first
        with pytest.raises(AssertionError, match="a model was built"):
            kft.check(path, {"adapter.lora_dropout": 0.1})  # else nothing was tested


CHANGES: dict[str, dict[str, Any]] = {
    "r": {"adapter.r": 8},
    "target_modules": {"adapter.target_modules": ["c_attn"]},
    "whole modules": {"adapter.modules_to_save": ["ln_f"]},
    "quantization": {"model.quantization": "nf4"},
    "fast_paths": {"train.fast_paths": False},
    "attn_implementation": {"model.attn_implementation": "eager"},
    "dropout": {"model.dropout": 0.1},
}


def check_afresh(path: Path, cache: Path, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    with patch.context() as other:
        other.setenv("KFT_CACHE", str(cache))
        return kft.check(path).as_dict()


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_recipe_is_asked_anew(
    name: str,
    tiny_gpt: Path,
    recipe_file: RecipeFile,
    korean_rows: Rows,
    kept: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = kft.check(recipe_file(tiny_gpt, korean_rows)).as_dict()
    before = entries(kept)
    path = recipe_file(tiny_gpt, korean_rows, CHANGES[name])
    changed = kft.check(path).as_dict()
    assert changed == check_afresh(path, tmp_path / "other", monkeypatch)
    assert changed["memory"] != original["memory"]
    assert entries(kept) > before


def test_another_attention_is_asked_anew(
    tiny_bert: Path,
    recipe_file: RecipeFile,
    korean_rows: Rows,
    kept: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kft.check(recipe_file(tiny_bert, korean_rows))
    before = entries(kept)
    path = recipe_file(tiny_bert, korean_rows, {"model.attention": "prefix"})
    assert kft.check(path).as_dict() == check_afresh(path, tmp_path / "other", monkeypatch)
    assert entries(kept) > before


def test_another_configuration_is_asked_anew(
    tiny_gpt: Path,
    recipe_file: RecipeFile,
    korean_rows: Rows,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = shutil.copytree(tiny_gpt, tmp_path / "checkpoint")
    path = recipe_file(folder, korean_rows)
    original = kft.check(path).as_dict()
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["n_layer"] = 3
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    changed = kft.check(path).as_dict()
    assert changed == check_afresh(path, tmp_path / "other", monkeypatch)
    assert changed["memory"]["adapter_bytes"] == original["memory"]["adapter_bytes"] * 3 / 2
    assert changed["training"]["train_seconds"] > original["training"]["train_seconds"]


@pytest.mark.parametrize("what", ["_versions", "code_sha256"])
def test_another_version_is_asked_anew(
    what: str,
    tiny_gpt: Path,
    recipe_file: RecipeFile,
    korean_rows: Rows,
    kept: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = recipe_file(tiny_gpt, korean_rows)
    kft.check(path)
    before = entries(kept)
    monkeypatch.setattr(shapes, what, lambda *_: "another")
    kft.check(path)
    assert entries(kept) > before


def test_damage_is_noticed_and_mended(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: Rows, kept: Path
) -> None:
    path = recipe_file(tiny_gpt, korean_rows)
    first = kft.check(path).as_dict()
    written = {file: file.read_bytes() for file in entries(kept)}
    assert written
    for file, content in written.items():
        file.write_bytes(content.replace(b'"width":32', b'"width":99'))
        assert file.read_bytes() != content
    assert kft.check(path).as_dict() == first
    assert {file: file.read_bytes() for file in entries(kept)} == written


def test_a_refusal_is_not_kept(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: Rows, kept: Path
) -> None:
    path = recipe_file(tiny_gpt, korean_rows, {"adapter.target_modules": ["q_proj"]})
    told = []
    for _ in range(2):
        with pytest.raises(ModelError, match="No layer of `gpt2` matches `q_proj`") as refused:
            kft.check(path)
        told.append(str(refused.value))
    assert told[0] == told[1]
    assert not entries(kept)


def test_no_place_to_keep_it_stops_nobody(
    tiny_gpt: Path,
    recipe_file: RecipeFile,
    korean_rows: Rows,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = recipe_file(tiny_gpt, korean_rows)
    expected = kft.check(path).as_dict()
    (tmp_path / "file").touch()

    def no_place() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory")

    monkeypatch.setenv("KFT_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(cache, "_temporary_folder", no_place)
    with pytest.raises(FileNotFoundError):
        cache.cached("shapes", {}, lambda _: None)  # else nothing was tested
    assert kft.check(path).as_dict() == expected


def test_code_of_a_checkpoint_is_not_asked(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: Rows, kept: Path
) -> None:
    own = {"model.trust_remote_code": True, "model.revision": "a1" * 20}
    assert "memory" not in kft.check(recipe_file(tiny_gpt, korean_rows, own)).sections
    assert not entries(kept)


def test_no_way_out_that_the_model_refuses(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = recipe_file(tiny_gpt, korean_rows, FULL | {"adapter.r": 64})  # too large for LoRA here
    monkeypatch.setattr(memory, "free_bytes", lambda _: 0)
    memory_plan = kft.check(path).sections["memory"]
    assert not memory_plan["fits"]


MODELLING = re.compile(
    r"(peft|bitsandbytes)(\..+)?|transformers\.modeling_utils"
    r"|transformers\.models\.(?!auto\.)\w+\.modeling_\w+"
)
"""Modules that take long to import. `modeling_auto` holds names of classes alone."""
COMMAND = """
import sys
from kft.cli.main import main
try:
    main(["check", "--json", sys.argv[1]])
finally:
    print(*sys.modules, file=sys.stderr)
"""


def started(path: Path) -> tuple[dict[str, Any], set[str]]:
    """What `kft check` prints in a process of its own, and what of the heavy code it imports."""
    command = [sys.executable, "-c", COMMAND, str(path)]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    modules = done.stderr.splitlines()[-1].split()
    assert "kft.api.shapes" in modules
    return json.loads(done.stdout), {name for name in modules if MODELLING.fullmatch(name)}


@pytest.mark.slow  # two starts of the command
def test_a_second_start_imports_no_modelling_code(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: Rows
) -> None:
    path = recipe_file(tiny_gpt, korean_rows)
    (first, imported), (second, again) = started(path), started(path)
    assert {"transformers.modeling_utils", "transformers.models.gpt2.modeling_gpt2"} <= imported
    assert not again
    # The code that it has not loaded yet is planned for.
    process = first["memory"]["process_bytes"]
    assert second["memory"]["process_bytes"] == pytest.approx(process, rel=0.1)
    for found in (first, second):
        plan = found["memory"]
        for whole in ("needed_bytes", "loading_bytes", "training_bytes", "evaluation_bytes"):
            plan[whole] -= plan["process_bytes"]
        for changing in ("process_bytes", "available_bytes"):
            del plan[changing]
        for changing in ("tokens_per_second", "train_seconds"):
            del found["training"][changing]
    assert first == second
