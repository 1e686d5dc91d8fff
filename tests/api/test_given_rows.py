"""`kft evaluate --data FILE`: what is wrong with the file is said without a recipe's keys."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import kft
from kft.api.evaluate import evaluate, measure_opened
from kft.api.given_rows import without_keys
from kft.api.opened import open_model
from kft.errors import DataError, Finding, KftError
from kft.models.heads import HeadOptions, untrained_finding

KEY = re.compile(r"\bdata\.[a-z_]+")
TEXTS = ["서울의 가을은 하늘이 높고", "바람이 선선하다", "하늘이 높고 바람이 선선하다"]


def told(place: Path, data: Path | str) -> KftError:
    with pytest.raises(KftError) as caught:
        evaluate([str(place)], data=str(data))
    assert caught.value.exit_code == 2
    assert not KEY.search(str(caught.value))
    return caught.value


def test_a_file_that_is_not_there_is_that_of_the_option(tiny_gpt: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text\n하늘\n", encoding="utf-8")
    error = told(tiny_gpt, tmp_path / "row.csv")
    assert error.where == "`--data`"
    assert error.hint == f"Did you mean `{tmp_path / 'rows.csv'}`?"


@pytest.mark.parametrize(
    ("content", "what", "hint"),
    [
        ("가,나\n하늘,바람\n", "Can't tell the format", "Rename the columns"),
        ("text,label\n하늘,0\n바람,1\n", "Labels are numbers", "Write `부정` instead"),
        ("text\n\n", "", None),
    ],
)
def test_hints_are_what_can_be_done_to_the_file(
    content: str, what: str, hint: str | None, tiny_gpt: Path, tmp_path: Path
) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(content, encoding="utf-8")
    error = told(tiny_gpt, file)
    assert error.what.startswith(what)
    assert (error.hint or "").startswith(hint or "")


@pytest.mark.parametrize(
    ("error", "where", "hint"),
    [
        (
            DataError("No column for the role `label` of format `classification`", hint="`data.x`"),
            None,
            "Rename the column that holds it to `label`.",
        ),
        (
            DataError(
                "`data.columns.text` names `글`, and there is no such column",
                where="rows.csv:2",
                hint="Did you mean `글자`?",
            ),
            "rows.csv:2",
            "Rename `글자` to `글`.",
        ),
        (
            DataError("No row of 2 has a label, which ... learns", hint="`data.columns`"),
            None,
            "Name the columns `text` and `label`, and leave others out.",
        ),
        (
            DataError("No row of 2 has tags, which ... learns", hint="`data.columns`"),
            None,
            "Add columns `tokens` and `tags`.",
        ),
        (
            DataError("Unknown label `중립`", hint="Correct it, or add it to `data.labels`."),
            None,
            "Correct the row, or leave it out: no other label was learned.",
        ),
        (
            DataError("Unknown label `긍점`", hint="Did you mean `긍정`?"),
            None,
            "Did you mean `긍정`?",
        ),
        (
            DataError(
                "Row has 700 tokens",
                expected="at most 512 tokens (`data.max_length`)",
                hint="`data.on_too_long: drop`",
            ),
            None,
            "Shorten the row, or leave it out of the file.",
        ),
        (DataError("Another", where="data.columns", hint="Set `data.format`."), "`--data`", None),
        (
            DataError("Another", where="a.csv:1", hint="Save it as UTF-8."),
            "a.csv:1",
            "Save it as UTF-8.",
        ),
    ],
)
def test_each_error_has_a_hint_that_needs_no_recipe(
    error: DataError, where: str | None, hint: str | None
) -> None:
    said = without_keys(error)
    assert (said.where, said.hint) == (where, hint)
    assert not KEY.search(str(said))


def test_a_head_that_nobody_trained_is_told(tiny_bert: Path, tmp_path: Path) -> None:
    """As the base of a run is, beside the run; its masked words are its own."""
    rows = "".join(f"{text},{label}\n" for text in TEXTS for label in ("좋아요", "싫어요"))
    (tmp_path / "rows.csv").write_text("text,label\n" + rows, encoding="utf-8")
    (tmp_path / "recipe.yaml").write_text(
        f"task: sequence_classification\nmodel: {{name_or_path: {tiny_bert}}}\n"
        f"data: {{train: {tmp_path / 'rows.csv'}, eval_fraction: 0.5, labels: [좋아요, 싫어요]}}\n"
        "train: {seed: 7}\noutput_dir: run\n",
        encoding="utf-8",
    )
    recipe = kft.read_recipe(tmp_path / "recipe.yaml")
    measured = measure_opened(open_model(str(tiny_bert), like=recipe), recipe)
    (finding,) = measured.findings
    assert str(finding) == (
        "warning: The checkpoint has no trained head for the task: 4 weights of "
        "`BertForSequenceClassification` drawn with seed 7 gave these numbers\n"
        f"  --> {tiny_bert}\n"
        "  hint: They tell what guessing is worth; `kft finetune` trains a head."
    )
    (tmp_path / "rows.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    found: list[Finding] = []
    evaluate([str(tiny_bert)], data=str(tmp_path / "rows.txt"), on_finding=found.append)
    assert found == []


def test_without_new_weights_there_is_nothing_to_tell() -> None:
    assert untrained_finding("here", None, [], HeadOptions()) is None
