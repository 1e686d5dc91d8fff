"""Many rows are kept in files and found again; what is seen of them and learned is the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import kft
from kft.api.records import RecordTexts, read_records, texts_of
from kft.data import encodings, few, record_store
from kft.data.table import Chosen, Table, write_table
from kft.errors import DataError
from kft.recipe.reader import read_recipe
from kft.tasks.causal_lm import CausalLM

if TYPE_CHECKING:
    from conftest import RecipeFile, WriteJsonl

WORDS = ["하늘이", "높고", "바람이", "선선하다", "싫어요", "좋아요"]
LABELLED = [
    {
        "text": " ".join(WORDS[number % 5 : 2 + number % 7]),
        "label": ["긍정", "부정"][number % 2],
    }
    for number in range(40)
] + [{"text": " ", "label": "긍정"}, {"text": "하늘이 &amp; 바람이\u200b", "label": "긍정"}]
TAGGED = [
    {"tokens": WORDS[number % 4 :], "tags": ["B-LC", *["O"] * (5 - number % 4)]}
    for number in range(20)
]
LONG = [{"text": " ".join(["봄이 왔다"] * (1 + number % 90))} for number in range(30)]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KFT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def with_few(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """`with_few(2)`: more than two rows are many."""
    return lambda rows: monkeypatch.setattr(few, "FEW_ROWS", rows)


Case = tuple[str, list[dict[str, Any]], dict[str, Any]]
CASES: dict[str, Case] = {
    "labels": ("tiny_gpt", LABELLED, {"data.eval_fraction": 0.3}),
    "classes": (
        "tiny_bert",
        LABELLED,
        {"task": "sequence_classification", "evaluate.max_rows": 5},
    ),
    "tags": ("tiny_bert", TAGGED, {"task": "token_classification"}),
    "long texts": ("tiny_gpt", LONG, {"data.max_length": 16}),
    "dropped": ("tiny_gpt", LONG, {"data.max_length": 64, "data.on_too_long": "drop"}),
}


def of_the_rows(check: kft.Check) -> dict[str, Any]:
    """What a check says without what is free on the machine, and how fast it is at the moment."""
    told = check.as_dict()
    del told["memory"]
    for key in ("tokens_per_second", "train_seconds"):
        told["training"].pop(key, None)
    return told


@pytest.mark.parametrize("name", CASES)
def test_a_check_says_the_same_of_kept_rows(
    name: str,
    recipe_file: RecipeFile,
    with_few: Callable[[int], None],
    own_cache: Path,
    request: pytest.FixtureRequest,
) -> None:
    checkpoint, rows, overrides = CASES[name]
    recipe = recipe_file(request.getfixturevalue(checkpoint), rows, overrides)

    def said() -> str:
        return json.dumps(of_the_rows(kft.check(recipe, show_rows=3)))

    def entries() -> set[str]:
        return {path.parent.name for path in own_cache.glob("*/*")}

    in_memory = said()
    assert entries() == {"shapes"}  # of the model: few rows are not kept
    with_few(2)
    kept = said()
    assert entries() == {"shapes", "rows", "examples", "reports"}
    assert kept == in_memory == said()


def test_weighted_rows_and_eval_files_are_the_same(
    write_jsonl: WriteJsonl,
    tmp_path: Path,
    with_few: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = write_jsonl(tmp_path / "a.jsonl", [{"text": f"봄 {number}"} for number in range(9)])
    second = write_jsonl(tmp_path / "b.jsonl", [{"text": "가을"}, {"text": ""}, {"text": "겨울"}])
    recipe_path = tmp_path / "recipe.yaml"
    recipe_path.write_text(
        f"model: {{name_or_path: m}}\noutput_dir: {tmp_path / 'run'}\ndata:\n"
        f"  train: [{{path: {first}, weight: 1.5}}, {{path: {second}, weight: 2}}]\n",
        encoding="utf-8",
    )
    for overrides in ({"data.eval_fraction": 0.3}, {"data.eval": str(second)}):
        recipe = read_recipe(recipe_path, overrides)
        monkeypatch.setenv("KFT_CACHE", str(tmp_path / "empty"))
        with_few(1000)
        in_memory = read_records(recipe)
        monkeypatch.setenv("KFT_CACHE", str(tmp_path / "cache"))
        with_few(1)
        for kept in (read_records(recipe), read_records(recipe)):
            assert isinstance(kept.train, Chosen)
            assert list(kept.train) == list(in_memory.train)
            assert list(kept.held_out) == list(in_memory.held_out)
            others = {"train": [], "held_out": []}
            assert replace(kept, **others) == replace(in_memory, **others)


def test_a_run_learns_the_same_from_kept_rows(
    recipe_file: RecipeFile,
    tiny_gpt: Path,
    korean_rows: list[dict[str, str]],
    with_few: Callable[[int], None],
    tmp_path: Path,
) -> None:
    recipe = recipe_file(tiny_gpt, korean_rows, {"export.merge": False})
    runs = {}
    for rows in (1000, 2):
        with_few(rows)
        runs[rows] = kft.finetune(recipe, {"output_dir": str(tmp_path / f"run{rows}")})
    losses = [run.metrics["loss"].dropna().tolist() for run in runs.values()]
    assert losses[0] == losses[1]
    few_result, many_result = (run.result for run in runs.values())
    assert few_result["tuned"] == many_result["tuned"]
    assert few_result["findings"] == many_result["findings"]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of records of each call of the task's encoding."""
    calls: list[int] = []
    original = CausalLM.encode_many

    def encode_many(self: CausalLM, records: Any, *rest: Any) -> Any:
        calls.append(len(records))
        return original(self, records, *rest)

    monkeypatch.setattr(CausalLM, "encode_many", encode_many)
    return calls


def test_rows_are_encoded_again_only_for_what_changes_them(
    recipe_file: RecipeFile,
    tiny_gpt: Path,
    korean_rows: list[dict[str, str]],
    with_few: Callable[[int], None],
    counted: list[int],
) -> None:
    with_few(2)
    recipe = recipe_file(tiny_gpt, korean_rows)
    kft.check(recipe)
    assert counted == [12, 12, 12, 12]  # of each side a few rows as a probe, and all of them
    for overrides, encoded_again in (
        ({"train.learning_rate": 1.0}, False),
        ({"train.seed": 43}, True),  # another split
        ({"data.max_length": 100}, True),
        ({"data.template": "koalpaca"}, True),
        ({"data.train_on": "all"}, True),
        ({"data.normalization": "none"}, True),
    ):
        counted.clear()
        kft.check(recipe, overrides)
        assert counted == ([12, 12, 12, 12] if encoded_again else [12, 12]), overrides


def test_another_tokenizer_encodes_again(
    recipe_file: RecipeFile,
    tiny_gpt: Path,
    tiny_wordpiece: Path,
    korean_rows: list[dict[str, str]],
    with_few: Callable[[int], None],
) -> None:
    with_few(2)
    recipe = recipe_file(tiny_gpt, korean_rows)
    tokens = [
        kft.check(recipe, overrides).sections["tokens"]["tokens"]
        for overrides in ({}, {"model.tokenizer": str(tiny_wordpiece)}, {})
    ]
    assert tokens[0] == tokens[2] != tokens[1]


def test_changed_rows_are_read_again(
    recipe_file: RecipeFile, tiny_gpt: Path, with_few: Callable[[int], None]
) -> None:
    with_few(2)
    recipe = recipe_file(tiny_gpt, [{"text": f"봄 {number}"} for number in range(9)])
    assert kft.check(recipe).sections["data"]["rows_read"] == 9
    with recipe.with_suffix(".jsonl").open("a", encoding="utf-8") as file:
        file.write('{"text": "여름"}\n')
    assert kft.check(recipe).sections["data"]["rows_read"] == 10


def test_the_encoding_of_kept_rows_is_kept_too(
    recipe_file: RecipeFile,
    tiny_gpt: Path,
    tmp_path: Path,
    with_few: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_few(2)
    file = tmp_path / "rows.csv"
    file.write_bytes(b"text\n" + "".join(f"봄 {n}\n" for n in range(9)).encode("cp949"))
    recipe = recipe_file(tiny_gpt, file)
    first = kft.check(recipe)
    encodings._KNOWN.clear()  # as in another process
    monkeypatch.setattr(encodings, "_found_encoding", lambda _: pytest.fail("looked for again"))
    second = kft.check(recipe)
    assert second.sections["data"] == first.sections["data"]
    assert second.sections["data"]["files"][0]["encoding"] == "cp949"
    assert [str(one) for one in second.findings] == [str(one) for one in first.findings]


def test_a_damaged_file_is_written_again(
    recipe_file: RecipeFile, tiny_gpt: Path, with_few: Callable[[int], None], own_cache: Path
) -> None:
    with_few(2)
    recipe = recipe_file(tiny_gpt, [{"text": f"봄 {number}"} for number in range(20)])
    whole = of_the_rows(kft.check(recipe))
    damaged = 0
    for path in own_cache.glob("*/*/*.arrow"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(content)
        damaged += 1
    assert damaged == 3  # rows, and the examples of both sides
    assert of_the_rows(kft.check(recipe)) == whole


def test_a_broken_row_among_many_is_named_and_nothing_is_kept(
    recipe_file: RecipeFile, tiny_gpt: Path, with_few: Callable[[int], None], own_cache: Path
) -> None:
    with_few(2)
    rows: list[dict[str, Any]] = [{"text": f"봄 {number}"} for number in range(9)]
    recipe = recipe_file(tiny_gpt, [*rows, {"text": 5}])
    with pytest.raises(DataError, match="is not text") as caught:
        kft.check(recipe)
    assert str(caught.value.where).endswith(".jsonl:10")
    assert list(own_cache.glob("*/*")) == []


def test_a_file_that_changes_while_it_is_read_is_refused(
    recipe_file: RecipeFile,
    tiny_gpt: Path,
    with_few: Callable[[int], None],
    own_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_few(2)
    recipe = recipe_file(tiny_gpt, [{"text": f"봄 {number}"} for number in range(9)])

    def write_slowly(*arguments: Any) -> int:
        with recipe.with_suffix(".jsonl").open("a", encoding="utf-8") as file:
            file.write('{"text": "여름"}\n')
        return write_table(*arguments)

    monkeypatch.setattr(record_store, "write_table", write_slowly)
    with pytest.raises(DataError, match="changed while it was read"):
        read_records(read_recipe(recipe))
    assert list(own_cache.glob("*/*")) == []


def test_a_cache_that_cant_be_written_is_told_once(
    recipe_file: RecipeFile,
    tiny_gpt: Path,
    with_few: Callable[[int], None],
    own_cache: Path,
) -> None:
    with_few(2)
    own_cache.write_text("a file where the folder should be", encoding="utf-8")
    recipe = recipe_file(tiny_gpt, [{"text": f"봄 {number}"} for number in range(9)])
    found = [finding for finding in kft.check(recipe).findings if "cache" in finding.what]
    assert [(note.severity, note.where) for note in found] == [("note", str(own_cache))]


def test_texts_are_found_without_reading_the_others(
    recipe_file: RecipeFile, tiny_gpt: Path, with_few: Callable[[int], None]
) -> None:
    with_few(2)
    rows = [{"text": f"봄 {number}"} for number in range(5)]
    talks = [{"prompt": f"물음 {n}", "completion": f"답 {n}"} for n in range(5)]
    pairs = [{"text": f"봄 {n}", "text_pair": f"꽃 {n}", "label": "예"} for n in range(5)]
    of_pairs = {"task": "sequence_classification"}
    for given, changes in ((rows, {}), (talks, {}), (pairs, of_pairs)):
        overrides = {"data.eval_fraction": 0.2, **changes}
        recipe = read_recipe(recipe_file(tiny_gpt, given, overrides))
        records = read_records(recipe).train
        assert isinstance(records, Chosen)
        assert isinstance(records.rows, Table)
        every = list(texts_of(records))
        texts = RecordTexts(records)
        assert [texts[number] for number in range(-len(texts), 0)] == every
        assert texts[::3] == every[::3]
