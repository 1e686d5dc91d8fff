"""Several processes of one run: the same steps as one, one voice, and an end together."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import torch
from safetensors.torch import load_file
from tiny_models import encoder_shape
from transformers import BertConfig

import kft
from kft.api.begun import Begun
from kft.api.connecting import connect
from kft.api.launched import launched_rank, num_launched, repeats_another
from kft.api.loaded import load
from kft.api.observer import Silent
from kft.api.ranks import Ranks
from kft.api.run_lock import RunLock
from kft.api.training import idle_ranks, prepare_training
from kft.cli.main import run_words
from kft.data.batches import Share, WindowPlan, make_windows
from kft.errors import UsageError
from kft.recipe.reader import read_recipe
from kft.tasks.causal_lm import CausalLM
from kft.tasks.task import Example

if TYPE_CHECKING:
    from conftest import RecipeFile

Rows = list[dict[str, str]]
ROOT = Path(__file__).resolve().parents[2]
KEYS: dict[str, Any] = {
    "data.eval_fraction": 0.25,
    "train.max_steps": 20,
    "train.per_device_train_batch_size": 8,
    "train.learning_rate": 3e-3,
    "train.save_steps": 5,
    "export.merge": False,
}
ODD_RANK = """
import os, sys
import kft
from kft.cli.main import main
words, odd = sys.argv[1:], os.environ["RANK"] == "1"
if words[0] == "finetune":
    main([*words, *(["data.train=" + os.environ["ODD_DATA"]] if odd else [])])
for stats in kft.steps(words[1]):
    if odd and stats.step == 3:
        raise SystemError("a fault of this rank alone")
"""

SHORT_RANK = """
import os, sys
import torch
from kft.cli.main import main
from kft.tasks.language_loss import LanguageLoss

forward, calls = LanguageLoss.forward, []
def limited(self, batch):
    calls.append(len(batch.input_ids))
    total = forward(self, batch)
    if self.training and os.environ["RANK"] == "1" and calls[-1] > int(os.environ["MOST_ROWS"]):
        if os.environ["AT"] == "forward":
            raise torch.OutOfMemoryError("CUDA out of memory. Planted.")
        total.total.register_hook(out_of_memory)
    return total
def out_of_memory(gradient):
    raise torch.OutOfMemoryError("CUDA out of memory. Planted.")
LanguageLoss.forward = limited
main(sys.argv[1:])
"""


def launch(
    ranks: int, *words: str, nodes: tuple[str, ...] = ("--standalone",), **environment: str
) -> subprocess.Popen[str]:
    """Start `ranks` connected processes: of kft, or of the script that `words` begin with."""
    program = words if words[0].endswith(".py") else ("-m", "kft", *words)
    launcher = ["-m", "torch.distributed.run", *nodes, "--nproc-per-node", str(ranks)]
    return subprocess.Popen(
        [sys.executable, *launcher, *program],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen[str], code: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=300)
    assert process.returncode == code, err
    return out, err


def steps_of(folder: Path) -> dict[str, torch.Tensor]:
    lines = (folder / "metrics.jsonl").read_text("utf-8").splitlines()
    steps = [line for line in map(json.loads, lines) if "loss" in line]
    assert [line["step"] for line in steps] == list(range(1, len(steps) + 1))
    names = ("loss", "grad_norm", "num_targets")
    return {name: torch.tensor([line[name] for line in steps]).double() for name in names}


def weights_of(folder: Path) -> torch.Tensor:
    saved = load_file(folder / "adapter" / "adapter_model.safetensors")
    return torch.cat([saved[name].flatten().double() for name in sorted(saved)])


def require_close(folder: Path, other: Path, limit: float = 1e-6) -> None:
    """Losses, gradient norms and weights agree as ||difference|| / ||value||."""
    pairs = {**steps_of(folder), "weights": weights_of(folder)}
    for name, value in {**steps_of(other), "weights": weights_of(other)}.items():
        assert (pairs[name] - value).norm() / value.norm() <= limit, name


@pytest.mark.slow  # .ci/run runs it all the same
def test_two_ranks_take_the_steps_of_one(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: Rows, tmp_path: Path
) -> None:
    path = recipe_file(tiny_gpt, korean_rows, KEYS | {"evaluate.eval_steps": 7})
    one = kft.finetune(path)
    half = "train.per_device_train_batch_size=4"
    two = f"output_dir={tmp_path / 'two'}"
    out, err = end(launch(2, "finetune", str(path), half, two))
    assert out.split() == [str(tmp_path / "two")]  # said once
    assert err.count("reading data") == 1
    require_close(tmp_path / "two", one.folder)
    evaluated = list(one.metrics["eval_loss"].dropna())
    assert kft.load_run(tmp_path / "two").metrics["eval_loss"].dropna().tolist() == pytest.approx(
        evaluated, rel=1e-5
    )
    kept = sorted(path.name for path in (tmp_path / "two").iterdir())
    assert kept == sorted(path.name for path in one.folder.iterdir())  # no file of another rank
    # One process that goes on: nothing is left to do, and nothing differs.
    again = kft.finetune(
        path, {half.split("=")[0]: 4, "output_dir": str(tmp_path / "two")}, resume=True
    )
    require_close(again.folder, one.folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    "keys",
    [
        {"data.packing": True, "data.max_length": 64, "adapter.method": "full", "adapter.r": 8},
        {"data.streaming": True, "adapter.method": "qlora"},
    ],
)
def test_packed_and_streamed_rows_too(
    keys: dict[str, Any],
    tiny_llama: Path,
    recipe_file: RecipeFile,
    korean_rows: Rows,
    tmp_path: Path,
) -> None:
    size = {"train.per_device_train_batch_size": 1, "train.max_steps": 6}
    path = recipe_file(tiny_llama, korean_rows, KEYS | size | keys)
    more = {"train.gradient_accumulation_steps": 3, "output_dir": str(tmp_path / "one")}
    one = kft.finetune(path, more)
    end(launch(3, "finetune", str(path)))
    for name, value in steps_of(one.folder).items():
        other = steps_of(tmp_path / "run")[name]
        assert (other - value).norm() / value.norm() <= 1e-6, name


@pytest.mark.slow
def test_four_ranks_one_of_which_is_killed_go_on_as_two(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: Rows, tmp_path: Path
) -> None:
    path = recipe_file(tiny_gpt, korean_rows, KEYS | {"train.max_steps": 60})
    one = kft.finetune(path, {"output_dir": str(tmp_path / "one")})
    quarter = "train.per_device_train_batch_size=2"
    process = launch(4, "finetune", str(path), quarter)
    wait_for(tmp_path / "run" / "checkpoints" / "step-00000010")
    of_kft(process)[2].kill()
    _, err = end(process, 1)
    assert "Another process of this run ended" in err
    assert 10 <= len(steps_of(tmp_path / "run")["loss"]) < 60
    end(launch(2, "finetune", str(path), quarter, "--resume"))
    require_close(tmp_path / "run", one.folder)
    told = json.loads((tmp_path / "run" / "environment.json").read_text("utf-8"))
    assert (told["ranks"], told["ranks_now"]) == (4, 2)


@pytest.mark.slow
def test_a_signal_to_one_rank_stops_all_at_the_same_step(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: Rows, tmp_path: Path
) -> None:
    path = recipe_file(tiny_gpt, korean_rows, KEYS | {"train.max_steps": 60})
    half = "train.per_device_train_batch_size=4"
    process = launch(2, "finetune", str(path), half)
    wait_for(tmp_path / "run" / "checkpoints" / "step-00000005")
    of_kft(process)[1].send_signal(signal.SIGTERM)
    _, err = end(process, 1)
    assert err.count("Stopped after step") == 1
    kept = sorted((tmp_path / "run" / "checkpoints").iterdir())[-1]
    assert f"after step {int(kept.name[5:])} of 60" in err
    one = kft.finetune(path, {"output_dir": str(tmp_path / "one")})
    end(launch(2, "finetune", str(path), half, "--resume"))
    require_close(tmp_path / "run", one.folder)


@pytest.mark.slow
def test_two_launchers_as_on_two_machines(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: Rows, tmp_path: Path
) -> None:
    path = recipe_file(tiny_gpt, korean_rows, KEYS | {"train.max_steps": 6})
    one = kft.finetune(path, {"output_dir": str(tmp_path / "one")})
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meet = f"127.0.0.1:{free.getsockname()[1]}"
    words = ("finetune", str(path), "train.per_device_train_batch_size=4")
    nodes = ("--nnodes=2", "--rdzv-backend=c10d", f"--rdzv-endpoint={meet}", "--rdzv-id=7")
    machines = [launch(1, *words, nodes=nodes, KFT_CACHE=str(tmp_path / n)) for n in "ab"]
    outputs = [end(machine) for machine in machines]
    assert sorted(out.strip() for out, _ in outputs) == ["", str(tmp_path / "run")]
    require_close(tmp_path / "run", one.folder)


def test_a_signal_that_comes_while_ranks_agree_is_not_lost(
    tiny_gpt: Path,
    recipe_file: RecipeFile,
    korean_rows: Rows,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = recipe_file(tiny_gpt, korean_rows, KEYS | {"train.max_steps": 8, "train.save_steps": 8})
    asked: list[int] = []

    def largest(self: Ranks, number: int) -> int:
        asked.append(number)
        if len(asked) == 3:
            signal.raise_signal(signal.SIGTERM)
        return number

    monkeypatch.setattr(Ranks, "largest", largest)
    with pytest.raises(SystemExit) as left:
        kft.finetune(path)
    assert left.value.code == 128 + signal.SIGTERM
    assert asked == [0, 0, 0, signal.SIGTERM]
    assert [kept.name for kept in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000004"]


@pytest.mark.slow
def test_a_rank_that_fails_ends_the_others_and_is_the_one_that_tells(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: Rows, tmp_path: Path, write_jsonl: Any
) -> None:
    path = recipe_file(tiny_gpt, korean_rows, KEYS)
    (tmp_path / "odd.py").write_text(ODD_RANK, encoding="utf-8")
    script = str(tmp_path / "odd.py")
    _, err = end(launch(2, script, "finetune", str(path), ODD_DATA="nowhere.jsonl"), 1)
    assert err.count("error: ") == 1
    assert "rank 1:" in err
    assert "nowhere.jsonl" in err
    others = write_jsonl(tmp_path / "others.jsonl", korean_rows[1:])
    _, err = end(launch(2, script, "finetune", str(path), ODD_DATA=str(others)), 1)
    assert err.count("error: The ranks have different rows") == 1
    assert not (tmp_path / "run").exists()
    _, err = end(launch(2, script, "steps", str(path)), 1)
    assert "a fault of this rank alone" in err
    assert "Another process of this run ended" in err


def without_memory(at: str, most: int, code: int, recipe: Path, tmp_path: Path, *keys: str) -> str:
    """The stderr of a run on two ranks, of which one has room for so many rows at most."""
    (tmp_path / "short.py").write_text(SHORT_RANK, encoding="utf-8")
    script, plain = str(tmp_path / "short.py"), "train.fast_paths=false"
    words = (script, "finetune", str(recipe), plain, *keys)
    return end(launch(2, *words, AT=at, MOST_ROWS=str(most)), code)[1]


@pytest.mark.slow
@pytest.mark.parametrize("at", ["forward", "backward"])
def test_memory_that_one_rank_lacks_makes_all_cut_the_window_smaller(
    at: str, tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: Rows, tmp_path: Path
) -> None:
    path = recipe_file(tiny_gpt, korean_rows, KEYS | {"train.max_steps": 12})
    plain = {"train.fast_paths": False, "output_dir": str(tmp_path / "one")}
    one = kft.finetune(path, plain)
    err = without_memory(at, 2, 0, path, tmp_path, "train.per_device_train_batch_size=4")
    assert err.count("Out of memory at step 1 with micro-batches of 4 rows") == 1
    assert "computed again with 2" in err
    require_close(tmp_path / "run", one.folder)


@pytest.mark.slow
def test_a_row_that_is_too_much_for_one_rank_ends_all(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: Rows, tmp_path: Path
) -> None:
    path = recipe_file(tiny_gpt, korean_rows, KEYS)
    err = without_memory("backward", 0, 1, path, tmp_path)
    assert err.count("error: The device has no memory for a single row") == 1
    assert [err.count(f"micro-batches of {rows} rows") for rows in (8, 4, 2)] == [1, 1, 1]


@pytest.mark.slow
def test_a_tokenizer_is_made_once_for_all_ranks(
    recipe_file: RecipeFile, korean_rows: Rows, tmp_path: Path
) -> None:
    BertConfig(**encoder_shape(vocab_size=400)).save_pretrained(tmp_path / "config")
    rows = [{"text": f"{row['prompt']} {row['completion']}"} for row in korean_rows]
    keys = {
        "task": "masked_lm",
        "model.init": "random",
        "model.tokenizer": "train",
        "adapter.method": "full",
        "train.max_steps": 3,
    }
    end(launch(2, "finetune", str(recipe_file(tmp_path / "config", rows, KEYS | keys))))
    assert len(steps_of(tmp_path / "run")["loss"]) == 3


def of_kft(launcher: subprocess.Popen[str]) -> list[psutil.Process]:
    """The launched processes in the order of their ranks."""
    children = psutil.Process(launcher.pid).children()
    return sorted(children, key=lambda child: int(child.environ()["RANK"]))


def wait_for(path: Path) -> None:
    for _ in range(1200):
        if path.exists():
            return
        time.sleep(0.1)
    raise AssertionError(f"{path} never came")


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"SLURM_STEP_NUM_TASKS": "4"}, "4 processes were asked for"),
        ({"WORLD_SIZE": "2"}, "2 processes were asked for"),
        ({"ACCELERATE_USE_CPU": "True", "MASTER_ADDR": "127.0.0.1"}, "Several processes"),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "DeepSpeed was asked for"),
    ],
)
def test_what_was_asked_for_and_is_not_in_force_is_refused(
    environment: dict[str, str],
    said: str,
    tiny_gpt: Path,
    recipe_file: RecipeFile,
    korean_rows: Rows,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=said):
        kft.finetune(recipe_file(tiny_gpt, korean_rows, KEYS))
    assert not (tmp_path / "run").exists()


def test_the_loss_is_divided_once_whatever_the_environment_says(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    recipe = read_recipe(recipe_file(tiny_gpt, korean_rows, KEYS))
    assert connect(recipe).accelerator.gradient_accumulation_steps == 1


def test_what_the_launcher_says(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (launched_rank(), num_launched(), repeats_another()) == (0, 1, False)
    for name, value in {"WORLD_SIZE": "8", "RANK": "5", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    assert (launched_rank(), num_launched(), repeats_another()) == (5, 8, True)
    monkeypatch.setenv("LOCAL_RANK", "0")  # on another machine: it may see other files
    assert not repeats_another()


def test_only_finetune_runs_in_several_processes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run_words(["presets"]) == 2
    assert "`kft presets` was launched as 2 processes" in capsys.readouterr().err
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert run_words(["presets"]) == 0


def test_a_run_folder_has_one_writer(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: Rows, tmp_path: Path
) -> None:
    path = recipe_file(tiny_gpt, korean_rows, KEYS | {"train.max_steps": 2})
    other = RunLock(tmp_path / "run")
    other.take()
    with pytest.raises(UsageError, match="Another process is writing the run folder"):
        kft.finetune(path)
    other.release()
    assert kft.finetune(path).result["steps"] == 2
    assert not other.path.exists()


def examples(lengths: list[int]) -> list[Example]:
    return [Example([4] * n, [4] * n, f"rows:{n}", "") for n in lengths]


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_each_row_is_read_once_and_all_ranks_have_as_many_windows(ranks: int) -> None:
    rows = examples(list(range(2, 13)))  # 11 rows: windows of 4, 4 and 3
    plan = WindowPlan(len(rows), 2, 2, 2.0, None, seed=3)
    windows = [
        list(
            make_windows(
                rows, plan, lambda part: CausalLM().collate(part, 0), share=Share(rank, ranks)
            )
        )
        for rank in range(ranks)
    ]
    assert {len(of_rank) for of_rank in windows} == {plan.total_steps} == {6}
    for step in range(plan.total_steps):
        batches = [batch for of_rank in windows for batch in of_rank[step]]
        tokens = sum(batch.num_tokens for batch in batches if not batch.is_spare)
        assert tokens == sum(len(rows[row[0]].input_ids) for row in plan.rows(step + 1))
        assert all(of_rank[step] for of_rank in windows)
        assert sum(batch.is_spare for batch in batches) == max(0, ranks - 2)


def test_a_process_has_its_part_of_the_memory_and_a_step_that_of_all(
    tiny_gpt: Path, recipe_file: RecipeFile, korean_rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kft.api.memory.free_bytes", lambda _: 8 * 2**30)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    small = {"train.per_device_train_batch_size": 2, "train.gradient_accumulation_steps": 2}
    recipe = read_recipe(recipe_file(tiny_gpt, korean_rows, KEYS | small))
    loaded = load(recipe, Silent(), Begun(ranks=4))
    assert loaded.memory is not None
    assert loaded.memory.free_bytes == 2 * 2**30
    assert prepare_training(loaded).plan.rows_per_window == 2 * 2 * 4


def test_ranks_without_work_are_told() -> None:
    plan = WindowPlan(8, 2, 2, 1.0, None, seed=3)
    assert not list(idle_ranks(plan, 2))
    (told,) = idle_ranks(plan, 3)
    assert "1 of 3 ranks have none of them" in told.what
