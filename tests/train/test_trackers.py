"""Experiment trackers: what TensorBoard's files hold, and a package that isn't there."""

from __future__ import annotations

from pathlib import Path

import pytest
from accelerate import PartialState
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kft.errors import UsageError
from kft.train import trackers
from kft.train.runlog import RunLog
from kft.train.trackers import Trackers, require_trackers


def test_tensorboard_gets_the_numbers_of_the_log(tmp_path: Path) -> None:
    PartialState()
    settings = {"adapter.r": 8, "train.max_steps": None, "data.labels": ["부정", "긍정"]}
    with RunLog(tmp_path, Trackers(["tensorboard"], "run", tmp_path, settings)) as log:
        log.write({"step": 1, "loss": 2.5, "grad_norm_by_layer": {"h.0": 0.5}})
        log.write({"step": 2, "eval_loss": 1.25, "note": "no number"})
    events = EventAccumulator(str(tmp_path / trackers.FOLDER / "run"))
    events.Reload()
    tags = ("loss", "grad_norm_by_layer/h.0", "eval_loss")
    found = {tag: [(one.step, one.value) for one in events.Scalars(tag)] for tag in tags}
    assert found == {
        "loss": [(1, 2.5)],
        "grad_norm_by_layer/h.0": [(1, 0.5)],
        "eval_loss": [(2, 1.25)],
    }


def test_a_package_that_is_not_there_is_named() -> None:
    with pytest.raises(UsageError) as caught:
        require_trackers(["tensorboard", "no_such_tracker"])
    assert caught.value.hint == "`pip install no_such_tracker`"
