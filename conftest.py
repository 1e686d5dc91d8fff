"""What tests and doctests share: the environment, and a folder for examples that need a run."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest

# Before any test imports a library that reads them. `setdefault`, so that the opt-in tests of
# the hub can be run with `HF_HUB_OFFLINE=0`; commands started by tests inherit all of them.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_UPDATE_DOWNLOAD_COUNTS", "0")
os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the same sums on every machine; workers share it
os.environ.setdefault("MPLBACKEND", "Agg")
# What tests read is never found in the user's own cache, nor left there.
os.environ["KFT_CACHE"] = tempfile.mkdtemp(prefix="kft-tests-")
atexit.register(shutil.rmtree, os.environ["KFT_CACHE"], ignore_errors=True)

ROOT = Path(__file__).parent
NEED_A_RUN = {"run.py", "finetune.py", "report.py"}
"""Modules of ``kft/api`` whose examples begin where the README's commands end."""


def _needs_a_run(item: pytest.Item | Any) -> bool:
    is_example = isinstance(item, pytest.DoctestItem)
    return is_example and item.path.parent.name == "api" and item.path.name in NEED_A_RUN


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Examples that train are slow tests."""
    for item in items:
        if _needs_a_run(item):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the recipes, the data and a short run of the quickstart."""
    import kft

    folder = tmp_path_factory.mktemp("quickstart")
    for name in ("recipes", "data"):
        (folder / name).symlink_to(ROOT / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        short = {"train.num_train_epochs": 1, "evaluate.eval_steps": 9, "evaluate.generate": 1}
        kft.finetune("recipes/quickstart.yaml", short)
    return folder


@pytest.fixture(autouse=True)
def _examples(
    request: pytest.FixtureRequest,
    doctest_namespace: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Examples know ``kft``, and those that need a run stand beside one."""
    if isinstance(request.node, pytest.DoctestItem):
        import kft

        doctest_namespace["kft"] = kft
        if _needs_a_run(request.node):
            monkeypatch.chdir(request.getfixturevalue("quickstart"))
