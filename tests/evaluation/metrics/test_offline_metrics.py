"""The `evaluate.Metric` classes: complete, equal to the plain functions, no network, no files."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from kft.errors import RecipeError
from kft.evaluation.metrics.registry import METRICS, metric_statistic
from kft.evaluation.metrics.statistic import value


@pytest.fixture(scope="module")
def classes() -> ModuleType:
    """The module of the classes, imported when a test needs it: evaluate takes seconds."""
    from kft.evaluation.metrics import offline_classes

    return offline_classes


def columns(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """The inputs of a metric as evaluate takes them."""
    if METRICS[name].kind != "generations":
        return {needed: given[needed] for needed in METRICS[name].inputs}
    rows = given["generations"]
    result = {
        "predictions": [row.text for row in rows],
        "references": [row.reference for row in rows],
        "prompts": [row.prompt for row in rows],
        "ended": [row.ended for row in rows],
    }
    if "training_answers" in METRICS[name].inputs:
        result["training_answers"] = given["training_answers"]
    return result


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_has_a_class_that_says_the_same(
    name: str, tmp_path: Path, classes: ModuleType, metric_inputs: Callable[..., dict[str, Any]]
) -> None:
    from evaluate import Metric

    metric = classes.CLASSES[name](cache_dir=str(tmp_path))
    assert isinstance(metric, Metric)
    assert metric.name == name
    assert METRICS[name].meaning in metric.description
    given = metric_inputs(METRICS[name].kind, good=False)
    expected = value(metric_statistic(name, given))
    assert metric.compute(**columns(name, given)) == {name: pytest.approx(expected)}
    assert list(tmp_path.iterdir()) == []  # neither rows nor locks were written


def test_rows_can_come_in_parts(classes: ModuleType) -> None:
    metric = classes.load_metric("accuracy")
    metric.add_batch(predictions=[0, 1], references=[0, 0])
    metric.add(prediction=1, reference=1)
    assert metric.compute(num_labels=2) == {"accuracy": pytest.approx(2 / 3)}
    assert metric.compute(predictions=[1], references=[1], num_labels=2) == {"accuracy": 1.0}


def test_several_combine(classes: ModuleType) -> None:
    from evaluate import combine

    both = combine([classes.Pearson(), classes.RSquared()])
    scores = both.compute(predictions=[1.0, 3.0], references=[1.0, 2.0])
    assert scores == {"pearson": pytest.approx(1.0), "r2": pytest.approx(-1.0)}


def test_several_references_and_tokens(classes: ModuleType) -> None:
    best = classes.Rouge1Eojeol().compute(predictions=["가 나"], references=[["다", "가 나"]])
    assert best == {"rouge_1_eojeol": 1.0}
    loop = classes.Repeats().compute(
        predictions=["가나다라"],
        references=["가"],
        prompts=["뭐?"],
        ended=[True],
        token_ids=[[1, 2, 3, 4] * 4],
    )
    assert loop == {"repeats": 1.0}


def test_wrong_inputs_are_refused(classes: ModuleType) -> None:
    with pytest.raises(ValueError, match="Mismatch"):
        classes.Accuracy().compute(predictions=[0], references=[0, 1], num_labels=2)
    with pytest.raises(RecipeError, match="Unknown metric `acuracy`"):
        classes.load_metric("acuracy")


def test_more_than_one_process_writes_where_it_is_told(tmp_path: Path, classes: ModuleType) -> None:
    classes.Accuracy(cache_dir=str(tmp_path), num_process=2, process_id=0, experiment_id="one")
    assert [path.name for path in tmp_path.iterdir()] == ["accuracy"]


def test_it_is_quick(classes: ModuleType) -> None:
    rows = [index % 7 for index in range(20_000)]
    started = time.perf_counter()
    score = classes.MacroF1().compute(predictions=rows, references=rows, num_labels=7)
    assert score == {"macro_f1": 1.0}
    assert time.perf_counter() - started < 5.0
