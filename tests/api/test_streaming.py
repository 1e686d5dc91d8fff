"""`data.streaming`: only the rows that the steps take are read, and always the same ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file

import kft
from kft.api.records import Records, read_records
from kft.data import few
from kft.data.content import ends_sha256, same_content
from kft.data.record_store import in_turn
from kft.data.rows import read_rows
from kft.data.sources import DataFile
from kft.errors import DataError, RecipeError
from kft.recipe.reader import read_recipe

if TYPE_CHECKING:
    from conftest import RecipeFile

BROKEN = "{this is no row\n"


def write(path: Path, count: int, rest: str = "", **more: Any) -> Path:
    rows = [{"text": f"{path.stem} {number}", **more} for number in range(count)]
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    path.write_text("".join(lines) + rest, encoding="utf-8")
    return path


def streamed(tmp_path: Path, train: Any, **keys: Any) -> Records:
    path = tmp_path / "recipe.yaml"
    recipe = {
        "model": {"name_or_path": "m"},
        "data": {"train": train, "streaming": True, "eval_fraction": 0.25},
        "train": {"max_steps": 3, "per_device_train_batch_size": 2},
        "output_dir": str(tmp_path / "run"),
    }
    path.write_text(json.dumps(recipe), encoding="utf-8")
    return read_records(read_recipe(path, keys))


@pytest.mark.parametrize("most_in_memory", [1000, 2])
def test_rows_come_from_the_files_in_turn_and_no_more_than_needed(
    most_in_memory: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(few, "FEW_ROWS", most_in_memory)
    monkeypatch.setenv("KFT_CACHE", str(tmp_path / "cache"))
    files = [str(write(tmp_path / f"{name}.jsonl", count)) for name, count in (("a", 9), ("b", 2))]
    for _ in range(2):  # read, and found again
        records = streamed(tmp_path, files)
        taken = {record.text for record in [*records.train, *records.held_out]}
        # Six rows for three steps of two, and a quarter of eight is held out.
        assert taken == {"a 0", "b 0", "a 1", "b 1", "a 2", "a 3", "a 4", "a 5"}
        assert (len(records.train), len(records.held_out), records.num_rows) == (6, 2, 8)


@pytest.mark.parametrize("most_in_memory", [1000, 2])
def test_what_is_not_needed_is_not_read(
    most_in_memory: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(few, "FEW_ROWS", most_in_memory)
    path = str(write(tmp_path / "a.jsonl", 9, rest=BROKEN))
    assert len(streamed(tmp_path, path).train) == 6
    with pytest.raises(DataError, match="Broken JSON"):
        streamed(tmp_path, path, **{"data.streaming": False})
    with pytest.raises(DataError, match="Broken JSON"):
        streamed(tmp_path, path, **{"train.max_steps": 4})


def test_weights_count_as_uses(tmp_path: Path) -> None:
    path = str(write(tmp_path / "a.jsonl", 40))
    for weight, rows in ((3, 3), (0.5, 16)):
        train = {"path": path, "weight": weight}
        assert streamed(tmp_path, train).num_rows == rows


def test_a_corpus_that_is_too_short_is_read_to_its_end(tmp_path: Path) -> None:
    assert streamed(tmp_path, str(write(tmp_path / "a.jsonl", 4))).num_rows == 4


def test_eval_files_are_read_as_a_whole(tmp_path: Path) -> None:
    held_out = str(write(tmp_path / "held_out.jsonl", 30))
    records = streamed(tmp_path, str(write(tmp_path / "a.jsonl", 30)), **{"data.eval": held_out})
    assert (len(records.train), len(records.held_out)) == (6, 30)
    prefixes = [sha[:5] for sha in records.files_sha256.values()]
    assert [prefix == "ends-" for prefix in prefixes] == [True, False]


def test_labels_are_looked_for_a_little_further_than_needed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", 20, label="긍정")
    with path.open("a", encoding="utf-8") as file:
        file.write('{"text": "끝", "label": "부정"}\n' * 2)
    assert streamed(tmp_path, str(path)).labels == ["긍정", "부정"]


def test_bytes_of_another_encoding_are_met_while_reading(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("봄이 왔다\n".encode() * 100_000 + "봄이 왔다\n".encode("cp949"))
    rows = read_rows(DataFile(path, streamed=True))
    assert next(rows).fields == {"text": "봄이 왔다"}
    with pytest.raises(DataError, match="are not UTF-8, as the file's beginning is"):
        list(rows)
    path.write_bytes("봄이 왔다\n".encode("cp949"))
    assert [row.fields["text"] for row in read_rows(DataFile(path, streamed=True))] == ["봄이 왔다"]
    path.write_bytes("봄\0\n".encode())
    with pytest.raises(DataError, match="holds a NUL character"):
        list(read_rows(DataFile(path, streamed=True)))


def test_a_stream_of_a_hub_data_set() -> None:
    import datasets

    from kft.data.hub import dataset_rows

    names = datasets.ClassLabel(names=["부정", "긍정"])
    features = datasets.Features({"text": datasets.Value("string"), "label": names})
    whole = datasets.Dataset.from_dict({"text": ["가", "나"], "label": [1, 0]}, features)
    rows = [row.fields for row in dataset_rows(whole.to_iterable_dataset(), "a/b/train")]
    assert rows == [{"text": "가", "label": "긍정"}, {"text": "나", "label": "부정"}]


def test_readers_beyond_the_first_wait_their_turn() -> None:
    opened = []

    def reader(number: int) -> Any:
        opened.append(number)
        yield from (number, number)

    items = in_turn(map(reader, range(66)))
    assert [next(items) for _ in range(64)] == list(range(64))
    assert len(opened) == 64
    assert sorted(items) == sorted([*range(64), 64, 64, 65, 65])


def test_the_ends_of_a_file_tell_it(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"a" * (3 * 2**20))
    before = ends_sha256(path)
    assert same_content(path, before)
    for content in (b"b" + b"a" * (3 * 2**20 - 1), b"a" * (3 * 2**20 - 1) + b"b", b"a"):
        path.write_bytes(content)
        assert not same_content(path, before)
    assert not same_content(tmp_path / "none.txt", before)


def test_a_streamed_run_goes_on_to_the_same_bits(
    recipe_file: RecipeFile, tiny_gpt: Path, korean_rows: list[dict[str, str]], tmp_path: Path
) -> None:
    keys = {"data.streaming": True, "train.save_steps": 2, "export.merge": False}
    recipe = recipe_file(tiny_gpt, korean_rows * 3, keys)
    with recipe.with_suffix(".jsonl").open("a", encoding="utf-8") as file:
        file.write(BROKEN)
    straight = kft.finetune(recipe, {"output_dir": str(tmp_path / "straight")})
    assert straight.result["train_rows"] == 16
    kft.finetune(recipe)
    last = tmp_path / "run" / "checkpoints" / "step-00000004" / "weights.safetensors"
    last.write_bytes(b"damaged")
    resumed = kft.finetune(recipe, resume=True)
    assert resumed.metrics["loss"].tolist() == straight.metrics["loss"].tolist()
    adapters = [
        load_file(run.folder / "adapter" / "adapter_model.safetensors")
        for run in (straight, resumed)
    ]
    assert all(torch.equal(adapters[0][name], adapters[1][name]) for name in adapters[0])
    with pytest.raises(RecipeError, match=r"another `train.max_steps`, got `6`"):
        kft.finetune(recipe, {"train.max_steps": 6}, resume=True)
    assert kft.load_run(tmp_path / "run").evaluate()["eval_loss"] > 0
