"""General text beside the task's: measured as a plain loop would, wherever models are measured."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from math import log
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import kft
from kft.api.evaluate import evaluate
from kft.api.general_text import MOST_PASSAGES
from kft.api.observer import Silent
from kft.cli.main import run_words
from kft.errors import DataError, Finding, RecipeError
from kft.evaluation.forgetting import forgetting, general_texts
from kft.evaluation.metrics.statistic import SumStatistic
from kft.models import precision
from kft.reporting.render import percent

if TYPE_CHECKING:
    from conftest import RecipeFile

WORDS = ["서울의", "가을은", "하늘이", "높고", "바람이", "선선하다"]
ROWS = [{"prompt": WORDS[at % 6], "completion": " ".join(WORDS[at % 3 :])} for at in range(40)]
TEXT_ROWS = [{"text": " ".join(WORDS[at % 3 :])} for at in range(40)]
KEYS: dict[str, Any] = {"export.merge": False, "evaluate.general_text": "auto"}


def plain_bits(folder: Path, texts: list[str]) -> float:
    """Bits per character by transformers' own loss, a text at a time behind a start token."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    nats = 0.0
    for text in texts:
        ids = torch.tensor([[tokenizer.bos_token_id, *tokenizer(text).input_ids]])
        with torch.no_grad():
            nats += float(model(ids, labels=ids).loss) * (ids.shape[1] - 1)
    return nats / log(2) / sum(map(len, texts))


@pytest.mark.parametrize("packing", [False, True])
def test_a_run_says_what_it_cost(tiny_gpt: Path, recipe_file: RecipeFile, *, packing: bool) -> None:
    keys = {**KEYS, "data.packing": packing, "data.max_length": 128, "train.max_steps": 12}
    run = kft.finetune(recipe_file(tiny_gpt, ROWS, {**keys, "export.merge": True}))
    found = run.result["forgetting"]
    assert found["text"] == "auto"
    assert found["base"] == pytest.approx(plain_bits(tiny_gpt, general_texts()), rel=1e-4)
    merged = plain_bits(run.folder / "merged", general_texts())
    assert found["tuned"] == pytest.approx(merged, rel=1e-4)
    assert found["share"] == pytest.approx(merged / found["base"] - 1, rel=1e-2, abs=1e-5)
    assert found["low"] <= found["difference"] <= found["high"]
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "알던 것을 잊었나요?" in page
    assert percent(found["share"]) in page
    card = (run.folder / "adapter" / "README.md").read_text(encoding="utf-8")
    assert found["sentence"] in card.replace("\\", "")


def test_a_file_of_the_users_own(tiny_gpt: Path, recipe_file: RecipeFile, tmp_path: Path) -> None:
    lines = [f"{WORDS[at % 6]} {WORDS[at % 5]}" for at in range(30)]
    (tmp_path / "general.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    named = str(tmp_path / "gen*.txt")
    run = kft.finetune(recipe_file(tiny_gpt, ROWS, {**KEYS, "evaluate.general_text": named}))
    found = run.result["forgetting"]
    assert (found["text"], found["num_rows"]) == (named, 30)
    assert run.evaluate()["general_bits_per_character"] == pytest.approx(found["tuned"], rel=1e-4)
    assert found["base"] == pytest.approx(plain_bits(tiny_gpt, lines), rel=1e-4)


def test_a_passage_longer_than_the_model_goes_on_in_another_example(
    tiny_gpt: Path, recipe_file: RecipeFile, tmp_path: Path
) -> None:
    """`data.max_length` says nothing of a model that takes fewer tokens."""
    file = tmp_path / "general.txt"
    lines = [" ".join(WORDS * 12), *(f"{WORDS[at % 6]} {WORDS[at % 5]}" for at in range(9))]
    file.write_text("\n".join(lines), encoding="utf-8")
    keys = {**KEYS, "evaluate.general_text": str(file), "data.max_length": 512}
    run = kft.finetune(recipe_file(tiny_gpt, ROWS, keys))  # it takes 128
    found = run.result["forgetting"]
    assert found["num_rows"] == 10
    short = recipe_file(tiny_gpt, ROWS, {**keys, "data.max_length": 40}, name="short.yaml")
    cut = kft.finetune(short, {"output_dir": str(tmp_path / "short")}).result["forgetting"]
    assert cut["num_rows"] == 10
    assert evaluate([str(run.folder)])[str(run.folder)][
        "general_bits_per_character"
    ] == pytest.approx(found["tuned"], rel=1e-4)


def test_a_few_passages_have_no_interval(
    tiny_gpt: Path, recipe_file: RecipeFile, tmp_path: Path
) -> None:
    file = tmp_path / "general.txt"
    file.write_text("\n".join(WORDS), encoding="utf-8")
    run = kft.finetune(recipe_file(tiny_gpt, ROWS, {**KEYS, "evaluate.general_text": str(file)}))
    assert run.result["forgetting"]["sentence"].startswith("too few passages to tell (6)")
    assert str(file) in (run.folder / "report.html").read_text(encoding="utf-8")


def test_a_file_that_has_gone_costs_the_other_numbers_nothing(
    tiny_gpt: Path, recipe_file: RecipeFile, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "general.txt"
    file.write_text("\n".join(f"{WORDS[at % 6]} {at}" for at in range(12)), encoding="utf-8")
    run = kft.finetune(recipe_file(tiny_gpt, ROWS, {**KEYS, "evaluate.general_text": str(file)}))
    file.unlink()
    found = run.evaluate()
    assert found["eval_loss"] == pytest.approx(run.result["tuned"]["eval_loss"], rel=1e-4)
    assert "general_bits_per_character" not in found
    capsys.readouterr()
    assert run_words(["evaluate", str(run.folder), "--json"]) == 0
    told = capsys.readouterr().err
    assert f"warning: The general text isn't measured: No file or folder `{file}`" in told
    file.write_bytes(b"PK\x03\x04\x00\xff")  # nor is one that can't be read
    kinds: list[Finding] = []
    evaluate([str(run.folder)], on_finding=kinds.append)
    assert ["general text" in one.what for one in kinds].count(True) == 1


def test_it_is_told_where_no_rows_are_held_out(
    tiny_gpt: Path, recipe_file: RecipeFile, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = recipe_file(tiny_gpt, ROWS, {**KEYS, "data.eval_fraction": 0.0})
    assert run_words(["finetune", str(recipe)]) == 0
    told = " ".join(capsys.readouterr().err.split())
    folder = recipe.parent / "run"
    sentence = json.loads((folder / "result.json").read_text("utf-8"))["forgetting"]["sentence"]
    assert f"forgetting: {sentence}" in told
    assert sentence in (folder / "adapter/README.md").read_text("utf-8").replace("\\", "")


def test_a_model_that_came_apart_has_a_report(
    tiny_gpt: Path, recipe_file: RecipeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def apart(name: str, base: SumStatistic, tuned: SumStatistic, **options: Any) -> Any:
        return forgetting(name, base, replace(tuned, rows=tuned.rows * float("nan")), **options)

    monkeypatch.setattr("kft.api.before_after.forgetting", apart)
    run = kft.finetune(recipe_file(tiny_gpt, ROWS, KEYS))
    assert run.result["forgetting"]["tuned"] is None
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "학습한 모델이 일반 글의 확률을 내지 못합니다" in page


def test_no_more_rows_of_a_file_than_are_said(
    tiny_gpt: Path, recipe_file: RecipeFile, tmp_path: Path
) -> None:
    file = tmp_path / "general.txt"
    lines = [f"{WORDS[at % 6]} {at}" for at in range(MOST_PASSAGES + 50)]
    file.write_text("\n".join(lines), encoding="utf-8")
    run = kft.finetune(recipe_file(tiny_gpt, ROWS, {**KEYS, "evaluate.general_text": str(file)}))
    assert run.result["forgetting"]["num_rows"] == MOST_PASSAGES


def test_masked_words_of_a_bert(tiny_bert: Path, recipe_file: RecipeFile) -> None:
    keys = {**KEYS, "task": "masked_lm", "train.max_steps": 80}
    run = kft.finetune(recipe_file(tiny_bert, TEXT_ROWS, keys))
    found = run.result["forgetting"]
    assert (found["metric"], found["num_rows"]) == ("eval_loss", 64)
    # Its own rows are learnt (1.9 nats), and the passages are not among them.
    assert found["difference"] > run.result["intervals"]["eval_loss"]["difference"] + 0.3


def test_none_is_measured_where_none_is_asked_for(tiny_gpt: Path, recipe_file: RecipeFile) -> None:
    run = kft.finetune(recipe_file(tiny_gpt, ROWS, {**KEYS, "evaluate.general_text": None}))
    assert "forgetting" not in run.result
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "알던 것을 잊었나요?" not in page


def test_models_are_compared_by_it(
    tiny_gpt: Path,
    recipe_file: RecipeFile,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)  # the comparison is written there
    # The base alone is measured in the run's precision too, where `auto` is another.
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda _: True)
    keys = {
        **KEYS, "train.max_steps": 12, "train.learning_rate": 0.05, "train.precision": "float32",
    }  # fmt: skip
    run = kft.finetune(recipe_file(tiny_gpt, ROWS, keys))
    base, tuned = str(tiny_gpt), str(run.folder)
    found = evaluate([base, tuned])
    own = run.result["forgetting"]
    for place, side in ((base, "base"), (tuned, "tuned")):
        assert found[place]["general_bits_per_character"] == pytest.approx(own[side], rel=1e-4)
    against = found[tuned]["against"]["differences"]["general_bits_per_character"]
    assert against["difference"] == pytest.approx(own["difference"], rel=1e-3)
    assert (against["outcome"], against["num_rows"]) == (own["outcome"], 64)
    other = kft.finetune(recipe_file(tiny_gpt, ROWS, {**KEYS, "output_dir": f"{tuned}-2"}))
    assert run_words(["report", tuned, str(other.folder)]) == 0
    page = Path(capsys.readouterr().out.strip().splitlines()[-1]).read_text(encoding="utf-8")
    assert "Loss on general text" in page
    assert f"({percent(own['share'])})" in page


def test_training_that_ruins_a_model_is_told(
    tiny_gpt: Path,
    recipe_file: RecipeFile,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def ruined(name: str, base: SumStatistic, tuned: SumStatistic, **options: Any) -> Any:
        worse = replace(tuned, rows=tuned.rows * [1.5, 1.0])  # half as many nats again
        return forgetting(name, base, worse, **options)

    monkeypatch.setattr("kft.api.before_after.forgetting", ruined)
    recipe = recipe_file(tiny_gpt, ROWS, KEYS)
    assert run_words(["finetune", str(recipe)]) == 0
    told = " ".join(capsys.readouterr().err.split())
    folder = recipe.parent / "run"
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    assert result["forgetting"]["is_much"]
    assert "forgot much of what it knew" in told
    assert f"forgetting: {result['forgetting']['sentence']}" in told
    assert any("forgot much" in finding for finding in result["findings"])
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.count("알고 있던 것을 많이 잊었습니다") == 2  # beside the numbers, and as a finding


class Stages(Silent):
    """Notes how far a run came."""

    def __init__(self) -> None:
        self.titles: list[str] = []

    def stage(self, title: str) -> None:
        self.titles.append(title)


def test_a_file_that_is_not_there_stops_before_training(
    tiny_gpt: Path, recipe_file: RecipeFile, tmp_path: Path
) -> None:
    missing = str(tmp_path / "nothing.txt")
    recipe = recipe_file(tiny_gpt, ROWS, {**KEYS, "evaluate.general_text": missing})
    watching = Stages()
    for call in (kft.check, partial(kft.finetune, observer=watching)):
        with pytest.raises(DataError, match=r"nothing\.txt") as caught:
            call(recipe)
        assert "evaluate.general_text" in str(caught.value)
    assert watching.titles == ["reading data"]
    assert not (tmp_path / "run").exists()


def test_a_file_of_other_columns_and_a_wrong_word_say_what_to_do(
    tiny_gpt: Path, recipe_file: RecipeFile, tmp_path: Path
) -> None:
    file = tmp_path / "general.csv"
    file.write_text("a,b\n봄,여름\n", encoding="utf-8")
    recipe = recipe_file(tiny_gpt, ROWS, {**KEYS, "evaluate.general_text": str(file)})
    with pytest.raises(DataError, match="takes running text"):
        kft.check(recipe)
    with pytest.raises(RecipeError, match="`null` measures none"):
        kft.check(recipe, {"evaluate.general_text": "none"})


def test_a_model_that_labels_has_no_such_text(
    tiny_bert: Path, recipe_file: RecipeFile, tmp_path: Path
) -> None:
    rows = [{"text": WORDS[at % 6], "label": at % 2} for at in range(40)]
    keys = {**KEYS, "task": "sequence_classification"}
    assert "forgetting" not in kft.finetune(recipe_file(tiny_bert, rows, keys)).result
    own = {**keys, "evaluate.general_text": "text.txt", "output_dir": str(tmp_path / "other")}
    with pytest.raises(RecipeError, match="writes no text"):
        kft.finetune(recipe_file(tiny_bert, rows, own))
