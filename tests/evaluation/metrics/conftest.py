"""Inputs for every kind of metric; and no test of a metric may reach for a network."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, NoReturn

import pytest

from kft.evaluation.metrics.generations import Generation, answer_hash

TRUE: dict[str, list[Any]] = {
    "labels": [0, 1, 2, 1, 0, 2, 2, 1],
    "multilabels": [[1, 0], [0, 1], [1, 1], [0, 0], [1, 0], [1, 1], [0, 1], [1, 0]],
    "numbers": [0.5, 1.0, 4.0, 2.5, 3.0, 0.0, 5.0, 1.5],
    "tags": [["B-PS", "I-PS", "O"], ["O", "B-LC", "O"]] * 4,
    "texts": ["서울에 갑니다", "밥을 먹어요", "네 좋아요", "날씨가 참 좋다"] * 2,
}
WRONG: dict[str, list[Any]] = {
    "labels": [1, 2, 0, 1, 2, 2, 0, 1],
    "multilabels": [[0, 0], [0, 1], [0, 1], [1, 0], [1, 0], [0, 0], [0, 1], [0, 0]],
    "numbers": [2.0, 1.0, 1.0, 3.5, 2.0, 3.0, 2.0, 1.0],
    "tags": [["B-LC", "I-PS", "O"], ["O", "B-LC", "B-PS"]] * 4,
    "texts": ["부산에 갑니다", "밥을 굶어요", "싫어요", "날씨가 좋다"] * 2,
}


def generations(*, good: bool) -> list[Generation]:
    """Answers that end and are right, or that go round in all the scripts there are."""
    if good:
        return [Generation("네", "좋아?", True, "네")] * 4
    bad = Generation("天 a か ж " * 4, "좋아?", False, "네")
    return [
        bad,
        bad,
        Generation(" ", "좋아?", False, "네"),
        Generation("싫어요", "좋아?", True, "네"),
    ]


def inputs(kind: str, *, good: bool) -> dict[str, Any]:
    """Everything a metric of that kind may need."""
    if kind == "generations":
        return {
            "generations": generations(good=good),
            "training_answers": {answer_hash("싫어요"), answer_hash("네")},
        }
    if kind == "nats":
        return {
            "nats": [1.0, 2.0, 0.5, 3.0] if good else [9.0, 8.0, 7.0, 6.0],
            "num_targets": [3, 4, 2, 5],
            "texts": TRUE["texts"][:4],
        }
    predictions = TRUE[kind] if good else WRONG[kind]
    return {"predictions": predictions, "references": TRUE[kind], "num_labels": 3}


@pytest.fixture(scope="session")
def metric_inputs() -> Callable[..., dict[str, Any]]:
    """`metric_inputs(kind, good=True)` -> all that a metric of the kind needs, right or wrong."""
    return inputs


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connecting, and asking for an address, raise."""

    def refuse(*args: Any, **options: Any) -> NoReturn:
        raise AssertionError(f"a metric reached for the network: {args[-1]!r}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
