"""The rows that a report shows as the furthest mistakes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from kft.api.mistakes import MOST, mistakes_of
from kft.tasks.task import Example, Record


def mistakes(
    kind: str | None, truths: list[Any], base: list[Any], tuned: list[Any], nats: list[float]
) -> list[dict[str, str]]:
    fields = {"labels": "label", "multilabels": "label_ids", "numbers": "value"}
    examples = [
        Example([0], [0], f"rows:{number}", "", **({fields[kind]: truth} if kind in fields else {}))
        for number, truth in enumerate(truths, 1)
    ]
    held_out: Any = SimpleNamespace(
        kind=lambda _: kind, examples=examples, labels=["부정", "긍정", "중립"]
    )
    rows: Any = SimpleNamespace(held_out=held_out, task=SimpleNamespace(name="task"))
    before: Any = SimpleNamespace(predicted=base)
    after: Any = SimpleNamespace(predicted=tuned, rows={"totals": nats})
    records = [Record(example.place, text=f"글 {n}") for n, example in enumerate(examples, 1)]
    return mistakes_of(rows, records[::-1], before, after)


def test_wrong_labels_by_their_loss() -> None:
    found = mistakes("labels", [0, 1, 1, 2], [0, 0, 1, 2], [1, 1, 0, 0], [0.9, 3.0, 4.0, 2.0])
    assert [row["place"] for row in found] == ["rows:3", "rows:4", "rows:1"]
    assert found[0] == {
        "place": "rows:3", "text": "글 3", "truth": "긍정", "base": "긍정", "tuned": "부정",
    }  # fmt: skip


def test_numbers_by_how_far_they_are_off() -> None:
    found = mistakes("numbers", [1.0, 2.0, 5.0], [0.0] * 3, [1.5, 2.0, 2.123456], [9.0, 8.0, 7.0])
    assert [(row["truth"], row["tuned"]) for row in found] == [("5", "2.12"), ("1", "1.5")]


def test_several_labels() -> None:
    truths = [[1, 0, 1], [0, 0, 0]]
    (found,) = mistakes("multilabels", truths, [[0, 0, 0]] * 2, [[1, 1, 0], [0, 0, 0]], [1.0, 2.0])
    assert (found["truth"], found["base"], found["tuned"]) == ("부정, 중립", "–", "부정, 긍정")


def test_few_are_shown_and_other_rows_have_none() -> None:
    many = [1] * (MOST + 5)
    assert len(mistakes("labels", many, many, [0] * len(many), [1.0] * len(many))) == MOST
    assert mistakes(None, [0], [0], [0], [1.0]) == mistakes("tags", [0], [0], [1], [1.0]) == []


@pytest.mark.parametrize("length", [10, 1000])
def test_a_long_text_is_cut(length: int) -> None:
    example = Example([0], [0], "rows:1", "", label=0)
    held_out: Any = SimpleNamespace(kind=lambda _: "labels", examples=[example], labels=["가"])
    rows: Any = SimpleNamespace(held_out=held_out, task=SimpleNamespace(name="task"))
    said: Any = SimpleNamespace(predicted=[1], rows={"totals": [1.0]})
    (found,) = mistakes_of(rows, [Record("rows:1", text="가" * length)], said, said)
    assert len(found["text"]) == min(length, 300)
    assert found["tuned"] == "1"  # a label without a name
