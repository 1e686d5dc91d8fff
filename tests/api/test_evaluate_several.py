"""Several models on the same rows, each against the first; and benchmarks of the harness."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import kft
from kft.api.evaluate import Measured, differences, measure_opened
from kft.api.evaluate import evaluate as evaluate_places
from kft.api.opened import open_model
from kft.cli.main import run_words
from kft.errors import ModelError, UsageError

if TYPE_CHECKING:
    from conftest import RecipeFile

WORDS = ["서울의", "가을은", "하늘이", "높고", "바람이", "선선하다"]
ROWS = [{"prompt": WORDS[at % 6], "completion": " ".join(WORDS[at % 3 :])} for at in range(40)]


@pytest.fixture
def run(tiny_gpt: Path, recipe_file: RecipeFile) -> kft.Run:
    keys = {"train.max_steps": 12, "data.max_length": 64, "export.merge": False}
    return kft.finetune(recipe_file(tiny_gpt, ROWS, keys))


def test_each_is_paired_with_the_first(
    run: kft.Run, tiny_gpt: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, tuned = str(tiny_gpt), str(run.folder)
    words = ["evaluate", base, tuned, base]
    assert run_words([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == [base, tuned]
    assert "against" not in found[base]
    against = found[tuned]["against"]
    assert against["model"] == base
    loss = against["differences"]["eval_loss"]
    assert loss["difference"] == pytest.approx(found[tuned]["eval_loss"] - found[base]["eval_loss"])
    assert loss["low"] <= loss["difference"] <= loss["high"] < 0
    assert (loss["outcome"], loss["num_rows"]) == ("better", 20)
    # As the run itself found it, whose pairs are the same.
    own = run.result["intervals"]["eval_loss"]
    assert loss["low"] == pytest.approx(own["low"], rel=0.2)
    assert run_words(words) == 0
    out = capsys.readouterr().out
    assert f"{tuned} against {base}" in out
    lines = out[out.index(" against ") :].splitlines()
    assert lines[1].split() == ["difference", "95", "%", "interval", "outcome"]
    assert lines[2].split()[0] == "eval_loss"
    assert lines[2].endswith("better")


def test_other_rows_and_other_tokens_are_not_paired(run: kft.Run, tiny_gpt: Path) -> None:
    first = measure_opened(open_model(str(tiny_gpt), like=run.recipe), run.recipe)
    assert {"eval_loss", "bits_per_character"} <= set(differences(first, first))
    assert all(one["difference"] == 0 for one in differences(first, first).values())
    other_rows = replace(first, places=[*first.places[:-1], "elsewhere:1"])
    assert differences(first, other_rows) == {}
    other_tokens = replace(first, targets=[count + 1 for count in first.targets])
    shared = set(differences(first, other_tokens))
    assert "bits_per_character" in shared
    assert not shared & {"eval_loss", "perplexity"}
    assert differences(Measured(first.look, [], []), Measured(first.look, [], [])) == {}


def test_without_the_harness_it_is_refused_with_the_way_to_get_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("lm_eval", "lm_eval.evaluator"):
        monkeypatch.setitem(sys.modules, name, None)
    assert run_words(["evaluate", "runs/none", "--harness", "kobest_copa"]) == 2
    err = capsys.readouterr().err
    assert "`--harness` needs the library `lm_eval`" in err
    assert "hint: `pip install 'kft[harness]'`" in err
    assert run_words(["evaluate", "runs/none", "--harness", "x", "--data", "y"]) == 2
    assert "`--harness` brings its own rows" in capsys.readouterr().err


TASK = """\
task: weather
dataset_path: json
dataset_kwargs:
  data_files: {{test: {file}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_target: 0
doc_to_choice: ["하늘이 높다", "하늘이 낮다"]
metric_list:
  - metric: acc
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the harness's own
def test_the_harness_asks_the_tuned_model(
    run: kft.Run,
    tiny_bert: Path,
    tmp_path: Path,
    write_jsonl: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("lm_eval", reason="the extra `harness` is not installed")
    import torch

    from kft.api.harness import run_harness
    from kft.errors import UsageError

    questions = [f"{word} 가을은" for word in WORDS]
    file = write_jsonl(tmp_path / "weather.jsonl", [{"question": one} for one in questions])
    task = tmp_path / "weather.yaml"
    task.write_text(TASK.format(file=file), encoding="utf-8")
    place = str(run.folder)
    assert run_words(["evaluate", place, "--harness", str(task), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)[place]
    assert found["weather num_rows"] == 6
    # What it counts is what the model itself finds likelier.
    opened = open_model(place)
    right = 0
    for question in questions:
        scores = []
        for choice in ("하늘이 높다", "하늘이 낮다"):
            asked = opened.tokenizer(question, add_special_tokens=False).input_ids
            whole = opened.tokenizer(f"{question} {choice}", add_special_tokens=False).input_ids
            with torch.no_grad():
                logits = opened.model(torch.tensor([whole])).logits[0].log_softmax(-1)
            at = range(len(asked), len(whole))
            scores.append(sum(float(logits[spot - 1, whole[spot]]) for spot in at))
        right += scores[0] > scores[1]
    assert found["weather acc"] == pytest.approx(right / 6)
    assert run_words(["evaluate", place, "--harness", "no_such_task"]) == 2
    assert "The harness can't load `no_such_task`" in capsys.readouterr().err
    with pytest.raises(UsageError, match="can't be asked by the harness"):
        run_harness([str(tiny_bert)], [str(task)])


def test_one_model_has_nothing_to_be_compared_with(run: kft.Run) -> None:
    assert "against" not in evaluate_places([str(run.folder)])[str(run.folder)]


def test_copies_are_looked_up_among_a_runs_own_training_answers(
    tiny_gpt: Path, recipe_file: RecipeFile, tmp_path: Path
) -> None:
    keys = {"evaluate.scored_generations": 8, "evaluate.max_new_tokens": 4, "export.merge": False}
    first = kft.finetune(recipe_file(tiny_gpt, ROWS, keys))
    other_rows = [{"prompt": row["prompt"], "completion": f"{row['prompt']} 끝"} for row in ROWS]
    keys["output_dir"] = str(tmp_path / "other")
    other = kft.finetune(recipe_file(tiny_gpt, other_rows, keys, name="other.yaml"))
    base, one, two = str(tiny_gpt), str(first.folder), str(other.folder)
    found = evaluate_places([one, two, base])
    assert [("memorised" in found[place]) for place in (one, two, base)] == [True, False, True]


def test_runs_of_different_tasks_are_refused_before_anything_loads(
    run: kft.Run,
    tiny_bert: Path,
    recipe_file: RecipeFile,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [{"text": WORDS[at % 6], "label": at % 2} for at in range(40)]
    keys = {"task": "sequence_classification", "export.merge": False, "train.max_steps": 1}
    keys["output_dir"] = str(tmp_path / "labels")
    labels = kft.finetune(recipe_file(tiny_bert, rows, keys, name="labels.yaml"))
    monkeypatch.setattr("kft.api.evaluate.open_model", lambda *_, **__: pytest.fail("loaded"))
    for first, second in ((run, labels), (labels, run)):
        with pytest.raises(UsageError, match="different tasks"):
            evaluate_places([str(first.folder), str(second.folder)])


def test_a_folder_that_is_not_there_is_said_at_once(run: kft.Run) -> None:
    missing = str(run.folder.parent / "nothing")
    for places in ([missing], [str(run.folder), missing]):
        with pytest.raises(ModelError, match=r"There is no checkpoint folder `.*nothing`"):
            evaluate_places(places)
