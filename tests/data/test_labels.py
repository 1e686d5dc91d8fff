"""Labels as names, numbers, scores, lists and columns of 0 and 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from kft.data.formats import Dropped, label_names, to_records
from kft.data.labels import label_number, score
from kft.data.layouts import choose_layout
from kft.data.row import Row
from kft.errors import DataError
from kft.recipe.schema import DataSection
from kft.tasks.task import Record


def read(
    rows: Sequence[Mapping[str, Any]], label_as: Any, labels: Sequence[str] = (), **keys: Any
) -> list[Record | Dropped]:
    placed = [Row(fields, f"a.jsonl:{line}") for line, fields in enumerate(rows, start=1)]
    layout = choose_layout(placed[0], DataSection(train="a.jsonl", **keys))
    return list(to_records(placed, layout, labels=labels, label_as=label_as))


def names(rows: Sequence[Mapping[str, Any]], **options: Any) -> list[str]:
    placed = [Row(fields, f"a.jsonl:{line}") for line, fields in enumerate(rows, start=1)]
    return label_names(placed, choose_layout(placed[0], DataSection(train="a.jsonl")), **options)


PAIR = {"premise": "비가 온다", "hypothesis": "땅이 젖는다", "gold_label": "entailment"}


def test_a_pair_as_a_conversation_and_as_a_class() -> None:
    labels = ["contradiction", "entailment"]
    (said,) = read([PAIR], "answer", labels)
    question = {"role": "user", "content": "비가 온다", "input": "땅이 젖는다"}
    answer = {"role": "assistant", "content": "entailment"}
    assert said == Record("a.jsonl:1", messages=(question, answer), label=1)
    (classed,) = read([PAIR], "class", labels)
    assert classed == Record("a.jsonl:1", text="비가 온다", text_pair="땅이 젖는다", label=1)


def test_a_text_as_a_class() -> None:
    (record,) = read([{"text": "굳 ㅋ", "label": 1}], "class", ["부정", "긍정"])
    assert record == Record("a.jsonl:1", text="굳 ㅋ", label=1)
    (record,) = read([{"text": "굳", "label": "2"}], "class", ["1", "2"])
    assert record == Record("a.jsonl:1", text="굳", label=1)


def test_formats_without_labels_are_the_same() -> None:
    for label_as in ("answer", "class", "value"):
        (record,) = read([{"Q": "안녕", "A": "네"}], label_as)
        assert isinstance(record, Record)
        assert record.messages is not None


@pytest.mark.parametrize("cell", [3.5, "3.5", " 3.50 ", "35e-1"])
def test_a_score(cell: Any) -> None:
    row = {"sentence1": "가", "sentence2": "나", "score": cell}
    (record,) = read([row], "value")
    assert record == Record("a.jsonl:1", text="가", text_pair="나", value=3.5)
    (said,) = read([row], "answer")
    assert isinstance(said, Record)
    assert said.messages is not None
    assert said.messages[-1]["content"] == str(cell).strip()
    assert (said.value, said.label) == (3.5, None)


@pytest.mark.parametrize("cell", ["높음", "nan", "inf", "1,5", True and [1]])
def test_what_is_no_score(cell: Any) -> None:
    with pytest.raises(DataError, match="`score` is no number, got") as caught:
        read([{"sentence1": "가", "sentence2": "나", "score": cell}], "value")
    assert caught.value.where == "a.jsonl:1"


@pytest.mark.parametrize(
    ("cell", "hint"),
    [
        ("3,5", "Write `3.5`: the decimal sign is a point."),
        ("긍정", "`task: sequence_classification` learns labels that are words."),
        ([1], None),
    ],
)
def test_what_was_meant_by_what_is_no_score(cell: Any, hint: str | None) -> None:
    with pytest.raises(DataError, match="is no number, got") as caught:
        read([{"sentence1": "가", "sentence2": "나", "score": cell}], "value")
    assert caught.value.hint == hint


def test_a_score_is_no_class() -> None:
    with pytest.raises(DataError, match=r"Label `3.5` is a score, and a class is learned") as told:
        read([{"sentence1": "가", "sentence2": "나", "score": 3.5}], "class")
    assert told.value.hint == "`task: sequence_regression` learns scores."


def test_nested_labels() -> None:
    row = {
        "sentence1": "가",
        "sentence2": "나",
        "labels": {"label": 3.7, "real-label": 3.714, "binary-label": 1},
    }
    (record,) = read([row], "value")
    assert isinstance(record, Record)
    assert record.value == 3.7
    named = {"columns": {"label": "labels.binary-label"}}
    (record,) = read([row], "class", ["다름", "같음"], **named)
    assert isinstance(record, Record)
    assert record.label == 1
    with pytest.raises(DataError, match=r"Row has no `labels.binary-label`"):
        read([row, {**row, "labels": {"label": 1.0}}], "class", ["다름", "같음"], **named)


def test_names_of_labels() -> None:
    texts = [{"text": "가", "label": label} for label in ("중립", 2, "긍정", None, 10)]
    with pytest.raises(DataError, match="Labels are numbers, such as `2`") as caught:
        names(texts)
    assert caught.value.where == "a.jsonl:2"
    assert names(texts, numbers_are_names=True) == ["2", "10", "긍정", "중립"]
    scores = [{"text": "가", "label": label} for label in ("5.000", "2.4", 3)]
    assert names(scores) == names(scores, numbers_are_names=True) == []
    lists = [{"text": "가", "labels": ["욕설", "혐오"]}, {"text": "나", "labels": []}]
    assert names(lists) == ["욕설", "혐오"]


def test_lists_of_labels() -> None:
    rows = [
        {"text": "가", "labels": ["혐오", "욕설"]},
        {"text": "나", "labels": []},
        {"text": "다", "labels": [0]},
        {"text": "라", "labels": None},
    ]
    labels = ["욕설", "혐오"]
    first, second, third, fourth = read(rows, "class", labels)
    assert first == Record("a.jsonl:1", text="가", label_ids=(0, 1))
    assert second == Record("a.jsonl:2", text="나", label_ids=())
    assert third == Record("a.jsonl:3", text="다", label_ids=(0,))
    assert fourth == Dropped("a.jsonl:4", "empty `labels`")
    first, second, *_ = read(rows, "answer", labels)
    assert isinstance(first, Record)
    assert first.messages is not None
    assert first.messages[-1]["content"] == "욕설, 혐오"
    assert second == Dropped("a.jsonl:2", "no label that holds")


UNSMILE_LIKE = [
    {"문장": "가", "여성/가족": "0", "남성": "1", "악플/욕설": "1", "clean": "0"},
    {"문장": "나", "여성/가족": "0", "남성": "0", "악플/욕설": "0", "clean": "1"},
]


def test_a_column_for_each_label() -> None:
    layout = choose_layout(Row(UNSMILE_LIKE[0], "a.tsv:2"), DataSection(train="a.tsv"))
    assert layout.label_columns == ("여성/가족", "남성", "악플/욕설", "clean")
    assert layout.note == (
        "`classification`: text from `문장`, labels from `여성/가족`, `남성`, `악플/욕설`, ... "
        "(4 columns of 0 and 1)"
    )
    labels = names(UNSMILE_LIKE)
    assert labels == list(layout.label_columns)
    first, second = read(UNSMILE_LIKE, "class", labels)
    assert first == Record("a.jsonl:1", text="가", label_ids=(1, 2))
    assert second == Record("a.jsonl:2", text="나", label_ids=(3,))
    columns = {"text": "문장", "label": ["남성", "여성/가족"]}
    first, second = read(UNSMILE_LIKE, "class", ["남성", "여성/가족"], columns=columns)
    assert first == Record("a.jsonl:1", text="가", label_ids=(0,))
    assert second == Record("a.jsonl:2", text="나", label_ids=())
    with pytest.raises(DataError, match="`남성` is neither 0 nor 1, got `2`"):
        read([UNSMILE_LIKE[0], {**UNSMILE_LIKE[1], "남성": "2"}], "class", labels)


def test_columns_that_are_no_labels() -> None:
    for row in ({"text": "가", "id": 1, "n": 0}, {"text": "가", "a": 0, "b": 7}):
        layout = choose_layout(Row(row, "a.tsv:2"), DataSection(train="a.tsv"))
        assert (layout.format, layout.label_columns) == ("text", ())


def test_tokens_are_no_conversation() -> None:
    row = {"tokens": ["서울", "에"], "tags": ["B-LC", "O"]}
    with pytest.raises(DataError, match="Tags of tokens can't be an answer") as caught:
        read([row], "answer")
    assert "`task: token_classification`" in str(caught.value.expected)


def test_tokens_and_tags() -> None:
    rows = [
        {"tokens": ["서울", "에"], "ner_tags": [1, 0]},
        {"tokens": list("서울 에"), "ner_tags": ["LC-B", "LC-I", "-", "O"]},
        {"tokens": [], "ner_tags": []},
    ]
    labels = ["O", "B-LC", "I-LC"]
    first, second, third = read(rows, "class", labels)
    assert first == Record("a.jsonl:1", text="서울 에", tokens=("서울", "에"), tags=("B-LC", "O"))
    assert isinstance(second, Record)
    assert (second.text, second.tags) == ("서울 에", ("B-LC", "I-LC", "O", "O"))
    assert third == Dropped("a.jsonl:3", "empty `tokens`")
    with pytest.raises(DataError, match="The tags don't match the tokens"):
        read([rows[0], {"tokens": ["서울"], "ner_tags": [0, 0]}], "class", labels)
    with pytest.raises(DataError, match="`tokens` is not a list, got `서울`"):
        read([rows[0], {"tokens": "서울", "ner_tags": [0]}], "class", labels)


@pytest.mark.parametrize(
    ("cell", "whole", "number"),
    [("1", 1, 1.0), ("1.0", 1, 1.0), ("-2", -2, -2.0), (".5", None, 0.5), ("1e3", None, 1000.0)],
)
def test_numbers(cell: Any, whole: int | None, number: float) -> None:
    assert (label_number(cell), score(cell)) == (whole, number)
