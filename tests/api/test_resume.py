"""A run that was stopped goes on to the same bits; what must not go on is refused."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file

import kft
from kft.api.observer import Silent
from kft.errors import RecipeError
from kft.train.checkpoint import complete_checkpoints

if TYPE_CHECKING:
    from conftest import RecipeFile

Rows = list[dict[str, str]]
KEYS = {"train.max_steps": 6, "train.save_steps": 2, "export.merge": False}


class StopAt(Silent):
    """Raises a signal in the middle of a run, as a person or a cluster would."""

    def __init__(self, step: int, number: signal.Signals) -> None:
        self.at, self.number = step, number
        self.findings: list[str] = []

    def step(self, record: Any, total_steps: int) -> None:  # noqa: ARG002
        if record["step"] == self.at:
            signal.raise_signal(self.number)

    def finding(self, finding: Any) -> None:
        self.findings.append(str(finding))


def weights(run: kft.Run) -> dict[str, torch.Tensor]:
    return load_file(run.folder / "adapter" / "adapter_model.safetensors")


def require_equal(straight: kft.Run, resumed: kft.Run) -> None:
    assert resumed.metrics["step"].tolist() == straight.metrics["step"].tolist()
    for column in ("loss", "grad_norm", "learning_rate", "num_targets"):
        assert resumed.metrics[column].tolist() == straight.metrics[column].tolist()
    expected, got = weights(straight), weights(resumed)
    assert all(torch.equal(expected[name], got[name]) for name in expected)


@pytest.mark.parametrize(
    ("keys", "number", "raised"),
    [
        ({"adapter.lora_dropout": 0.1}, signal.SIGINT, KeyboardInterrupt),
        ({"adapter.method": "qlora", "train.optim": "adamw_8bit"}, signal.SIGTERM, SystemExit),
    ],
)
def test_a_stopped_run_goes_on_to_the_same_bits(
    keys: dict[str, Any],
    number: signal.Signals,
    raised: type[BaseException],
    tiny_gpt: Path,
    recipe_file: RecipeFile,
    korean_rows: Rows,
    tmp_path: Path,
) -> None:
    path = recipe_file(tiny_gpt, korean_rows, KEYS | keys)
    straight = kft.finetune(path, {"output_dir": str(tmp_path / "straight")})
    observer = StopAt(3, number)
    with pytest.raises(raised) as caught:
        kft.finetune(path, observer=observer)
    if raised is SystemExit:
        assert caught.value.code == 143
    folder = tmp_path / "run"
    assert (folder / "checkpoints" / "step-00000003" / "manifest.json").is_file()
    assert "--resume` goes on" in observer.findings[-1]
    require_equal(straight, kft.finetune(path, resume=True))
    assert len(list((folder / "checkpoints").iterdir())) == 2


def test_a_finished_run_says_that_no_step_is_left(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: Rows
) -> None:
    class Stages(Silent):
        def __init__(self) -> None:
            self.titles: list[str] = []

        def stage(self, title: str) -> None:
            self.titles.append(title)

    path = recipe_file(tiny_gpt, korean_rows, KEYS)
    straight = kft.finetune(path)
    again, longer = Stages(), Stages()
    require_equal(straight, kft.finetune(path, resume=True, observer=again))
    assert "all 6 steps were taken before: saving, measuring and exporting again" in again.titles
    assert not [title for title in again.titles if title.startswith("training")]
    kft.finetune(path, {"train.max_steps": 7}, resume=True, observer=longer)
    assert "training on from step 7" in longer.titles


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: Rows, tmp_path: Path
) -> None:
    path = recipe_file(tiny_gpt, korean_rows, KEYS)
    straight = kft.finetune(path)
    kept = tmp_path / "run" / "checkpoints"
    damaged = kept / "step-00000006" / "weights.safetensors"
    content = bytearray(damaged.read_bytes())
    content[-5] ^= 1
    damaged.write_bytes(content)
    assert [found[1] for found in complete_checkpoints(kept) if isinstance(found, tuple)] == [4]
    before = weights(straight)
    observer = StopAt(99, signal.SIGINT)
    again = kft.finetune(path, resume=True, observer=observer)
    assert "`weights.safetensors` is not what was written" in "\n".join(observer.findings)
    assert again.metrics["step"].tolist() == [1, 2, 3, 4, 5, 6]
    assert all(torch.equal(before[name], weights(again)[name]) for name in before)


def test_another_recipe_or_other_rows_are_refused(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: Rows, tmp_path: Path
) -> None:
    path = recipe_file(tiny_gpt, korean_rows, KEYS | {"train.max_steps": 2})
    kft.finetune(path)
    with pytest.raises(RecipeError, match=r"another `adapter.r`, got `8`"):
        kft.finetune(path, {"adapter.r": 8}, resume=True)
    longer = kft.finetune(path, {"train.max_steps": 4}, resume=True)
    assert longer.metrics["step"].tolist() == [1, 2, 3, 4]
    rows = tmp_path / "recipe.jsonl"
    more = {"prompt": "하나", "completion": "더"}
    rows.write_text(rows.read_text("utf-8") + json.dumps(more) + "\n", encoding="utf-8")
    with pytest.raises(RecipeError, match="data has changed"):
        kft.finetune(path, resume=True)


def test_with_nothing_there_resume_starts_afresh(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: Rows
) -> None:
    run = kft.finetune(recipe_file(tiny_gpt, korean_rows, KEYS), resume=True)
    assert run.result["steps"] == 6
