"""The shorter version of `make faults`; the whole one is benchmarks/faults.py."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def benchmark(name: str) -> ModuleType:
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(autouse=True)
def from_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.slow
def test_damage_is_found(tmp_path: Path) -> None:
    assert benchmark("fault_runs").damage(tmp_path, 40) == {"faults": 40, "flipped": 20, "cut": 20}


def test_recipes_are_read_or_refused(tmp_path: Path, tiny_gpt: Path) -> None:
    told = benchmark("fault_inputs").recipes(tmp_path, 40, tiny_gpt)
    print({name: told[name] for name in ("exit 0", "exit 2")})
    assert told["wrong"] == []
    assert told["recipes"] == told["exit 0"] + told["exit 2"] == 40
    assert min(told["exit 0"], told["exit 2"]) >= 10


def test_rows_are_read_or_refused(tmp_path: Path, tiny_gpt: Path) -> None:
    told = benchmark("fault_inputs").rows(tmp_path, 30, tiny_gpt)
    assert told["wrong"] == []
    assert told["files"] == told["exit 0"] + told["exit 2"] == 30


def test_the_count_sees_a_crash(
    tmp_path: Path, tiny_gpt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr("kft.recipe.reader.read_document", crash)
    assert len(benchmark("fault_inputs").recipes(tmp_path, 2, tiny_gpt)["wrong"]) == 2


@pytest.mark.slow
def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    told = benchmark("fault_runs").kills(tmp_path, 4)
    assert {one["equal"] for one in told.values()} == {1}


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_full_disk(tmp_path: Path) -> None:
    told = benchmark("fault_runs").full_disks(tmp_path, 3)
    assert set(told.values()) == {3}


@pytest.mark.slow
def test_memory_stays_flat(tmp_path: Path) -> None:
    told = benchmark("fault_runs").soak(tmp_path, 800)
    assert told["memory growth"] < 0.1
    assert told["open files"][1] <= told["open files"][0]
