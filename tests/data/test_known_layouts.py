"""Files in the layouts that Korean data come in: small ones, and the real ones where they are."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from kft.data.formats import Dropped, label_names, to_records
from kft.data.layouts import choose_layout
from kft.data.rows import read_rows
from kft.data.sources import DataFile
from kft.recipe.schema import DataSection
from kft.tasks.task import Record


def jsonl(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def user(content: str, **more: str) -> dict[str, str]:
    return {"role": "user", "content": content, **more}


def assistant(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}


KORQUAD = {
    "version": "KorQuAD_v1.0_like",
    "data": [
        {
            "title": "한강",
            "paragraphs": [
                {
                    "context": "한강은 서울을 지난다.",
                    "qas": [
                        {
                            "id": "1-0",
                            "question": "한강이 지나는 곳은?",
                            "answers": [{"text": "서울", "answer_start": 5}],
                        },
                        {"id": "1-1", "question": "길이는?", "answers": []},
                    ],
                },
                {
                    "context": "한강에는 다리가 많다.",
                    "qas": [
                        {
                            "id": "2-0",
                            "question": "많은 것은?",
                            "answers": [{"text": "다리", "answer_start": 5}, {"text": "다"}],
                        }
                    ],
                },
            ],
        }
    ],
}

LAYOUTS: dict[str, tuple[str, str, str, list[tuple[dict[str, str], ...]]]] = {
    "KoAlpaca": (
        "a.jsonl",
        jsonl({"instruction": "양파는?", "output": "채소다.", "url": "https://kin.example"}),
        "`instruction`: instruction from `instruction`, output from `output`; `url` is not used",
        [(user("양파는?"), assistant("채소다."))],
    ),
    "KULLM v2": (
        "a.jsonl",
        jsonl({"id": "alpaca_1", "instruction": "더해라", "input": "1+1", "output": "2"}),
        "`instruction`: instruction from `instruction`, output from `output`, input from `input`; "
        "`id` is not used",
        [(user("더해라", input="1+1"), assistant("2"))],
    ),
    "KULLM v1 with instances": (
        "a.jsonl",
        jsonl(
            {
                "id": "user_1",
                "instruction": "번역해라",
                "instances": [
                    {"input": "apple", "output": "사과"},
                    {"input": "pear", "output": "배"},
                ],
            },
            {
                "id": "user_2",
                "instruction": "인사해라",
                "instances": [{"input": "", "output": "네"}],
            },
        ),
        "`instruction`: instruction from `instruction`, output from `output`, input from `input`; "
        "`id` is not used",
        [
            (user("번역해라", input="apple"), assistant("사과")),
            (user("번역해라", input="pear"), assistant("배")),
            (user("인사해라"), assistant("네")),
        ],
    ),
    "ShareGPT": (
        "a.json",
        json.dumps(
            [
                {
                    "id": "x",
                    "conversations": [
                        {"from": "human", "value": "안녕"},
                        {"from": "gpt", "value": "네"},
                    ],
                }
            ]
        ),
        "`messages`: messages from `conversations`; `id` is not used",
        [(user("안녕"), assistant("네"))],
    ),
    "OpenAI messages": (
        "a.jsonl",
        jsonl(
            {
                "messages": [
                    {"role": "developer", "content": "짧게"},
                    {"role": "user", "content": [{"type": "text", "text": "날씨"}]},
                    {"role": "assistant", "content": "찾아볼게요"},
                    {"role": "tool", "content": "맑음", "tool_call_id": "1"},
                    {"role": "assistant", "content": "맑아요"},
                ]
            }
        ),
        "`messages`: messages from `messages`",
        [
            (
                {"role": "system", "content": "짧게"},
                user("날씨"),
                assistant("찾아볼게요"),
                {"role": "tool", "content": "맑음"},
                assistant("맑아요"),
            )
        ],
    ),
    "Alpaca": (
        "a.json",
        json.dumps(
            [{"instruction": "더해라", "input": "", "output": "2", "text": "Below is ..."}],
            indent=2,
        ),
        "`instruction`: instruction from `instruction`, output from `output`, input from `input`; "
        "`text` is not used",
        [(user("더해라"), assistant("2"))],
    ),
    "KorQuAD": (
        "a.json",
        json.dumps(KORQUAD, ensure_ascii=False),
        "`instruction`: instruction from `question`, output from `answer`, input from `context`; "
        "`title`, `id` are not used",
        [
            (user("한강이 지나는 곳은?", input="한강은 서울을 지난다."), assistant("서울")),
            (user("많은 것은?", input="한강에는 다리가 많다."), assistant("다리")),
        ],
    ),
    "KorQuAD as on the hub": (
        "a.jsonl",
        jsonl(
            {
                "id": "1",
                "title": "한강",
                "context": "한강은 서울을 지난다.",
                "question": "어디?",
                "answers": {"text": ["서울"], "answer_start": [5]},
            }
        ),
        "`instruction`: instruction from `question`, output from `answer`, input from `context`; "
        "`id`, `title` are not used",
        [(user("어디?", input="한강은 서울을 지난다."), assistant("서울"))],
    ),
    "KoChatGPT": (
        "a.jsonl",
        '[\n  {"prompt": "불고기용 고기?", "completion": "한우입니다", "tokens": 3}\n]',
        "`prompt_completion`: prompt from `prompt`, completion from `completion`; "
        "`tokens` is not used",
        [(user("불고기용 고기?"), assistant("한우입니다"))],
    ),
    "a marked csv with Korean names": (
        "a.csv",
        "\ufeff번호,질문,답변\r\n1,안녕,네\r\n",
        "`prompt_completion`: prompt from `질문`, completion from `답변`; `번호` is not used",
        [(user("안녕"), assistant("네"))],
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_is_known(tmp_path: Path, name: str) -> None:
    file, content, note, expected = LAYOUTS[name]
    path = tmp_path / file
    path.write_text(content, encoding="utf-8", newline="")
    rows = list(read_rows(path))
    layout = choose_layout(rows[0], DataSection(train=str(path)))
    assert layout.note == note
    records = [record for record in to_records(rows, layout) if isinstance(record, Record)]
    assert [record.messages for record in records] == expected


def test_places_of_rows_inside_of_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(KORQUAD), encoding="utf-8")
    rows = list(read_rows(path))
    assert [row.place for row in rows] == [
        f"{path}:1",
        f"{path}:1, question 2",
        f"{path}:1, question 3",
    ]
    layout = choose_layout(rows[0], DataSection(train=str(path)))
    _, empty, _ = to_records(rows, layout)
    assert empty == Dropped(f"{path}:1, question 2", "empty `answer`")
    lines = tmp_path / "a.jsonl"
    lines.write_text(LAYOUTS["KULLM v1 with instances"][1], encoding="utf-8")
    places = [row.place for row in read_rows(lines)]
    assert places == [f"{lines}:1", f"{lines}:1, instance 2", f"{lines}:2"]


def test_columns_are_chosen_by_name_in_each_file(tmp_path: Path) -> None:
    contents = {
        "train.tsv": "ID\tText\tLabel\n1\t좋아요\t1\n",
        "dev.tsv": "ID\tLabel\tText\n1\t0\t별로예요\n",
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    read: list[Any] = []
    for name in contents:
        rows = list(read_rows(tmp_path / name))
        layout = choose_layout(rows[0], DataSection(train=name, format="classification"))
        read += to_records(rows, layout, labels=["부정", "긍정"], label_as="class")
    assert [(record.text, record.label) for record in read] == [("좋아요", 1), ("별로예요", 0)]


def test_the_recipe_wins_over_what_is_known(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(jsonl({"sentence1": "가", "sentence2": "나", "label": 1}), encoding="utf-8")
    (row,) = read_rows(path)
    columns = {"prompt": "sentence1", "completion": "sentence2"}
    layout = choose_layout(row, DataSection(train="a", columns=columns))
    assert layout.note == (
        "`prompt_completion`: prompt from `sentence1`, completion from `sentence2`; "
        "`label` is not used"
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("sentence1", "sentence2"),
        ("premise", "hypothesis"),
        ("question1", "question2"),
        ("paragraph", "question"),
        ("context_1", "context_2"),
    ],
)
def test_pairs_are_known_by_both_names(first: str, second: str) -> None:
    from kft.data.row import Row

    row = Row({second: "나", first: "가", "label": "같음"}, "a.jsonl:1")
    layout = choose_layout(row, DataSection(train="a"))
    assert layout.format == "pairs"
    assert layout.columns == {"text": first, "text_pair": second, "label": "label"}


# Rows, format, labels, and how many are left out; the labels are those of the files.
NLI = ["contradiction", "entailment", "neutral"]
REAL: dict[str, tuple[int, str, list[str], int]] = {
    "nsmc/ratings_train.txt": (150_000, "classification", ["0", "1"], 5),
    "nsmc/ratings_test.txt": (50_000, "classification", ["0", "1"], 3),
    "kornli/xnli.dev.ko.tsv": (2_490, "pairs", NLI, 0),
    "kornli/xnli.test.ko.tsv": (5_010, "pairs", NLI, 0),
    "klue/klue-nli-v1.1_dev.json": (3_000, "pairs", NLI, 0),
    "korsts/sts-train.tsv": (5_749, "pairs", [], 0),
    "korsts/sts-dev.tsv": (1_500, "pairs", [], 0),
    "korsts/sts-test.tsv": (1_379, "pairs", [], 0),
    "klue/klue-sts-v1.1_dev.json": (519, "pairs", [], 0),
}


@pytest.mark.parametrize("file", REAL)
def test_real_labelled_files(real_data: Path, file: str) -> None:
    num_rows, format_, labels, num_dropped = REAL[file]
    rows = list(read_rows(DataFile(real_data / "data" / file)))
    layout = choose_layout(rows[0], DataSection(train=file))
    assert (len(rows), layout.format) == (num_rows, format_)
    if not file.endswith(".json"):  # a header, and one row per line
        assert rows[-1].place.endswith(f"{file}:{num_rows + 1}")
    assert label_names(rows, layout, numbers_are_names=True) == labels
    label_as = "class" if labels else "value"
    records = list(to_records(rows, layout, labels=labels, label_as=label_as))
    kept = [record for record in records if isinstance(record, Record)]
    assert len(records) - len(kept) == num_dropped
    assert all(record.text for record in kept)
    if format_ == "pairs":
        assert all(record.text_pair for record in kept)
    if labels:
        assert set(Counter(record.label for record in kept)) == set(range(len(labels)))
    else:
        assert all(record.value is not None and 0 <= record.value <= 5 for record in kept)


def test_real_entities(real_data: Path) -> None:
    rows = list(read_rows(real_data / "data" / "klue" / "klue-ner-v1.1_dev.tsv"))
    layout = choose_layout(rows[0], DataSection(train="ner.tsv"))
    assert (len(rows), layout.format) == (5_000, "tokens")
    kinds = ("DT", "LC", "OG", "PS", "QT", "TI")
    names = ["O", *(f"{side}-{kind}" for kind in kinds for side in "BI")]
    assert label_names(rows, layout) == names
    records = list(to_records(rows, layout, label_as="class"))
    first = records[0]
    assert isinstance(first, Record)
    assert first.tokens is not None
    assert first.tags is not None
    assert first.text == "".join(first.tokens)
    assert first.tokens[:3] == ("경", "찰", "은")
    assert first.tags[:3] == ("B-OG", "I-OG", "O")
    assert " " in first.tokens
