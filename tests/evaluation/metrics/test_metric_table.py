"""The table of metrics: every entry is computed, keeps its range and knows which way is better."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from kft.errors import RecipeError
from kft.evaluation.intervals import paired_metric_interval
from kft.evaluation.metrics.entries import INPUTS
from kft.evaluation.metrics.registry import (
    METRICS,
    compute_metrics,
    find_metric,
    metric_statistic,
)
from kft.evaluation.metrics.statistic import value

MetricInputs = Callable[..., dict[str, Any]]


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_keeps_its_range_and_its_direction(
    name: str, metric_inputs: MetricInputs
) -> None:
    entry = METRICS[name]
    good, bad = (
        value(metric_statistic(name, metric_inputs(entry.kind, good=g))) for g in (True, False)
    )
    for number in (good, bad):
        assert entry.low <= number <= entry.high
    if entry.higher_is_better is not None:
        assert (good > bad) == entry.higher_is_better
        if entry.kind != "nats":
            best = entry.high if entry.higher_is_better else entry.low
            assert good == pytest.approx(best)


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_can_be_resampled(name: str, metric_inputs: MetricInputs) -> None:
    kind = METRICS[name].kind
    good, bad = (metric_statistic(name, metric_inputs(kind, good=g)) for g in (True, False))
    interval = paired_metric_interval(bad, good, num_resamples=200)
    assert interval.low <= interval.difference <= interval.high


def test_entries_say_what_they_need() -> None:
    assert len(METRICS) >= 35
    for name, entry in METRICS.items():
        assert entry.name == name
        assert entry.inputs[: len(INPUTS[entry.kind])] == INPUTS[entry.kind]
        assert entry.meaning
        assert not entry.meaning.endswith(".")
        assert entry.low < entry.high


def test_several_at_once_take_what_each_needs(metric_inputs: MetricInputs) -> None:
    given = metric_inputs("nats", good=True)
    scores = compute_metrics(["eval_loss", "bits_per_character"], given)
    assert scores["eval_loss"] == pytest.approx(6.5 / 14)
    assert scores["bits_per_character"] == pytest.approx(6.5 / np.log(2) / 26)


def test_a_missing_input_is_named() -> None:
    with pytest.raises(ValueError, match="`accuracy` needs `num_labels`; there are `predictions`"):
        compute_metrics(["accuracy"], {"predictions": [0], "references": [0]})


def test_an_unknown_metric_has_a_hint() -> None:
    with pytest.raises(RecipeError) as caught:
        find_metric("rouge_l_eojol", where="recipe.yaml:12")
    assert str(caught.value) == (
        "error: Unknown metric `rouge_l_eojol`\n"
        "  --> recipe.yaml:12\n"
        "  expected: one of `accuracy`, `macro_f1`, `micro_f1`, `weighted_f1`, `matthews`, "
        "`multilabel_macro_f1`, `multilabel_micro_f1`, `multilabel_weighted_f1`, ...\n"
        "\n"
        "hint: Did you mean `rouge_l_eojeol`?"
    )


def test_the_table_needs_none_of_the_reference_libraries() -> None:
    script = (
        "import sys, kft.evaluation.metrics.registry, kft.evaluation.fit\n"
        "heavy = 'torch', 'transformers', 'evaluate', 'datasets', 'scipy', 'sklearn', 'sacrebleu',"
        " 'seqeval', 'rouge_score'\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert out.stdout == "[]\n"


def test_a_metric_that_reached_for_the_network_would_be_noticed() -> None:
    with pytest.raises(AssertionError, match="reached for the network"):
        socket.create_connection(("127.0.0.1", 9), timeout=1)
