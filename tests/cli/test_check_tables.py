"""What `kft check` says, literally: wide, in 60 columns, coloured, and in ASCII."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from rich.cells import cell_len

from kft.api.shown_rows import ShownRow
from kft.cli.check_tables import check_text, copy_text, row_text
from kft.errors import Finding

ROW = ShownRow(
    "rows.jsonl:1",
    [
        [
            ("질문: ", False),
            ("a\\n\x1b\n", False),
            ("서", True),
            ("울\n", True),
            ("</s>", True),
        ]
    ],
    [None],
)
SECTIONS: dict[str, dict[str, Any]] = {
    "model": {"name_or_path": "skt/kogpt2", "model_type": "gpt2", "positions": 1024},
    "data": {
        "format": "`classification`: text from `document`, label from `label`; `id` is not used",
        "template": "`plain`",
        "files": [
            {"path": "ratings\x1b.tsv", "encoding": "cp949", "sha256": "0"},
            {"path": "more.parquet", "encoding": None, "sha256": "1"},
        ],
        "rows_read": 9,
        "dropped": {"empty `document`": {"count": 7, "places": ["ratings.tsv:3"]}},
    },
    "rows": {
        "train": 90_000,
        "held_out": 100,
        "distinct_texts": 80_000,
        "repeated": 1_000,
        "nearly_repeated": 0,
        "conflicting_texts": 3,
        "leaked": 1,
        "leaked_exactly": 1,
    },
    "text": {
        "prompt": {"rows": 9, "characters": 5000, "shares": {"hangul": 0.75, "hanja": 0.0001}}
    },
    "labels": {
        "counts": {"부정": 60_000, "긍정": 30_000},
        "held_out_counts": {"부정": 60, "긍정": 40},
        "rows": 90_000,
        "majority_share": 2 / 3,
    },
    "tokens": {
        "rows": 1000,
        "tokens": 20_000,
        "targets": 5_000,
        "target_share": 0.25,
        "shortest": 4,
        "median": 16,
        "p95": 55,
        "p99": 75,
        "longest": 128,
        "histogram": {"edges": [0, 32, 64, 96, 128], "rows": [500, 250, 0, 1]},
        "truncated": 20,
        "without_end": 0,
        "without_target": 0,
    },
    "tokenizer": {"vocabulary": 51200, "unknown_rate": 0.0021},
    "training": {"total_steps": 1200, "steps_per_epoch": 400},
}
FINDINGS = [
    Finding("error", "Row has no target", "rows.jsonl:3", "Raise `data.max_length`."),
    Finding("warning", "Rows are cut", "rows.jsonl:7", count=2),
    Finding("warning", "Rows repeat"),
    Finding("note", "No end token"),
]


def made(**values: Any) -> Any:
    fields = {"sections": {}, "findings": [], "shown": [], "has_errors": False}
    return SimpleNamespace(**fields | values)


def test_targets_stand_in_brackets_without_colour() -> None:
    assert row_text(ROW, colored=False) == (
        "rows.jsonl:1\n  질문: a\\n\\x1b\\n\n  ⟦서울\\n\n  </s>⟧"
    )
    assert row_text(ROW, colored=False, ascii_only=True) == (
        "rows.jsonl:1\n  질문: a\\n\\x1b\\n\n  [서울\\n\n  </s>]"
    )


def test_targets_are_coloured_on_a_terminal() -> None:
    assert row_text(ROW, colored=True) == (
        "rows.jsonl:1\n"
        "  질문: a\\n\\x1b\\n\n"
        "  \x1b[32m\x1b[1m서\x1b[0m\x1b[32m\x1b[1m울\\n\n"
        "  \x1b[0m\x1b[32m\x1b[1m</s>\x1b[0m"
    )


def test_packed_documents_are_kept_apart() -> None:
    documents = [[("가", False), ("나", True)], [("다", True)]]
    packed = ShownRow("a:1", documents, [None, None])
    labelled = ShownRow("a:1", documents, ["긍정\x1b[2J", None])
    assert row_text(labelled, colored=False) == "a:1\n  가⟦나⟧\n  → 긍정\\x1b[2J\n  ┊\n  ⟦다⟧"
    assert "\n  -> 긍정" in row_text(labelled, colored=False, ascii_only=True)
    assert row_text(packed, colored=False) == "a:1\n  가⟦나⟧\n  ┊\n  ⟦다⟧"
    assert row_text(packed, colored=False, ascii_only=True) == "a:1\n  가[나]\n  |\n  [다]"


def test_check_is_sections_rows_findings_and_a_verdict() -> None:
    check = made(sections=SECTIONS, findings=FINDINGS, shown=[ROW], has_errors=True)
    assert check_text(check, width=100) == (
        "model\n"
        "  name       skt/kogpt2 (gpt2)\n"
        "  positions  1,024\n"
        "data\n"
        "  format    `classification`: text from `document`, label from `label`; `id` is not used\n"
        "  template  `plain`\n"
        "  file      ratings\\x1b.tsv (cp949)\n"
        "  file      more.parquet\n"
        "  left out  7 with empty `document`: ratings.tsv:3, ...\n"
        "rows\n"
        "  used            90,000 to train on, 100 held out\n"
        "  different       80,000 texts to train on\n"
        "  repeated        1,000 rows\n"
        "  several labels  3 texts\n"
        "  leaked          1 held-out row among the training rows\n"
        "text\n"
        "  prompt  5,000 characters: hangul 75.0%\n"
        "labels\n"
        "  부정  60,000 (66.7%), 60 held out\n"
        "  긍정  30,000 (33.3%), 40 held out\n"
        "tokens\n"
        "  total      20,000 in 1,000 rows\n"
        "  targets    5,000 (25%)\n"
        "  per row    4 █▄ ▁ 128\n"
        "             16 (median), 55 (95%), 75 (99%)\n"
        "  truncated  20 rows (2.0%)\n"
        "tokenizer\n"
        "  vocabulary    51,200\n"
        "  unknown rate  0.0021\n"
        "training\n"
        "  steps  1,200, 400 an epoch\n"
        "\n"
        "rows.jsonl:1\n"
        "  질문: a\\n\\x1b\\n\n"
        "  ⟦서울\\n\n"
        "  </s>⟧\n"
        "\n"
        "error: Row has no target\n"
        "  --> rows.jsonl:3\n"
        "  hint: Raise `data.max_length`.\n"
        "\n"
        "warning: Rows are cut (2 times)\n"
        "  --> rows.jsonl:7\n"
        "\n"
        "warning: Rows repeat\n"
        "\n"
        "note: No end token\n"
        "\n"
        "Not ready to train: 1 error, 2 warnings."
    )


@pytest.mark.parametrize("width", [60, 40])
def test_lines_keep_to_the_width(width: int) -> None:
    long = Finding("warning", "한국어 문장이 " * 12, "rows.jsonl:3", "Do this, then that, " * 6)
    check = made(sections=SECTIONS, findings=[long])
    text = check_text(check, width=width)
    assert max(map(cell_len, text.split("\n"))) <= width
    assert "  format    `classification`: text" in text


def test_ascii_signs_in_a_terminal_that_has_no_others() -> None:
    text = check_text(made(sections={"tokens": SECTIONS["tokens"]}), ascii_only=True)
    assert "  per row    4 @= . 128\n" in text
    assert text.isascii()


def test_colours_are_those_of_findings_only() -> None:
    check = made(findings=FINDINGS[:1])
    assert "\x1b[31m\x1b[1merror:\x1b[0m Row has no target" in check_text(check, colored=True)
    assert "\x1b" not in check_text(check)


@pytest.mark.parametrize(
    ("findings", "verdict"),
    [
        ([], "Ready to train."),
        ([Finding("note", "x")], "Ready to train."),
        ([Finding("warning", "x")], "Ready to train, with 1 warning."),
    ],
)
def test_verdict(findings: list[Finding], verdict: str) -> None:
    text = check_text(made(findings=findings))
    assert text == "\n\n".join([*map(str, findings), verdict])


def test_what_a_mended_copy_says() -> None:
    copy: Any = SimpleNamespace(
        folder="clean",
        num_read=1200,
        num_written=1190,
        num_changed=30,
        changes={"NFC": 28, "HTML entities": 2},
        dropped={"empty `text`": 10},
        changes_file="clean/changes.jsonl",
        overrides=["data.train=clean/train"],
    )
    assert copy_text(copy) == (
        "mended copy             clean\n"
        "rows                    1,190 of 1,200, 30 changed\n"
        "changed: NFC            28 texts\n"
        "changed: HTML entities  2 texts\n"
        "left out: empty `text`  10 rows\n"
        "list of changes         clean/changes.jsonl\n"
        "to use it               data.train=clean/train"
    )
