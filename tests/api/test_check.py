"""`kft check`: sections, findings, shown rows, the mended copy; and what of it stops a run."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

import kft
from kft.api.observer import Silent
from kft.api.records import RecordTexts
from kft.api.row_report import report_on_rows
from kft.api.shown_rows import shown_row
from kft.api.token_report import rendering_findings, step_findings
from kft.data.batches import WindowPlan
from kft.errors import DataError, Finding
from kft.tasks.task import Example, Record, Rendered

if TYPE_CHECKING:
    from conftest import RecipeFile, WriteJsonl

BAD = [
    {"text": "\u1112\u1161\u11ab\u200b글 &amp; 영어", "label": "긍정", "id": 1},
    {"text": "\u110f\u110f 좋다\xa0", "label": "긍정", "id": 2},
    {"text": "\u3164", "label": "부정", "id": 3},
    {"text": "안녕하세요".encode().decode("latin-1"), "label": "부정", "id": 4},
    {"text": "안녕하세요", "label": "부정", "id": 5},
    {"text": "ＡＢＣ ㅋㅋㅋㅋㅋ\x1b[0m ﾻﾻ", "label": "부정", "id": 6},
]
CLEAN = [
    {"text": "한글 & 영어", "label": "긍정", "id": 1},
    {"text": "ㅋㅋ 좋다 ", "label": "긍정", "id": 2},
    {"text": "안녕하세요", "label": "부정", "id": 4},
    {"text": "ABC ㅋㅋㅋㅋㅋ ㅋㅋ", "label": "부정", "id": 6},
]


def warnings(check: kft.Check) -> list[str]:
    return [finding.what for finding in check.findings if finding.severity != "note"]


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def test_an_encoder_that_is_to_write_labels_is_told_of_its_head(
    recipe_file: RecipeFile, tiny_bert: Path, tiny_gpt: Path, korean_rows: list[dict[str, str]]
) -> None:
    texts = [row["completion"] for row in korean_rows]
    rows = [{"text": text, "label": ("가", "나")[number % 2]} for number, text in enumerate(texts)]

    def is_told(folder: Path, **keys: Any) -> bool:
        found = kft.check(recipe_file(folder, rows, keys)).findings
        return any("learns to write the labels" in one.what for one in found)

    assert is_told(tiny_bert)
    assert not is_told(tiny_bert, task="sequence_classification")
    assert not is_told(tiny_gpt)


def test_sections_and_json(
    recipe_file: RecipeFile, tiny_gpt: Path, korean_rows: list[dict[str, str]]
) -> None:
    check = kft.check(recipe_file(tiny_gpt, korean_rows), show_rows=1)
    plain = json.loads(json.dumps(check.as_dict()))
    assert list(plain) == [
        *("ready", "model", "data", "rows", "tokens", "training", "tokenizer", "text"),
        *("memory", "findings", "shown", "fixed"),
    ]
    assert plain["ready"] is True
    assert plain["model"]["positions"] == 128
    assert plain["data"]["rows_read"] == 24
    assert plain["data"]["files"][0]["encoding"] == "utf-8"
    assert plain["rows"]["train"] == plain["rows"]["held_out"] == plain["tokens"]["rows"] == 12
    assert plain["text"]["answer"]["rows"] == 24
    assert plain["training"].keys() >= {"tokens_per_second", "train_seconds"}
    steps = (plain["training"]["steps_per_epoch"], plain["training"]["total_steps"])
    assert steps == (3, 4)
    (row,) = plain["shown"]
    assert row["documents"] == [[list(token) for token in check.shown[0].tokens]]


def test_what_was_dropped_is_told_with_its_places(recipe_file: RecipeFile, tiny_gpt: Path) -> None:
    rows = [
        {"text": "안녕하세요 여러분", "x": 1},
        {"text": " ", "x": 2},
        {"text": "봄이 왔다", "x": 3},
    ]
    recipe = recipe_file(tiny_gpt, rows, {"data.eval_fraction": 0})
    dropped = kft.check(recipe).sections["data"]["dropped"]
    assert dropped == {
        "empty `text`": {"count": 1, "places": [f"{recipe.with_suffix('.jsonl')}:2"]}
    }


def test_the_mended_copy_is_clean(
    recipe_file: RecipeFile, write_jsonl: WriteJsonl, tiny_gpt: Path, tmp_path: Path
) -> None:
    held_out = [{**row, "text": f"{row['text']} 끝"} for row in BAD[:2] * 5 + BAD[:2]]
    eval_file = write_jsonl(tmp_path / "eval.jsonl", held_out)
    recipe = recipe_file(tiny_gpt, BAD, {"data.eval": str(eval_file)})
    told: list[Any] = []
    check = kft.check(recipe, fix=tmp_path / "clean", on_fixed=told.append)
    assert check.fixed is not None
    assert told == [check.fixed]
    assert len(warnings(check)) >= 8  # the originals were checked, and are as they were
    assert lines(tmp_path / "recipe.jsonl") == BAD
    assert lines(tmp_path / "clean" / "train" / "recipe.jsonl") == CLEAN
    assert lines(tmp_path / "clean" / "eval" / "eval.jsonl") == [
        {**row, "text": f"{row['text']} 끝"} for row in CLEAN[:2]
    ]
    assert check.fixed.dropped == {"empty `text`": 1, "repeats an earlier row": 11}
    changes = [change["changes"] for change in lines(Path(check.fixed.changes_file))]
    assert changes[0] == ["NFC", "unseen characters", "HTML entities"]
    assert len(changes) == 4 + 2 + 12  # training rows mended, left out; evaluation rows
    again = kft.check(recipe, check.fixed.overrides, fix=tmp_path / "cleaner")
    assert warnings(again) == ["Only 2 rows held out: too few to tell a difference from noise"]
    assert again.fixed is not None
    assert (again.fixed.changes, again.fixed.dropped) == ({}, {})
    assert lines(tmp_path / "cleaner" / "train" / "recipe.jsonl") == CLEAN


def test_a_run_stops_at_an_error_and_counts_warnings(
    recipe_file: RecipeFile, tiny_gpt: Path, tmp_path: Path
) -> None:
    lost = [{"text": f"안\ufffd하세\ufffd {n}"} for n in range(24)]
    with pytest.raises(DataError, match="replacement characters") as told:
        kft.finetune(recipe_file(tiny_gpt, lost))
    assert told.value.exit_code == 2
    assert not (tmp_path / "run").exists()
    slight = [{"text": f"안녕하세요\u200b {n}번"} for n in range(24)]
    fast: Mapping[str, Any] = {
        "export.merge": False,
        "train.max_steps": None,
        "train.num_train_epochs": 1,
        "train.per_device_train_batch_size": 12,
    }
    run = kft.finetune(recipe_file(tiny_gpt, slight, fast))
    seen, few = run.result["findings"]
    assert seen.startswith("warning: `text` has characters without width")
    assert few.startswith("warning: An epoch has only 1 optimizer step, the run 1")


PLAN: dict[str, Any] = {"num_train_epochs": 3, "max_steps": None, "seed": 0}


@pytest.mark.parametrize(("rows", "batch", "accumulation"), [(100, 16, 2), (40, 8, 1), (9, 8, 1)])
def test_the_hint_for_few_steps_helps(rows: int, batch: int, accumulation: int) -> None:
    plan = WindowPlan(rows, batch, accumulation, **PLAN)
    (finding,) = step_findings(plan)
    assert finding.hint is not None
    better = [int(word.split("=")[1]) for word in finding.hint.strip("`").split()]
    assert not list(step_findings(WindowPlan(rows, *better, **PLAN)))


def test_few_rows_need_more_epochs() -> None:
    (finding,) = step_findings(WindowPlan(3, 1, 1, **PLAN))
    assert finding.hint == "`train.num_train_epochs=16`"


class Words:
    """A tokenizer whose tokens are words and spaces."""

    eos_token, pad_token_id, eos_token_id = "</s>", 1, 1

    def __call__(self, text: str, **_: Any) -> Any:
        return SimpleNamespace(input_ids=re.findall(r"\S+|\s+", text))

    def decode(self, ids: list[int]) -> str:
        return bytes(ids).decode("utf-8", "replace")


class Asks:
    chat_template = "ours"

    def __init__(self, between: str) -> None:
        self.between = between

    def render(self, messages: Any, _: str) -> Rendered:
        asked, said = (turn["content"] for turn in messages)
        return Rendered(((asked + self.between, False), (said, True)))


def rendering(between: str, own: str | None) -> list[str]:
    turns = ({"role": "user", "content": "안녕"}, {"role": "assistant", "content": "네"})
    found = rendering_findings(
        [Record("rows:1", messages=turns)],
        Asks(between),
        Words(),
        own_template=own,
        template="`ours`",
    )
    return [finding.what for finding in found]


def test_how_rows_are_rendered() -> None:
    padding, template, joined = rendering("", "theirs")
    assert padding.startswith("Padding is the end token `</s>`")
    assert template == "The template `ours` is not the checkpoint's own chat template"
    assert joined.startswith("In the first 1 row, tokens reach over the cut")
    assert rendering(" = ", "ours") == rendering(" = ", None) == [padding]


def test_packed_rows_are_shown_as_the_first_step_reads_them(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: list[dict[str, str]]
) -> None:
    check = kft.check(recipe_file(tiny_gpt, korean_rows, {"data.packing": True}), show_rows=2)
    training = check.sections["training"]
    assert training["packed_rows"] < 12 < sum(len(row.documents) for row in check.shown) + 12
    assert 0.5 < training["fill_rate"] <= 1.0
    lengths = [len(document) for document in check.shown[0].documents]
    assert len(lengths) > 1


def test_a_row_of_packed_documents() -> None:
    euro = list("가".encode())
    first = Example([*euro, 65], [-100, -100, -100, 65], "rows:1", "A")
    second = Example([66, 67], [66, 67], "rows:2", "C")
    row = shown_row([first, second], Words())
    assert row.place == "rows:1"
    assert row.documents == [[("가", False), ("A", True)], [("B", False), ("C", True)]]


@pytest.mark.parametrize(
    ("kind", "fields", "answer"),
    [
        ("labels", {"label": 1}, "긍정"),
        ("multilabels", {"label_ids": [1, 1]}, "부정, 긍정"),
        ("multilabels", {"label_ids": [0, 0]}, "no label"),
        ("numbers", {"value": 2.5}, "2.5"),
        ("tags", {}, "긍정 부정"),
        (None, {"label": 1}, None),
    ],
)
def test_what_a_shown_row_is_to_be_given(
    kind: Any, fields: Mapping[str, Any], answer: str | None
) -> None:
    example = Example([1, 2, 3], [-100, 1, 0], "a:1", "", **fields)
    assert shown_row([example], Words(), kind, ["부정", "긍정"]).answers == [answer]


def test_labels_and_leaks_of_labelled_rows() -> None:
    def record(number: int, text: str, label: int) -> Record:
        answer = {"role": "assistant", "content": "\u200b긍정"}  # a label's name is no text
        turns = ({"role": "user", "content": text}, answer)
        return Record(f"rows:{number}", messages=turns, label=label)

    train = [record(1, "좋다", 0), record(2, "나쁘다", 1), record(3, "좋다", 1)]
    apart = [record(4, "나쁘다", 0), record(5, "글쎄", 0)]
    report = report_on_rows(
        iter(train),
        iter(apart),
        train_place=lambda row: train[row].place,
        held_out_place=lambda row: apart[row].place,
        labels=["부정", "긍정"],
    )
    found = {finding.what.split(":")[0]: finding for finding in report.findings}
    assert found["The same text stands with different labels"].where == "rows:3, and rows:1"
    leak = found["Held-out rows also stand in the training rows"]
    assert (leak.where, leak.count) == ("rows:4, as rows:2", 1)
    assert report.rows["leaked"] == 1
    assert report.labels["counts"] == {"부정": 1, "긍정": 2}
    assert not any("width" in finding.what for finding in report.findings)
    assert isinstance(report.findings[0], Finding)


def test_a_pair_is_both_of_its_texts() -> None:
    """Of inference data one premise stands with three hypotheses, and three labels."""

    def record(number: int, premise: str, hypothesis: str, label: int) -> Record:
        return Record(f"rows:{number}", text=premise, text_pair=hypothesis, label=label)

    train = [
        record(1, "비가 온다", "날씨가 궂다", 0),
        record(2, "비가 온다", "해가\u200b 떴다", 1),
        record(3, "눈이 온다", "날씨가 궂다", 0),
    ]
    apart = [record(4, "비가 온다", "우산이 있다", 1), record(5, "눈이 온다", "날씨가 궂다", 0)]
    report = report_on_rows(
        train,
        apart,
        train_place=lambda row: train[row].place,
        held_out_place=lambda row: apart[row].place,
        labels=["함의", "모순"],
    )
    assert report.rows["conflicting_texts"] == report.rows["repeated"] == 0
    assert (report.rows["distinct_texts"], report.rows["leaked"]) == (3, 1)
    (found,) = [finding for finding in report.findings if "`text_pair`" in finding.what]
    assert found.where == "rows:2"
    assert list(RecordTexts(train[:1])) == ["비가 온다", "날씨가 궂다"]


def test_what_the_guard_says_of_the_tokenizer_stands_in_the_check(
    tiny_bert: Path, recipe_file: RecipeFile
) -> None:
    """A BERT has no end token of its own; that `[SEP]` is taken for it must be told here too."""
    rows = [
        {"text": "하늘이 높고 " * (1 + n // 2), "label": ["좋아요", "싫어요"][n % 2]}
        for n in range(30)
    ]
    keys = {"task": "sequence_classification", "data.format": "classification"}
    checked = kft.check(recipe_file(tiny_bert, rows, keys))
    assert any("[SEP]" in finding.what for finding in checked.findings)


def test_a_data_error_stops_before_weights_are_loaded(
    tiny_gpt: Path, recipe_file: RecipeFile
) -> None:
    stages: list[str] = []

    class Watching(Silent):
        def stage(self, title: str) -> None:
            stages.append(title)

    broken = [{"prompt": "\ufffd\ufffd\ufffd 질문", "completion": "\ufffd\ufffd 답"}] * 30
    with pytest.raises(DataError):
        kft.finetune(recipe_file(tiny_gpt, broken), observer=Watching())
    assert "reading data" in stages
    assert "loading the model" not in stages


def test_one_row_is_no_rows_and_a_few_of_many_are_no_nought() -> None:
    rows = [
        Record(f"rows.csv:{at + 2}", text=f"하늘이 높고 {at}번째 바람이 분다") for at in range(3000)
    ]
    train = [*rows, rows[0]]
    report = report_on_rows(
        train,
        [Record("apart.csv:2", text="봄이 왔다")],
        train_place=lambda row: train[row].place,
        held_out_place=lambda _: "apart.csv:2",
    )
    told = [finding.what for finding in report.findings]
    assert "Training rows repeat an earlier one, under 0.1% of them" in told
    assert "Only 1 row held out: too few to tell a difference from noise" in told
