"""Rows that hold several: an instruction's instances, the questions on a document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kft.data.row import Row

NESTS = frozenset({"instances", "paragraphs", "answers"})
"""Columns that may hold further rows, or an answer inside a mapping."""


def unnested(row: Row) -> Iterator[Row]:
    """The rows that a row holds, or the row itself.

    ``instances`` (KULLM v1, Self-Instruct) gives a row per instance. ``paragraphs`` with ``qas``
    (KorQuAD, SQuAD) gives a row per question; it and a flat row with ``question`` and
    ``answers`` get the first answer's text as ``answer``.

    Example:
        >>> row = Row({"instruction": "더해", "instances": [{"input": "1", "output": "2"}]}, "a:1")
        >>> [dict(inner.fields) for inner in unnested(row)]
        [{'instruction': '더해', 'input': '1', 'output': '2'}]
    """
    fields = row.fields
    if "instances" in fields and _are_objects(fields["instances"]):
        rest = {name: value for name, value in fields.items() if name != "instances"}
        for number, instance in enumerate(fields["instances"], start=1):
            place = row.place if number == 1 else f"{row.place}, instance {number}"
            yield row._replace(fields={**rest, **instance}, place=place)
    elif "paragraphs" in fields and _are_objects(fields["paragraphs"]):
        questions = _questions(fields)
        for number, question in enumerate(questions, start=1):
            place = row.place if number == 1 else f"{row.place}, question {number}"
            yield row._replace(fields=_with_answer(question), place=place)
    elif "answers" in fields and "question" in fields and "answer" not in fields:
        yield row._replace(fields=_with_answer(fields))
    else:
        yield row


def _are_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(o, dict) for o in value)


def _questions(document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    title = {"title": document["title"]} if "title" in document else {}
    for paragraph in document["paragraphs"]:
        about = {name: value for name, value in paragraph.items() if name != "qas"}
        inner = paragraph.get("qas")
        if _are_objects(inner):
            yield from ({**title, **about, **question} for question in inner or ())


def _with_answer(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """The row with the first answer, in SQuAD's form or in the hub's, as ``answer``."""
    answers = fields.get("answers")
    if isinstance(answers, Mapping):
        texts = answers.get("text")
        answer = texts[0] if isinstance(texts, list) and texts else None
    elif isinstance(answers, list):
        first = answers[0] if answers else None
        answer = first.get("text") if isinstance(first, Mapping) else first
    else:
        return fields
    rest = {name: value for name, value in fields.items() if name != "answers"}
    return {**rest, "answer": answer}
