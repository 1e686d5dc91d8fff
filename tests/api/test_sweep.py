"""Sweeps: their words, grids and draws, going on, and what they leave."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import kft
from kft.api.drawing import Drawing
from kft.api.observer import Silent
from kft.api.sweep import sweep
from kft.api.sweep_space import Range, read_range, read_space, split_values
from kft.cli.main import run_words
from kft.errors import Finding, RecipeError, TrainError, UsageError
from kft.recipe.reader import read_recipe

if TYPE_CHECKING:
    from conftest import RecipeFile

ROWS = [
    {"prompt": f"{word} 가을은", "completion": f"{word} 하늘이 높고 바람이 선선하다"}
    for word in ("서울의", "부산의", "대구의", "광주의") * 6
]


class Told(Silent):
    """Keeps what a sweep tells, and can stop it at a step."""

    def __init__(self, stop_at: tuple[int, int] | None = None) -> None:
        self.trials: list[str] = []
        self.findings: list[Finding] = []
        self.steps: list[int] = []
        self.stop_at = stop_at

    def facts(self, facts: Any) -> None:
        self.trials += [name for name in facts if name.startswith("trial-")]

    def finding(self, finding: Finding) -> None:
        self.findings.append(finding)

    def step(self, record: Any, total_steps: int) -> None:
        self.steps.append(int(record["step"]))
        if self.stop_at == (len(self.trials), int(record["step"])) and total_steps == 4:
            raise KeyboardInterrupt


@pytest.fixture
def recipe(tiny_gpt: Path, recipe_file: RecipeFile) -> Path:
    return recipe_file(tiny_gpt, ROWS, {"train.save_steps": 2, "data.max_length": 48})


def folder_of(recipe: Path) -> Path:
    return recipe.parent / "run"


# Words


def test_values_are_split_outside_of_brackets_and_quotes(recipe: Path) -> None:
    assert split_values("8") == ["8"]
    assert split_values("[c_attn, c_proj],all-linear") == ["[c_attn, c_proj]", "all-linear"]
    assert split_values("1,2,1") == ["1", "2"]
    space = read_space(
        str(recipe), ["adapter.r=2,4", "train.learning_rate=1e-3", "adapter.use_dora=true,false"]
    )
    assert space.recipe.train.learning_rate == 1e-3
    assert [list(values.values()) for values in space.grid()] == [
        ["2", "true"], ["2", "false"], ["4", "true"], ["4", "false"],
    ]  # fmt: skip
    one = space.trial_recipe({"adapter.r": "2", "adapter.use_dora": "true"}, "runs/x")
    assert (one.adapter.r, one.adapter.use_dora, one.output_dir) == (2, True, "runs/x")
    assert one.export.merge is False


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1e-5..1e-3", Range(1e-5, 1e-3, False)),
        ("2..8", Range(2, 8, True)),
        (".1..0.5", Range(0.1, 0.5, False)),
        ("../rows.jsonl", None),
        ("a..b", None),
    ],
)
def test_ranges(text: str, expected: Range | None) -> None:
    assert read_range(text) == expected


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["adapter.r"], "isn't of the form `key=v1,v2`"),
        (["adapter.r=4"], "Nothing varies"),
        (["adapter.r=4", "adapter.r=2,8"], "is named twice"),
        (["output_dir=a,b"], "can't vary within a sweep"),
        (["task=causal_lm,masked_lm"], "can't vary within a sweep"),
        (["adapter.r=8..2"], "goes downwards"),
    ],
)
def test_wrong_words(words: list[str], what: str, recipe: Path) -> None:
    with pytest.raises(UsageError, match=what):
        read_space(str(recipe), words)


def test_a_wrong_value_is_told_before_anything_is_trained(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_words(["sweep", str(recipe), "adapter.r=4,0"]) == 2
    assert "Invalid value for `adapter.r`, got `0`" in capsys.readouterr().err
    assert run_words(["sweep", str(recipe), "adapter.rank=4,8"]) == 2
    assert "Unknown key `adapter.rank`" in capsys.readouterr().err
    # A combination that only together makes no sense.
    space = read_space(
        str(recipe), ["model.attention=causal,prefix", "adapter.method=lora,full", "adapter.r=2"]
    )
    with pytest.raises(UsageError, match="has a range"):
        list(read_space(str(recipe), ["adapter.r=2..8"]).grid())
    assert len(list(space.grid())) == 4
    assert not folder_of(recipe).exists()


# A grid


def test_a_grid_stops_goes_on_and_says_which_was_best(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train.learning_rate=0.000001,0.02", "adapter.r=2,4", "adapter.lora_alpha=8"]
    with pytest.raises(KeyboardInterrupt):
        sweep(read_space(str(recipe), words), observer=Told(stop_at=(2, 3)))
    record = json.loads((folder_of(recipe) / "sweep.json").read_text(encoding="utf-8"))
    assert [trial["status"] for trial in record["trials"]] == ["finished", "begun"]

    told = Told()
    done = sweep(read_space(str(recipe), words), observer=told)
    assert told.trials == ["trial-002", "trial-003", "trial-004"]
    assert told.steps[:2] == [3, 4]  # from the checkpoint after step 2
    assert [trial.status for trial in done.trials] == ["finished"] * 4
    for trial in done.trials:
        run = kft.load_run(folder_of(recipe) / trial.name)
        assert trial.metric == run.result["tuned"]["eval_loss"]
        assert str(run.recipe.adapter.r) == trial.values["adapter.r"]
        assert not (run.folder / "merged").exists()
    assert done.ranked[0].metric == min(trial.metric or 9.0 for trial in done.trials)
    assert done.ranked[0].values["train.learning_rate"] == "0.02"
    assert any("flatters" in finding.what for finding in told.findings)
    page = (folder_of(recipe) / "comparison.html").read_text(encoding="utf-8")
    assert page.index(done.ranked[0].name) < page.index(done.ranked[1].name)
    # The best recipe can be run as it stands, into its own folder, and merges again.
    best = read_recipe(folder_of(recipe) / "best.yaml")
    assert best.output_dir == f"{folder_of(recipe)}-best"
    assert (best.train.learning_rate, best.export.merge) == (0.02, "auto")

    # Once more: nothing is left to do, and the command prints what is known.
    assert run_words(["sweep", str(recipe), *words]) == 0
    out, err = capsys.readouterr()
    assert out == f"{folder_of(recipe)}\n"
    assert "step 1/4" not in err
    lines = [line.split() for line in err.splitlines() if line.startswith("trial-")]
    assert lines[0][:3] == [done.ranked[0].name, "0.02", done.ranked[0].values["adapter.r"]]
    assert run_words(["sweep", str(recipe), *words, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["best"] == done.ranked[0].name
    assert printed["higher_is_better"] is False
    # Another sweep doesn't go into the same folder.
    assert run_words(["sweep", str(recipe), "adapter.r=2,4"]) == 2
    assert "holds another sweep" in capsys.readouterr().err


def test_a_trial_that_fails_is_told_and_the_others_run(
    tiny_gpt: Path, recipe_file: RecipeFile
) -> None:
    recipe = recipe_file(tiny_gpt, ROWS, {"data.max_length": 48, "train.max_steps": 1})
    none = ["adapter.target_modules=[nothing],[neither]"]
    told = Told()
    with pytest.raises(TrainError, match="None of the 2 trials came to an end"):
        sweep(read_space(str(recipe), none), observer=told)
    assert [finding.what.split(":")[0] for finding in told.findings] == [
        "trial-001 failed",
        "trial-002 failed",
    ]
    words = ["adapter.target_modules=[nothing],[c_attn]", f"output_dir={recipe.parent / 'two'}"]
    done = sweep(read_space(str(recipe), words))
    assert [trial.status for trial in done.trials] == ["failed", "finished"]
    assert "matches `nothing`" in str(done.trials[0].error)
    assert not (recipe.parent / "two" / "comparison.html").exists()  # of one run


# Draws


def known_of(drawing: Drawing, count: int, start: list[Any] | None = None) -> list[Any]:
    """Trials whose metric is the distance of the learning rate from 1e-3, in decades."""
    from math import log10

    known = list(start or [])
    while len(known) < count:
        values = drawing.draw(known)
        assert values is not None
        known.append((values, abs(log10(float(values["train.learning_rate"])) + 3)))
    return known


def test_draws_depend_on_what_is_known_and_the_seed_alone(recipe: Path) -> None:
    words = ["train.learning_rate=1e-6..1e-1", "adapter.r=2..64", "adapter.bias=none,all"]
    space = read_space(str(recipe), words)
    make = lambda kind, seed=1: Drawing(space, kind, seed=seed, higher_is_better=False)  # noqa: E731
    whole = known_of(make("tpe"), 30)
    assert known_of(make("tpe"), 30, whole[:13]) == whole
    assert known_of(make("random"), 12) != known_of(make("random", 2), 12)
    for values, _ in whole:
        assert 1e-6 <= float(values["train.learning_rate"]) <= 1e-1
        assert 2 <= int(values["adapter.r"]) <= 64
    # The estimator looks where it was good: its later draws are nearer than its first.
    distances = [distance for _, distance in whole]
    assert sum(distances[20:]) / 10 < 0.6 * sum(distances[:10]) / 10
    # A failed trial is known too, without a metric.
    assert make("tpe").draw([*whole[:3], (whole[3][0], None)]) is not None


def test_draws_end_with_the_combinations(recipe: Path) -> None:
    space = read_space(str(recipe), ["adapter.r=2,4", "adapter.bias=none,all"])
    drawing = Drawing(space, "random", seed=0, higher_is_better=True)
    known: list[Any] = []
    while (values := drawing.draw(known)) is not None:
        known.append((values, 1.0))
    assert sorted(tuple(values.values()) for values, _ in known) == [
        ("2", "all"), ("2", "none"), ("4", "all"), ("4", "none"),
    ]  # fmt: skip


def test_drawn_trials_go_on_and_may_grow(tiny_gpt: Path, recipe_file: RecipeFile) -> None:
    recipe = recipe_file(tiny_gpt, ROWS, {"data.max_length": 48, "train.max_steps": 1})
    words = ["train.learning_rate=1e-4..1e-2"]
    first = sweep(read_space(str(recipe), words), trials=1)
    told = Told()
    more = sweep(read_space(str(recipe), words), trials=2, observer=told)
    assert told.trials == ["trial-002"]
    assert more.trials[0] == first.trials[0]
    assert len({trial.values["train.learning_rate"] for trial in more.trials}) == 2
    with pytest.raises(UsageError, match="holds another sweep"):
        sweep(read_space(str(recipe), words), trials=3, sampler="random")


def test_without_optuna_it_is_refused_with_the_way_to_get_it(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UsageError, match="needs the library `optuna`") as refused:
        sweep(read_space(str(recipe), ["adapter.r=2..8"]), trials=2)
    assert refused.value.hint == "`pip install 'kft[sweep]'`"
    assert not folder_of(recipe).exists()


def test_a_recipe_that_makes_no_sense_together_runs_nothing(recipe: Path) -> None:
    space = read_space(str(recipe), ["adapter.method=lora,full", "model.quantization=none,nf4"])
    with pytest.raises(RecipeError):
        sweep(space)
    assert not folder_of(recipe).exists()
