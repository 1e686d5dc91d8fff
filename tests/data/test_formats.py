from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kft.data.column_names import FORMATS, KNOWN_NAMES
from kft.data.formats import Dropped, label_names, to_records
from kft.data.layouts import Layout, choose_layout, detect_format
from kft.data.rows import Row, read_rows
from kft.errors import DataError
from kft.recipe.schema import DataSection, Format, Role
from kft.tasks.task import Record

NAMES = ["부정", "긍정"]
CORRECT = "Correct the row, or add the label to `data.labels`."


def section(**keys: Any) -> DataSection:
    return DataSection(train="rows.jsonl", **keys)


def layout_of(fields: Mapping[str, Any], **keys: Any) -> Layout:
    return choose_layout(Row(fields, "rows.jsonl:1"), section(**keys))


def read(
    *rows: Mapping[str, Any], labels: Sequence[str] = (), form: str = "NFC", **keys: Any
) -> list[Record | Dropped]:
    """Records of rows whose places are `rows.jsonl:1`, `:2`, ..."""
    placed = [Row(fields, f"rows.jsonl:{line}") for line, fields in enumerate(rows, start=1)]
    layout = choose_layout(placed[0], section(**keys))
    return list(to_records(placed, layout, labels=labels, normalization=form))


def messages_of(record: Record | Dropped) -> list[dict[str, str]]:
    assert isinstance(record, Record)
    assert record.messages is not None
    return [dict(message) for message in record.messages]


def error_of(*rows: Mapping[str, Any], **keys: Any) -> DataError:
    with pytest.raises(DataError) as caught:
        read(*rows, **keys)
    assert caught.value.exit_code == 2
    return caught.value


def user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def assistant(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}


def test_formats_and_roles_are_those_of_the_schema() -> None:
    assert {"auto", *FORMATS} == set(get_args(Format))
    roles = {role for required, optional in FORMATS.values() for role in required + optional}
    assert roles == set(get_args(Role)) == set(KNOWN_NAMES)


TURNS = [user("안녕"), assistant("반가워요")]


@pytest.mark.parametrize(
    ("fields", "format_", "columns"),
    [
        ("instruction output url", "instruction", "instruction=instruction output=output"),
        (  # KULLM v2
            "id instruction input output",
            "instruction",
            "instruction=instruction output=output input=input",
        ),
        (  # Alpaca on the hub has a `text` as well
            "instruction input output text",
            "instruction",
            "instruction=instruction output=output input=input",
        ),
        (  # Dolly
            "instruction context response category",
            "instruction",
            "instruction=instruction output=response input=context",
        ),
        ("Q A label", "prompt_completion", "prompt=Q completion=A"),
        ("id document label", "classification", "text=document label=label"),
        ("guid title label", "classification", "text=title label=label"),
        ("ID Text Label", "classification", "text=Text label=Label"),
        ("ID Label Text", "classification", "text=Text label=Label"),
        ("prompt completion", "prompt_completion", "prompt=prompt completion=completion"),
        ("Prompt Response", "prompt_completion", "prompt=Prompt completion=Response"),
        ("question answer", "prompt_completion", "prompt=question completion=answer"),
        ("input output", "prompt_completion", "prompt=input completion=output"),
        (
            "system prompt completion",
            "prompt_completion",
            "prompt=prompt completion=completion system=system",
        ),
        ("질문 답변", "prompt_completion", "prompt=질문 completion=답변"),
        ("문장 레이블", "classification", "text=문장 label=레이블"),
        ("리뷰 라벨", "classification", "text=리뷰 label=라벨"),
        ("내용", "text", "text=내용"),
        ("텍스트 출처", "text", "text=텍스트"),
        ("리뷰", "text", "text=리뷰"),
        ("text", "text", "text=text"),
        (" TEXT ", "text", "text= TEXT "),
    ],
)
def test_known_columns(fields: str, format_: str, columns: str) -> None:
    names = [fields] if fields == " TEXT " else fields.split()
    layout = layout_of(dict.fromkeys(names, "가"))
    assert layout.format == format_ == detect_format(names, {})
    pairs = [columns] if fields == " TEXT " else columns.split()
    assert dict(layout.columns) == dict(pair.split("=") for pair in pairs)


@pytest.mark.parametrize("column", ["messages", "conversations"])
def test_known_columns_of_conversations(column: str) -> None:
    for value in (TURNS, json.dumps(TURNS)):
        assert layout_of({"id": 1, column: value}).format == "messages"


def test_decomposed_column_names() -> None:
    fields = {unicodedata.normalize("NFD", name): "가" for name in ("질문", "답변")}
    assert layout_of(fields).format == "prompt_completion"
    named = layout_of(fields, columns={"prompt": "질문", "completion": "답변"})
    assert set(named.columns.values()) == set(fields)


def test_the_note_says_what_was_chosen() -> None:
    note = layout_of({"Q": "가", "A": "나"}).note
    assert note == "`prompt_completion`: prompt from `Q`, completion from `A`"
    note = layout_of({"id": 1, "document": "가", "label": 0, "": 3}).note
    assert note == "`classification`: text from `document`, label from `label`; `id` is not used"
    note = layout_of({"instruction": "가", "output": "나", "url": "", "id": 1}).note
    assert note.endswith("output from `output`; `url`, `id` are not used")


@pytest.mark.parametrize(
    "fields",
    [
        {"sentence1": "가", "sentence2": "나", "split": "neutral"},
        {"comments": "가", "bias": "none", "hate": "none"},
        {"context": "가", "question": "나", "answer": {"text": ["다"]}},
        {"messages": "안녕"},
        {"prompt": TURNS, "completion": TURNS},
        {"id": 1},
    ],
)
def test_unknown_columns_are_listed(fields: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="Can't tell the format") as caught:
        layout_of(fields)
    assert caught.value.where == "rows.jsonl:1"
    assert all(f"`{name}`" in caught.value.what for name in fields)
    assert caught.value.hint is not None
    assert "`data.format: " in caught.value.hint
    assert "`data.columns: {" in caught.value.hint


def test_a_row_without_columns() -> None:
    with pytest.raises(DataError, match="The row has no columns"):
        layout_of({})


def test_the_message_for_unknown_columns() -> None:
    with pytest.raises(DataError) as caught:
        layout_of({"src": "가", "tgt": "나"})
    assert str(caught.value) == (
        "error: Can't tell the format from the columns `src`, `tgt`\n"
        "  --> rows.jsonl:1\n"
        "  expected: columns such as `prompt` and `completion`; `instruction` and `output`; "
        "`messages`; `text` and `label`; `sentence1`, `sentence2` and `label`; "
        "`tokens` and `tags`; `text`\n"
        "\n"
        "hint: Say it, such as `data.format: prompt_completion` and "
        "`data.columns: {prompt: src, completion: tgt}`."
    )


def test_the_recipe_wins() -> None:
    row = {"instruction": "가", "output": "나", "text": "다", "label": "라"}
    assert layout_of(row, format="text").columns == {"text": "text"}
    assert layout_of(row, format="classification").columns == {"text": "text", "label": "label"}
    assert layout_of(row, format="prompt_completion").columns == {
        "prompt": "instruction",
        "completion": "output",
    }
    swapped = layout_of(row, columns={"instruction": "output", "output": "instruction"})
    assert swapped.columns == {"instruction": "output", "output": "instruction"}
    guessed = layout_of(row, columns={"prompt": "text", "completion": "output"})
    assert guessed.format == "prompt_completion"
    hate = {"comments": "가", "bias": "none", "hate": "none"}
    assert layout_of(hate, columns={"label": "hate"}).columns == {
        "text": "comments",
        "label": "hate",
    }
    assert layout_of(hate, columns={"text": "comments"}).format == "text"


@pytest.mark.parametrize(
    ("keys", "what", "hint"),
    [
        (
            {"columns": {"prompt": "질뮨", "completion": "답변"}},
            "`data.columns.prompt` names `질뮨`, and there is no such column",
            "Did you mean `질문`?",
        ),
        (
            {"format": "instruction"},
            "No column for the role `instruction` of format `instruction`",
            "Name it: `data.columns: {instruction: ...}`.",
        ),
        (
            {"format": "text", "columns": {"text": "답변", "label": "번호"}},
            "Format `text` has no role `label`",
            None,
        ),
    ],
)
def test_wrong_names_in_the_recipe(keys: dict[str, Any], what: str, hint: str | None) -> None:
    with pytest.raises(DataError) as caught:
        layout_of({"질문": "가", "답변": "나", "번호": 1}, **keys)
    assert (caught.value.what, caught.value.hint) == (what, hint)


def test_text() -> None:
    assert read({"text": " 아 더빙.. \n"}) == [Record("rows.jsonl:1", text=" 아 더빙.. \n")]


def test_prompt_completion() -> None:
    first, second = read(
        {"prompt": "안녕", "completion": "반가워요"},
        {"prompt": "가", "completion": "나", "system": "짧게 답해."},
    )
    assert first == Record("rows.jsonl:1", messages=(user("안녕"), assistant("반가워요")))
    system = {"role": "system", "content": "짧게 답해."}
    assert messages_of(second) == [system, user("가"), assistant("나")]


def test_instruction() -> None:
    plain, blank, full = read(
        {"instruction": "요약해", "output": "나"},
        {"instruction": "요약해", "output": "나", "input": " ", "system": ""},
        {"instruction": "요약해", "output": "나", "input": "긴 글", "system": "너는 기자다"},
    )
    assert messages_of(plain) == messages_of(blank) == [user("요약해"), assistant("나")]
    assert messages_of(full) == [
        {"role": "system", "content": "너는 기자다"},
        {"role": "user", "content": "요약해", "input": "긴 글"},
        assistant("나"),
    ]


def test_a_column_serves_one_role() -> None:
    columns = {"instruction": "input", "output": "output"}
    (record,) = read({"input": "가", "output": "나"}, format="instruction", columns=columns)
    assert messages_of(record) == [user("가"), assistant("나")]


@pytest.mark.parametrize(
    ("cell", "index"),
    [
        (0, 0),
        (1, 1),
        ("1", 1),
        (" 0 ", 0),
        ("1.0", 1),
        (1.0, 1),
        (True, 1),
        ("긍정", 1),
        (" 부정", 0),
    ],
)
def test_labels(cell: Any, index: int) -> None:
    (record,) = read({"text": "굳 ㅋ", "label": cell}, labels=NAMES)
    assert isinstance(record, Record)
    assert messages_of(record) == [user("굳 ㅋ"), assistant(NAMES[index])]
    assert record.label == index


@pytest.mark.parametrize("cell", [1, "1", 1.0, "1.0", " 1.00"])
def test_labels_whose_names_are_numbers(cell: Any) -> None:
    (record,) = read({"text": "가", "label": cell}, labels=["1", "2"])
    assert isinstance(record, Record)
    assert (record.label, messages_of(record)[1]["content"]) == (0, "1")


@pytest.mark.parametrize(
    ("cell", "labels", "what", "hint"),
    [
        (2, NAMES, "Label `2` has no name", "Labels count from 0. Where the file's begin at 1"),
        (3, NAMES, "Label `3` has no name", "Labels count from 0. Name them"),
        (0, ["1", "2", "3"], "Unknown label `0`", CORRECT),  # no position: the names are numbers
        ("1", ["0", "기타"], "Unknown label `1`", CORRECT),
        ("-1", NAMES, "Label `-1` has no name", "Labels count from 0. Name them"),
        ("9" * 400, NAMES, f"Unknown label `{'9' * 400}`", CORRECT),
        ("긍정적", NAMES, "Unknown label `긍정적`", "Did you mean `긍정`?"),
        ("중립", NAMES, "Unknown label `중립`", CORRECT),
        ("긍정", [], "Unknown label `긍정`", CORRECT),
        ({"label": 1}, NAMES, '`label` is not text, got `{"label": 1}`', None),
        (0.5, NAMES, "`label` is not text, got `0.5`", None),
    ],
)
def test_wrong_labels(cell: Any, labels: list[str], what: str, hint: str | None) -> None:
    keys = {"format": "classification", "columns": {"text": "text", "label": "label"}}
    error = error_of({"text": "가", "label": cell}, labels=labels, **keys)
    assert (error.what, error.where) == (what, "rows.jsonl:1")
    assert (error.hint is None) == (hint is None)
    assert (hint or "") in (error.hint or "")


def test_label_names_are_the_sorted_texts() -> None:
    cells = ["부정", "긍정 ", None, "긍정", unicodedata.normalize("NFD", "부정"), ""]
    rows = [Row({"text": "가", "label": cell}, f"a.csv:{n}") for n, cell in enumerate(cells, 2)]
    layout = choose_layout(rows[0], section())
    assert label_names(rows, layout) == ["긍정", "부정"]
    assert len(label_names(rows, layout, normalization="none")) == 3


@pytest.mark.parametrize("cell", [0, "1", 2.0])
def test_numbers_need_names(cell: Any) -> None:
    rows = [Row({"text": "가", "label": cell}, "a.csv:2")]
    with pytest.raises(DataError, match="Labels are numbers") as caught:
        label_names(rows, choose_layout(rows[0], section()))
    assert caught.value.where == "a.csv:2"
    assert "`data.labels: [부정, 긍정]`" in str(caught.value.hint)


def test_conversations() -> None:
    system = {"role": "system", "content": "짧게"}
    turns = [system, *TURNS, user("또"), assistant("네")]
    sharegpt = [
        {"from": "system", "value": "짧게"},
        {"from": "human", "value": "안녕"},
        {"from": "gpt", "value": "반가워요"},
        {"from": "user", "value": "또", "weight": 1},
        {"from": "assistant", "value": "네"},
    ]
    for row in ({"messages": turns}, {"messages": json.dumps(turns)}, {"conversations": sharegpt}):
        (record,) = read(row)
        assert messages_of(record) == turns


def test_turns_after_the_last_answer_are_cut() -> None:
    (record,) = read({"messages": [*TURNS, user("그리고?")]})
    assert messages_of(record) == TURNS


@pytest.mark.parametrize(
    ("turns", "what"),
    [
        ([user("안녕")], "The conversation has no answer to learn"),
        ([{"role": "robot", "content": "1"}], "Turn 1 has the unknown role `robot`"),
        ([user("1"), {"from": "bot", "value": "1"}], "Turn 2 has the unknown role `bot`"),
        ([{"role": "user"}], 'Turn 1 is not a role and its content, got `{"role": "user"}`'),
        (["안녕"], "Turn 1 is not a role and its content, got `안녕`"),
        ([*TURNS, assistant(None)], "`content` is not text, got `null`"),  # type: ignore[arg-type]
        ([user(["안녕"])], '`content` is not text, got `["안녕"]`'),  # type: ignore[arg-type]
        ("[{'role': 'user'}]", "The conversation is not JSON: Expecting property name"),
        ({"role": "user"}, "The conversation is not a list of turns"),
        ('"안녕"', "The conversation is not a list of turns, got `안녕`"),
    ],
)
def test_wrong_conversations(turns: Any, what: str) -> None:
    error = error_of({"messages": TURNS}, {"messages": turns})
    assert error.what.startswith(what)
    assert (error.where, error.expected is not None) == ("rows.jsonl:2", True)


@pytest.mark.parametrize(
    ("turn", "hint"),
    [
        ({"role": "asistant", "content": "1"}, "Did you mean `assistant`?"),
        ({"role": "User", "content": "1"}, "Did you mean `user`?"),
        ({"role": "user", "contnt": "1"}, "Did you mean `content` by `contnt`?"),
        ({"form": "human", "value": "1"}, "Did you mean `from` by `form`?"),
        ({"role": "r2d2", "content": "1"}, None),
        ({"x": 1}, None),
    ],
)
def test_a_misspelt_turn_is_understood(turn: Any, hint: str | None) -> None:
    assert error_of({"messages": TURNS}, {"messages": [turn]}).hint == hint


@pytest.mark.parametrize("empty", [None, "", "  \n", float("nan"), "\u3000"])
@pytest.mark.parametrize(
    "row",
    [
        {"text": "가"},
        {"prompt": "가", "completion": "나"},
        {"instruction": "가", "output": "나"},
        {"document": "가", "label": "긍정"},
        {"messages": TURNS},
    ],
)
def test_empty_cells_drop_the_row(row: dict[str, Any], empty: Any) -> None:
    for column in row:
        kept, dropped = read(row, {**row, column: empty}, labels=NAMES)
        assert isinstance(kept, Record)
        assert dropped == Dropped("rows.jsonl:2", f"empty `{column}`")


def test_empty_turns_drop_the_row() -> None:
    _, no_turns, no_answer = read(
        {"messages": TURNS}, {"messages": []}, {"messages": [user("안녕"), assistant(" ")]}
    )
    assert no_turns == Dropped("rows.jsonl:2", "empty `messages`")
    assert no_answer == Dropped("rows.jsonl:3", "empty turn of `assistant`")


def test_a_missing_key_is_an_error() -> None:
    error = error_of({"prompt": "가", "completion": "나"}, {"prompt": "가", "completoin": "나"})
    assert str(error) == (
        "error: Row has no `completion`\n"
        "  --> rows.jsonl:2\n"
        "  expected: `completion` (completion), as in the first row; got `prompt`, `completoin`\n"
        "\n"
        "hint: Rename `completoin` to `completion`."
    )
    error = error_of({"instruction": "가", "output": "나"}, {"instruction": "가"})
    assert error.hint == "Add `output`, or leave the row out."


def test_numbers_are_text_only_where_the_writer_chose_the_type(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pyarrow.table({"prompt": ["1+1"], "completion": [2], "system": [None]})
    pyarrow.parquet.write_table(table, path)
    rows = list(read_rows(path))
    (record,) = to_records(rows, choose_layout(rows[0], section()))
    assert messages_of(record) == [user("1+1"), assistant("2")]
    error = error_of({"prompt": "1+1", "completion": 2})
    assert error.what == "`completion` is not text, got `2`"
    for nested in ({"a": 1}, ["가"], True):
        error = error_of(
            {"prompt": "가", "completion": "나"}, {"prompt": "가", "completion": nested}
        )
        assert error.where == "rows.jsonl:2"


def test_half_of_a_surrogate_pair() -> None:
    error = error_of({"text": json.loads('"가\\ud83d"')})
    assert error.what == "`text` holds half of a surrogate pair, `\\ud83d`"


def test_normalization() -> None:
    decomposed = unicodedata.normalize("NFD", "한국어") + " ㅋㅋ ① ＡＢ"
    (record,) = read({"text": decomposed})
    assert record == Record("rows.jsonl:1", text="한국어 ㅋㅋ ① ＡＢ")
    (record,) = read({"text": decomposed}, form="none")
    assert record == Record("rows.jsonl:1", text=decomposed)
    (record,) = read(
        {"text": "가", "label": unicodedata.normalize("NFD", "긍정")}, labels=["부정", "긍정"]
    )
    assert isinstance(record, Record)
    assert record.label == 1


@given(prompt=st.text(), completion=st.text())
def test_any_text_arrives_as_it_was(prompt: str, completion: str) -> None:
    (record,) = read({"prompt": prompt, "completion": completion}, form="none")
    if prompt.strip() and completion.strip():
        assert messages_of(record) == [user(prompt), assistant(completion)]
    else:
        assert isinstance(record, Dropped)


def test_real_reviews(real_data: Path) -> None:
    rows = list(read_rows(real_data / "data" / "nsmc" / "ratings_test.txt"))
    layout = choose_layout(rows[0], section())
    assert (layout.format, layout.columns["text"]) == ("classification", "document")
    records = list(to_records(rows, layout, labels=NAMES))
    dropped = [record for record in records if isinstance(record, Dropped)]
    assert {record.reason for record in dropped} == {"empty `document`"}
    assert (len(dropped), len(records)) == (3, 50_000)
    kept = Counter(record.label for record in records if isinstance(record, Record))
    in_file = Counter(int(row.fields["label"]) for row in rows if row.fields["document"])
    assert kept == in_file


@pytest.mark.parametrize(
    ("file", "format_", "count"),
    [
        ("chatbot/ChatbotData.csv", "prompt_completion", 11_823),
        ("kullm/kullm-v1.jsonl", "instruction", 252),
    ],
)
def test_real_dialogues(real_data: Path, file: str, format_: str, count: int) -> None:
    rows = list(read_rows(real_data / "data" / file))
    layout = choose_layout(rows[0], section())
    assert layout.format == format_
    records = list(to_records(rows, layout))
    assert sum(isinstance(record, Record) for record in records) == count
