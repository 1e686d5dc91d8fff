"""Which checkpoints stay when one more is written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kft.train.checkpoint import State, save_checkpoint

STATE = State({"weight": torch.ones(2)}, {"optimizer": {}})


@pytest.mark.parametrize("keep", [1, 2, 3, 4, 5, 9])
def test_the_newest_stay_as_many_as_asked_for(keep: int, tmp_path: Path) -> None:
    for step in range(1, 8):
        save_checkpoint(tmp_path, step, STATE, keep=keep, progress={})
        there = sorted(path.name for path in tmp_path.iterdir())
        assert there == [f"step-{one:08d}" for one in range(max(1, step - keep + 1), step + 1)]


def test_those_of_later_steps_go_when_a_run_was_cut_back(tmp_path: Path) -> None:
    for step in (5, 10, 15, 7):
        save_checkpoint(tmp_path, step, STATE, keep=9, progress={})
    there = sorted(path.name for path in tmp_path.iterdir())
    assert there == ["step-00000005", "step-00000007"]
