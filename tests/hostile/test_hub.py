"""A checkpoint on the hub: kept files serve where the hub can't be reached, one message else."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import kft
from kft.errors import ModelError

if TYPE_CHECKING:
    from conftest import RecipeFile

Rows = list[dict[str, str]]
CutOff = Callable[..., subprocess.CompletedProcess[str]]
NAME = "somebody/something"
COMMIT = hashlib.sha1(b"a commit", usedforsecurity=False).hexdigest()
KEYS = {"train.max_steps": 2, "export.merge": False, "evaluate.generate": 0}

CUT = """
import os, socket
def cut(self, address, *rest):
    if self.family != socket.AF_UNIX:
        open(os.environ["TRIED"], "a").write(repr(address) + "\\n")
        raise OSError("the network is cut")
socket.socket.connect = socket.socket.connect_ex = cut
def unknown(host, *rest, **more):
    open(os.environ["TRIED"], "a").write(repr(host) + "\\n")
    raise socket.gaierror("the network is cut")
socket.getaddrinfo = unknown
"""


def keep(checkpoint: Path, home: Path, *, without: str = "") -> None:
    """Lay a checkpoint out in a hub cache, as huggingface_hub does: blobs, refs, snapshots."""
    repository = home / "hub" / f"models--{NAME.replace('/', '--')}"
    snapshot = repository / "snapshots" / COMMIT
    for folder in (repository / "blobs", repository / "refs", snapshot):
        folder.mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT, encoding="ascii")
    for path in checkpoint.iterdir():
        if path.name != without:
            blob = repository / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
            blob.write_bytes(path.read_bytes())
            (snapshot / path.name).symlink_to(os.path.relpath(blob, snapshot))


@pytest.fixture
def cut_off(tmp_path: Path) -> CutOff:
    """Runs `kft` with a network that is cut and a hub cache of the test's own."""

    def run(*words: str, offline: str | None) -> subprocess.CompletedProcess[str]:
        (tmp_path / "cut").mkdir(exist_ok=True)
        (tmp_path / "cut" / "sitecustomize.py").write_text(CUT, encoding="utf-8")
        environment = {name: at for name, at in os.environ.items() if name[:3] != "HF_"}
        environment.pop("DISABLE_SAFETENSORS_CONVERSION", None)
        paths = [str(tmp_path / "cut"), str(Path(kft.__file__).parents[1])]
        environment |= {
            "PYTHONPATH": os.pathsep.join(paths),
            "TRIED": str(tmp_path / "tried"),
            "HF_HOME": str(tmp_path / "home"),
        }
        if offline is not None:
            environment["HF_HUB_OFFLINE"] = offline
        command = [sys.executable, "-m", "kft", *words]
        return subprocess.run(command, capture_output=True, text=True, env=environment)

    return run


@pytest.mark.slow
def test_kept_files_are_used_and_the_hub_is_asked_once(
    cut_off: CutOff, tmp_path: Path, recipe_file: RecipeFile, tiny_gpt: Path, korean_rows: Rows
) -> None:
    keep(tiny_gpt, tmp_path / "home")
    done = cut_off("finetune", str(recipe_file(NAME, korean_rows, KEYS)), offline=None)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "tried").read_text("utf-8") == "'huggingface.co'\n"
    assert done.stderr.count("warning: The hub can't be reached") == 1
    assert "not asked" not in done.stderr  # of a library, for each file
    assert "UserWarning" not in done.stderr
    assert (tmp_path / "run" / "adapter" / "adapter_model.safetensors").is_file()


@pytest.mark.slow
def test_offline_means_that_nothing_is_asked(
    cut_off: CutOff, tmp_path: Path, recipe_file: RecipeFile, tiny_gpt: Path, korean_rows: Rows
) -> None:
    keep(tiny_gpt, tmp_path / "home")
    done = cut_off("finetune", str(recipe_file(NAME, korean_rows, KEYS)), offline="1")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "tried").exists()
    assert "warning" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("offline", [None, "1"])
@pytest.mark.parametrize("kept", ["nothing", "all but the weights"])
def test_what_is_not_kept_is_one_message(
    offline: str | None,
    kept: str,
    cut_off: CutOff,
    tmp_path: Path,
    recipe_file: RecipeFile,
    tiny_gpt: Path,
    korean_rows: Rows,
) -> None:
    if kept != "nothing":
        keep(tiny_gpt, tmp_path / "home", without="model.safetensors")
    done = cut_off("finetune", str(recipe_file(NAME, korean_rows, KEYS)), offline=offline)
    assert done.returncode == 2
    part = "config" if kept == "nothing" else "weights"
    what = (
        f"error: The {part} of `{NAME}` can't be loaded: it isn't in the hub's cache, and the hub"
    )
    assert done.stderr.count("error: ") == 1
    assert what in done.stderr
    assert f"hint: `hf download {NAME}`" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_hub_that_is_not_to_be_asked(recipe_file: RecipeFile, korean_rows: Rows) -> None:
    with pytest.raises(ModelError, match="it isn't in the hub's cache") as told:
        kft.check(recipe_file(NAME, korean_rows))
    assert told.value.exit_code == 2


@pytest.mark.slow
def test_a_data_set_that_is_not_kept(
    cut_off: CutOff, tmp_path: Path, recipe_file: RecipeFile, tiny_gpt: Path, korean_rows: Rows
) -> None:
    path = recipe_file(tiny_gpt, korean_rows, {"data.train": {"path": NAME, "split": "train"}})
    done = cut_off("check", str(path), offline=None)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: Can't load the data set `{NAME}`")
    assert "hint: The machine is offline" in done.stderr
    assert (tmp_path / "tried").read_text("utf-8") == "'huggingface.co'\n"
