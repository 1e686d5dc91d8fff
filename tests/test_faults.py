"""Files with one fault each: `kft check` finds it, names it and says the line; its twin is clean.

To add a fault, add a `Case` to the list that fits it.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow
import pyarrow.parquet
import pytest

import kft

if TYPE_CHECKING:
    from conftest import RecipeFile

SENTENCES = (Path(__file__).parent / "assets" / "sentences.txt").read_text("utf-8").splitlines()
NUM_ROWS = 20
BAD_LINE = NUM_ROWS + 1
RRN = "900101-" + "1234567"  # in parts, so that nothing takes this file for real data
ONE_ROW = '{"text": "안녕하세요"}\n'
TWO_ROWS = ONE_ROW + '{"text": "반갑습니다"}\n'


@dataclass(frozen=True)
class Case:
    """A fault.

    Args:
        id: Its name.
        bad: Content of the file with it.
        good: Content of the same file without it.
        says: What the message says.
        where: What its place ends with; `None`: the key of the recipe, whatever it is.
        name: The file's name.
        severity: `raised`: the check stops with it.
        recipe: Overrides of the recipe in both cases.
        bad_recipe: Further ones in the faulty case.
    """

    id: str
    bad: bytes
    good: bytes
    says: str
    where: str | None
    name: str = "rows.jsonl"
    severity: str = "warning"
    recipe: Mapping[str, Any] = field(default_factory=dict)
    bad_recipe: Mapping[str, Any] = field(default_factory=dict)


def jsonl(rows: Sequence[Any]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def pair(number: int) -> dict[str, str]:
    return {"prompt": SENTENCES[number % len(SENTENCES)], "completion": f"네, {number}번입니다."}


PAIRS = [pair(number) for number in range(NUM_ROWS)]


def reading(id_: str, name: str, bad: bytes | str, good: bytes | str, says: str, line: str) -> Case:
    """A file that can't be read."""
    contents = [text.encode() if isinstance(text, str) else text for text in (bad, good)]
    return Case(id_, *contents, says, f"{name}{line}", name=name, severity="raised")


def text(id_: str, bad: str, good: str, says: str, **more: Any) -> Case:
    """A fault in the prompt of the last row."""
    contents = [jsonl([*PAIRS, {"prompt": said, "completion": "네."}]) for said in (bad, good)]
    return Case(id_, *contents, says, f"rows.jsonl:{BAD_LINE}", **more)


def labelled(labels: Sequence[str], texts: Sequence[str] | None = None) -> bytes:
    texts = texts or [f"{SENTENCES[0]} {number}" for number in range(len(labels))]
    rows = zip(texts, labels, strict=True)
    return jsonl([{"text": said, "label": label} for said, label in rows])


def parquet(num_rows: int = 3) -> bytes:
    buffer = io.BytesIO()
    table = pyarrow.table({"text": SENTENCES[:num_rows]})
    pyarrow.parquet.write_table(table, buffer)
    return buffer.getvalue()


CSV = "prompt,completion\n안녕,네\n"
TSV = "prompt\tcompletion\n안녕\t네\n"
TALK = (
    '{"messages": [{"role": "user", "content": "안녕"}, {"role": "assistant", "content": "네"}]}\n'
)
CP949_OR_UTF_8 = "안녕하세요 반갑습니다"

READING = [
    reading(
        "bytes", "r.jsonl", b'{"text": "\xff\xfe"}\n', ONE_ROW, "neither UTF-8 nor CP949", ":1"
    ),
    reading(
        "two encodings",
        "r.txt",
        "가나다라\n".encode() + "똠방".encode("cp949") + b"\xff\n",
        "가나다라\n똠방\n",
        "neither UTF-8 nor CP949",
        ":2",
    ),
    reading("binary", "r.txt", "가\n나\0\n", "가\n나\n", "holds a NUL character", ":2"),
    reading(
        "half of a mark's text",
        "r.txt",
        "안녕\n하이".encode("utf-16")[:-1],
        "안녕\n하이".encode("utf-16"),
        "byte order mark says UTF-16",
        ":2",
    ),
    reading("broken json", "r.jsonl", ONE_ROW + '{"text": "안녕"\n', TWO_ROWS, "Broken JSON", ":2"),
    reading("no object", "r.jsonl", ONE_ROW + "[1]\n", TWO_ROWS, "not an object", ":2"),
    reading(
        "one value", "r.json", '{"text": {"a": 1}}', '[{"text": "안녕하세요"}]', "not rows", ""
    ),
    reading("ragged csv", "r.csv", CSV + "안녕,네,뭐\n", CSV, "don't match the header", ":3"),
    reading("open quote", "r.csv", CSV + '"안녕,네\n', CSV, "Broken csv", ":3"),
    reading("ragged tsv", "r.tsv", TSV + "안녕\n", TSV, "don't match the header", ":3"),
    reading("column twice", "r.csv", "text,text\n안,녕\n", "text,x\n안,녕\n", "there twice", ":1"),
    reading("missing key", "r.jsonl", ONE_ROW + '{"txt": "네"}\n', TWO_ROWS, "no `text`", ":2"),
    reading("no text", "r.jsonl", ONE_ROW + '{"text": 3}\n', TWO_ROWS, "is not text", ":2"),
    reading(
        "half a character",
        "r.jsonl",
        ONE_ROW + '{"text": "\\ud83d"}\n',
        ONE_ROW + '{"text": "가\\ud83d\\ude00"}\n',
        "surrogate pair",
        ":2",
    ),
    reading("empty file", "r.jsonl", "", ONE_ROW, "no rows", ""),
    reading("header only", "r.csv", "prompt,completion\n", CSV, "no rows", ""),
    reading("cut parquet", "r.parquet", parquet()[:-20], parquet(), "Broken parquet", ""),
    reading(
        "unknown role",
        "r.jsonl",
        TALK + TALK.replace("user", "narrator"),
        TALK + TALK.replace("안녕", "누구세요"),
        "unknown role",
        ":2",
    ),
    reading(
        "no answer",
        "r.jsonl",
        TALK + TALK.replace("assistant", "user"),
        TALK + TALK.replace("안녕", "누구세요"),
        "no answer to learn",
        ":2",
    ),
]

TEXT = [
    text(
        "UTF-8 read as Latin-1",
        CP949_OR_UTF_8.encode().decode("latin-1"),
        CP949_OR_UTF_8,
        "UTF-8 read as Latin-1",
    ),
    text(
        "CP949 read as Latin-1",
        CP949_OR_UTF_8.encode("cp949").decode("latin-1"),
        CP949_OR_UTF_8,
        "CP949 read as Latin-1",
    ),
    text(
        "CP949 read as Windows-1252",
        CP949_OR_UTF_8.encode("cp949").decode("cp1252"),
        CP949_OR_UTF_8,
        "CP949 read as Latin-1",
    ),
    text(
        "UTF-8 read as CP949",
        CP949_OR_UTF_8.encode().decode("cp949", "replace"),
        CP949_OR_UTF_8,
        "can't be turned back",
    ),
    text("replacement character", "안녕\ufffd하세요", "안녕하세요", "replacement characters"),
    text(
        "NFD",
        "\u1112\u1161\u11ab\u1100\u1173\u11af",
        "한글",
        "decomposed Hangul",
        recipe={"data.normalization": "none"},
    ),
    text("lone jamo", "\u110f\u110f\u110f 좋아요", "ㅋㅋㅋ 좋아요", "first U+110F"),
    text("zero width", "안녕\u200b하세요", "안녕하세요", "first U+200B ZERO WIDTH SPACE"),
    text("joiner alone", "안녕\u200d하세요", "안녕 👨\u200d👩\u200d👧", "first U+200D"),
    text("soft hyphen", "안녕\u00ad하세요", "안녕-하세요", "first U+00AD SOFT HYPHEN"),
    text("mark inside", "\ufeff불고기용", "불고기용", "first U+FEFF"),
    text("filler", "안녕\u3164하세요", "안녕 하세요", "first U+3164 HANGUL FILLER"),
    text("control character", "안녕\x08하세요", "안녕\t하세요", "first U+0008"),
    text("terminal escape", "\x1b[31m안녕\x1b[0m", "안녕", "first U+001B"),
    text("direction", "안녕\u202e하세요", "안녕하세요", "first U+202E"),
    text("no-break space", "안녕\u00a0하세요", "안녕 하세요", "first U+00A0 NO-BREAK SPACE"),
    text("ideographic space", "안녕\u3000하세요", "안녕 하세요", "first U+3000"),
    text("full width", "ＡＢＣ마트", "ABC마트", "full-width letters"),
    text("half-width jamo", "안녕 ﾻﾻ", "안녕 ㅋㅋ", "half-width jamo"),
    text("entity", "톰&amp;제리", "톰&제리", "HTML entities"),
    text("entity by number", "&#39;비밀&#39;", "'비밀'", "HTML entities"),
    text("tag", "첫 줄<br/>둘째 줄", "첫 줄 <- 둘째 줄 >ㅁ<", "HTML tags"),
    text("resident registration", f"번호는 {RRN}입니다", "번호는 12345입니다", "registration"),
    text("telephone", "전화 010-1234-5678", "전화 1588", "a telephone"),
    text("nothing to see", "\u200b\u3164", "봄", "without anything to see"),
    Case(
        "not Korean",
        jsonl([*PAIRS, *[{"prompt": f"Hello {n}", "completion": "네."} for n in range(5)]]),
        jsonl([*PAIRS, *[{"prompt": f"안녕 Hello {n}", "completion": "네."} for n in range(5)]]),
        "without any Hangul",
        f"rows.jsonl:{BAD_LINE}",
    ),
    Case(
        "most of it mojibake",
        jsonl(
            [
                {"prompt": f"{CP949_OR_UTF_8} {n}".encode().decode("latin-1"), "completion": "네."}
                for n in range(9)
            ]
        ),
        jsonl([{"prompt": f"{CP949_OR_UTF_8} {n}", "completion": "네."} for n in range(9)]),
        "wrong encoding",
        "rows.jsonl:1",
        severity="error",
    ),
    Case(
        "most of it lost",
        jsonl([{"text": f"안\ufffd하세\ufffd {n}"} for n in range(9)]),
        jsonl([{"text": f"안녕하세요 {n}"} for n in range(9)]),
        "replacement characters",
        "rows.jsonl:1",
        severity="error",
    ),
    Case(
        "repeated row",
        jsonl([*PAIRS, PAIRS[3], PAIRS[4]]),
        jsonl(PAIRS),
        "repeat an earlier one",
        f"rows.jsonl:{BAD_LINE}, as {{file}}:4",
    ),
    Case(
        "empty answer",
        jsonl([*PAIRS, {"prompt": "안녕", "completion": " "}]),
        jsonl([*PAIRS, {"prompt": "안녕", "completion": "네"}]),
        "left out: empty `completion`",
        f"rows.jsonl:{BAD_LINE}",
        severity="note",
    ),
]

TWO = {"data.labels": ["부정", "긍정"]}
LABELS = [
    Case(
        "unknown label",
        labelled(["부정", "긍정", "중립"]),
        labelled(["부정", "긍정"]),
        "Unknown label `중립`",
        "rows.jsonl:3",
        severity="raised",
        recipe=TWO,
    ),
    Case(
        "label without name",
        labelled(["0", "1", "2"]),
        labelled(["0", "1"]),
        "Label `2` has no name",
        "rows.jsonl:3",
        severity="raised",
        recipe=TWO,
    ),
    Case(
        "numbers without names",
        labelled(["0", "1"]),
        labelled(["부정", "긍정"]),
        "Labels are numbers",
        "rows.jsonl:1",
        severity="raised",
    ),
    Case(
        "identifiers for labels",
        labelled([f"행{number}" for number in range(30)]),
        labelled(["부정", "긍정"] * 15),
        "There are 30 labels for ",
        "`data.columns.label`",
        severity="error",
    ),
    Case(
        "conflicting labels",
        labelled(["부정", "긍정", "부정"], ["별로", "좋다", "좋다"]),
        labelled(["부정", "긍정", "부정"], ["별로", "좋다", "나쁘다"]),
        "different labels",
        "rows.jsonl:3, and {file}:2",
        recipe=TWO,
    ),
    Case(
        "label that never occurs",
        labelled(["부정"] * 3),
        labelled(["부정", "긍정"]),
        "No training row has the label `긍정`",
        None,
        recipe=TWO,
    ),
    Case(
        "rare label",
        labelled(["부정"] * 120 + ["긍정"]),
        labelled(["부정"] * 99 + ["긍정"]),
        "less than 1% of 121 training rows: `긍정` 1",
        None,
        recipe=TWO,
    ),
]

LONG = {"prompt": "안녕", "completion": "뷁" * 30}
TOKENS = [
    Case("prompt fills the row", jsonl([*PAIRS[:3], {"prompt": "뷁" * 50, "completion": "네"}]),
         jsonl(PAIRS[:4]), "Row has no target", "rows.jsonl:4", severity="raised"),
    Case("cut answer", jsonl([*PAIRS[:3], LONG]), jsonl(PAIRS[:4]),
         "longer than `data.max_length`", "rows.jsonl:4", recipe={"data.max_length": 64}),
    Case("too long", jsonl([*PAIRS[:3], LONG]), jsonl(PAIRS[:4]), "Row has 9", "rows.jsonl:4",
         severity="raised", recipe={"data.max_length": 64, "data.on_too_long": "error"}),
    Case("longer than the model", jsonl([*PAIRS[:3], {"prompt": "안", "completion": "뷁" * 60}]),
         jsonl(PAIRS[:4]), "the model 128 positions", "rows.jsonl:4", severity="raised",
         recipe={"data.max_length": 512}),
    Case("no end token", jsonl(PAIRS), jsonl(PAIRS), "don't end with the end token `</s>`",
         "rows.jsonl:1", bad_recipe={"data.template": "{folder}/endless.jinja"}),
    Case("few steps", jsonl(PAIRS), jsonl(PAIRS), "An epoch has only 1 optimizer step", None,
         recipe={"train.max_steps": None, "train.per_device_train_batch_size": 2},
         bad_recipe={"train.per_device_train_batch_size": 32}),
    Case("few held-out rows", jsonl(PAIRS), jsonl(PAIRS), "Only 5 rows held out", None,
         recipe={"data.eval_fraction": 0.5}, bad_recipe={"data.eval_fraction": 0.25}),
    Case("leaked rows", jsonl(PAIRS), jsonl(PAIRS), "also stand in the training rows",
         "rows.jsonl:1, as {file}:1", bad_recipe={"data.eval": "{folder}/rows.jsonl"}),
]  # fmt: skip

CASES = [*READING, *TEXT, *LABELS, *TOKENS]


def test_there_are_enough() -> None:
    assert len({case.id for case in CASES}) == len(CASES) >= 30


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_the_fault_is_found_and_its_twin_is_clean(
    case: Case, tmp_path: Path, recipe_file: RecipeFile, tiny_gpt: Path
) -> None:
    file = tmp_path / case.name
    (tmp_path / "endless.jinja").write_text(
        "{% for message in messages %}{{ message.content }}\n{% endfor %}", encoding="utf-8"
    )
    settings = {"data.eval_fraction": 0, **case.recipe}
    bad = {
        key: value.replace("{folder}", str(tmp_path)) if isinstance(value, str) else value
        for key, value in case.bad_recipe.items()
    }
    file.write_bytes(case.bad)
    recipe = recipe_file(tiny_gpt, file, settings | bad)
    if case.severity == "raised":
        with pytest.raises(kft.KftError) as told:
            kft.check(recipe)
        assert told.value.exit_code == 2
        what, where = told.value.what, told.value.where
    else:
        found = [one for one in kft.check(recipe).findings if case.says in one.what]
        assert [one.severity for one in found] == [case.severity]
        what, where = found[0].what, found[0].where
    assert case.says in what
    if case.where is not None:
        assert (where or "").endswith(case.where.replace("{file}", str(file)))

    file.write_bytes(case.good)
    twin = kft.check(recipe_file(tiny_gpt, file, settings))
    assert [one for one in twin.findings if one.severity != "note"] == []
    assert not any(case.says in one.what for one in twin.findings)
