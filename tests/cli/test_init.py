"""`kft init` and `kft presets`: the commands, as one types them."""

from __future__ import annotations

import io
import json
import math
import os
import pty
import subprocess
import sys
import unicodedata
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

import kft
from kft.api.init import Wanted, offered_tasks, plan, resolve, write
from kft.api.presets import describe, list_presets
from kft.api.sample import look_at
from kft.cli.main import run_words
from kft.cli.presets import preset_text, presets_table
from kft.errors import DataError, UsageError
from kft.models.presets import find_preset

QUESTIONS = "질문,답변\n" + "".join(f'{n}번 질문인가요?,"네, {n}번입니다"\n' for n in range(40))


def run(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The command in this process: a new one would spend seconds on loading torch."""
    out, err = io.StringIO(), io.StringIO()
    with chdir(cwd), redirect_stdout(out), redirect_stderr(err):
        code = run_words(words)
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    path = tmp_path / "상담 기록.csv"
    path.write_bytes(QUESTIONS.encode("cp949"))
    return path


def test_the_recipe_passes_check_at_once(tiny_gpt: Path, questions: Path) -> None:
    folder = questions.parent
    words = ("init", "chat.yaml", "--model", str(tiny_gpt), "--data", questions.name)
    done = run(*words, cwd=folder)
    assert (done.returncode, done.stdout) == (0, "chat.yaml\n")
    assert "40 rows; format `prompt_completion`: prompt from `질문`" in done.stderr
    text = (folder / "chat.yaml").read_text(encoding="utf-8")
    assert "# prompt from `질문`, completion from `답변`" in text
    checked = run("check", "chat.yaml", cwd=folder)
    assert checked.returncode == 0, checked.stderr
    assert "Ready to train" in checked.stdout
    again = run(*words, cwd=folder)
    assert (again.returncode, again.stdout) == (2, "")
    assert again.stderr.startswith("error: `chat.yaml` exists, and kft overwrites no recipe\n")
    assert (folder / "chat.yaml").read_text(encoding="utf-8") == text


def test_without_flags_and_terminal_it_says_what_it_needs(tmp_path: Path) -> None:
    done = run("init", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: `kft init` needs `--preset` (or `--model`) and `--data`\n"
        "  expected: them as options, or a terminal to ask at\n"
        "\n"
        "hint: `kft init --preset kogpt2 --data rows.csv`\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow  # a process at a terminal of its own
def test_it_asks_at_a_terminal(tiny_gpt: Path, tmp_path: Path) -> None:
    """A file whose columns tell nothing: it asks which is which, and again after a typo."""
    rows = "가,나\n" + "".join(f"물음 {n},대답 {n}\n" for n in range(30))
    (tmp_path / "rows.csv").write_text(rows, encoding="utf-8")
    master, slave = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "kft", "init"],
        cwd=tmp_path,
        stdin=slave,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        os.close(slave)
        asked = ["row.csv", "rows.csv", "causal_lm", "가", "나", "runs/mine"]
        answers = ["kogtp2", str(tiny_gpt), *asked]
        os.write(master, "".join(f"{answer}\n" for answer in answers).encode())
        try:
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()  # a question that nobody answers must not hold up the others
    os.close(master)
    assert (process.returncode, out) == (0, "recipe.yaml\n"), err
    assert "Did you mean `kogpt2`?" in err
    assert "Did you mean `rows.csv`?" in err
    recipe = kft.read_recipe(tmp_path / "recipe.yaml")
    assert recipe.data.columns == {"prompt": "가", "completion": "나"}
    assert recipe.output_dir == "runs/mine"
    assert run("check", "recipe.yaml", cwd=tmp_path).returncode == 0


def planned(preset: str, data: Path, **keys: Any) -> Any:
    place, found = resolve(None, preset)
    return plan(Wanted(place, found, str(data), **keys), look_at(str(data)))


@pytest.mark.parametrize(
    ("device", "method", "rows"),
    [("24GB", "lora", 8), ("12GB", "qlora", 8), ("6 GB", "qlora", 1)],
)
def test_the_memory_decides_the_method(
    device: str, method: str, rows: int, questions: Path
) -> None:
    choice = planned("polyglot-ko-5.8b", questions, device=device)
    assert (choice.method, choice.rows) == (method, rows)
    assert "LoRA needs about 13.8 GiB" in choice.method_reason


def test_the_context_bounds_the_length(tmp_path: Path) -> None:
    rows = "".join(json.dumps({"text": "가" * 3000}) + "\n" for _ in range(12))
    (tmp_path / "long.jsonl").write_text(rows, encoding="utf-8")
    assert planned("kcbert-base", tmp_path / "long.jsonl", device="24GB").max_length == 300
    assert planned("polyglot-ko-1.3b", tmp_path / "long.jsonl", device="24GB").max_length == 2048


def test_an_encoder_is_asked_for_labels_first(tiny_bert: Path, tiny_gpt: Path) -> None:
    assert offered_tasks(None, "classification", str(tiny_bert))[0] == "sequence_classification"
    assert offered_tasks(None, "classification", str(tiny_gpt))[0] == "causal_lm"
    assert offered_tasks(None, "messages", str(tiny_bert)) == ["causal_lm"]


def test_numbered_labels_are_found(tmp_path: Path) -> None:
    rows = "".join(f"{n}\t재미있는 영화 {n}\t{n % 2}\n" for n in range(30))
    (tmp_path / "rows.tsv").write_text("id\tdocument\tlabel\n" + rows, encoding="utf-8")
    sample = look_at(str(tmp_path / "rows.tsv"))
    assert (sample.labels, sample.labels_are_numbers) == (("0", "1"), True)
    assert sample.eval_fraction == 0.34  # ten of thirty


def labels_of(cells: list[str], tmp_path: Path) -> tuple[tuple[str, ...], bool, bool]:
    rows = "".join(f"재미있는 영화 {n}\t{cell}\n" for n, cell in enumerate(cells))
    (tmp_path / "rows.tsv").write_text("text\tlabel\n" + rows, encoding="utf-8")
    sample = look_at(str(tmp_path / "rows.tsv"))
    return sample.labels, sample.labels_are_numbers, sample.labels_are_scores


def test_stars_name_themselves(tmp_path: Path) -> None:
    assert labels_of(list("12345") * 6, tmp_path) == (("1", "2", "3", "4", "5"), False, False)
    assert labels_of(["2.0", "1.0", "10"] * 9, tmp_path) == (("1", "2", "10"), False, False)
    assert labels_of(list("02") * 9, tmp_path) == (("0", "1", "2"), True, False)
    assert labels_of(["0", "1", "99"] * 9, tmp_path) == (("0", "1", "99"), False, False)
    assert labels_of(["-1", "0", "1"] * 9, tmp_path) == (("-1", "0", "1"), False, False)


def test_a_bad_cell_makes_no_classes_of_scores(tmp_path: Path) -> None:
    scores = ["0.0", "1.5", "3.75", "5", "2"] * 10
    assert labels_of(scores, tmp_path) == ((), False, True)
    assert labels_of([*scores, "3,5", "five"], tmp_path) == ((), False, True)
    assert labels_of([*scores, *(["모름"] * 9)], tmp_path)[2] is False  # a sixth is no mistake
    assert labels_of([*(["1", "2"] * 20), "five"], tmp_path)[2] is False  # whole numbers are names


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"task": "causal"}, "Unknown value `causal` for `--task`"),
        ({"task": "classification"}, "Did you mean `sequence_classification`"),
        ({"method": "lroa"}, "Unknown value `lroa` for `--method`"),
        ({"device": "tpu"}, "Unknown device `tpu`"),
    ],
)
def test_a_wrong_flag_is_named(keys: dict[str, str], message: str, questions: Path) -> None:
    with pytest.raises(UsageError, match=message):
        planned("kogpt2", questions, **{"device": "8GB", **keys})


def test_data_of_no_known_format_is_refused_without_a_terminal(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("가,나\n하나,둘\n", encoding="utf-8")
    with pytest.raises(DataError, match="Can't tell the format"):
        look_at(str(tmp_path / "rows.csv"))
    done = run("init", "--preset", "kogpt2", "--data", "rows.csv", cwd=tmp_path)
    assert done.returncode == 2
    assert not (tmp_path / "recipe.yaml").exists()


# Presets


@pytest.mark.parametrize("width", [80, 60])
def test_the_table_fits(width: int) -> None:
    text = presets_table(list_presets(), width)
    lines = text.split("\n")
    assert max(map(len, lines)) <= width
    assert sum(line.startswith("kogpt2 ") for line in lines) == 1
    assert next(line for line in lines if line.startswith("solar")).endswith("yes?")


@pytest.mark.parametrize("width", [80, 60])
def test_one_in_full_fits(width: int) -> None:
    for name in ("kogpt2", "solar-10.7b", "hyperclovax-seed-1.5b"):
        text = preset_text(describe(find_preset(name)), width)
        long = [line for line in text.split("\n") if len(line) > width]
        assert all(" " not in line.strip() for line in long), long
    assert "32,000  (unverified)" in preset_text(describe(find_preset("solar-10.7b")), 80)


def test_presets_as_json(tmp_path: Path) -> None:
    done = run("presets", "--json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    known = {preset["name"]: preset for preset in json.loads(done.stdout)}
    assert len(known) == len(list_presets())
    assert known["kogpt2"]["commercial"] is False
    assert known["kogpt2"]["lora_bytes"]["is_whole"]
    one = run("presets", "kogpt2", "--json", cwd=tmp_path)
    assert json.loads(one.stdout) == known["kogpt2"]


def test_a_misspelt_preset(tmp_path: Path) -> None:
    done = run("presets", "klue-brt-base", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("hint: Did you mean `klue-bert-base`?\n")


OPINIONS = "번호,고객 의견,만족 여부\n" + "".join(
    f"{n},{n}번 상자는 배송이 빨라서 참 좋았어요,{('만족', '불만')[n % 2]}\n" for n in range(40)
)


@pytest.fixture
def opinions(tmp_path: Path) -> Path:
    path = tmp_path / "의견.csv"
    path.write_bytes(OPINIONS.encode("cp949"))
    return path


def test_a_column_of_few_words_is_the_label_of_an_encoder(
    tiny_bert: Path, tiny_gpt: Path, opinions: Path
) -> None:
    words = ("init", "one.yaml", "--data", opinions.name, "--model")
    done = run(*words, str(tiny_bert), cwd=opinions.parent)
    assert done.returncode == 0, done.stderr
    recipe = kft.read_recipe(opinions.parent / "one.yaml")
    assert recipe.task == "sequence_classification"
    assert recipe.data.columns == {"text": "고객 의견", "label": "만족 여부"}
    assert recipe.data.labels == ["만족", "불만"]
    assert recipe.data.eval_fraction == 0.26  # ten rows are the least
    # A GPT may be meant to write either: it says how to tell.
    (opinions.parent / "one.yaml").unlink()
    done = run(*words, str(tiny_gpt), cwd=opinions.parent)
    assert done.returncode == 2
    assert 'hint: `--columns "text=고객 의견,label=만족 여부"` says it.' in done.stderr
    done = run(*words, str(tiny_gpt), "--task", "sequence_classification", cwd=opinions.parent)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("columns", "code", "told"),
    [
        ("prompt=고객 의견, completion=만족 여부", 0, "`prompt_completion`"),
        ("text=의견", 2, "Did you mean `고객 의견`?"),
        ("txt=고객 의견", 2, "Did you mean `text`?"),
        ("고객 의견", 2, "Can't read `--columns 고객 의견`"),
    ],
)
def test_columns_are_said(
    columns: str, code: int, told: str, tiny_gpt: Path, opinions: Path
) -> None:
    words = ("init", "--data", opinions.name, "--model", str(tiny_gpt), "--columns", columns)
    done = run(*words, cwd=opinions.parent)
    assert (done.returncode, told in done.stderr) == (code, True), done.stderr


def test_a_folder_that_is_not_there_is_no_checkpoint(tiny_bert: Path, opinions: Path) -> None:
    near = tiny_bert.parent / (tiny_bert.name[:-1] + "x")
    done = run("init", "--data", opinions.name, "--model", str(near), cwd=opinions.parent)
    assert done.returncode == 2
    assert f"There is no checkpoint folder `{near}`" in done.stderr
    assert "Did you mean" in done.stderr


@pytest.mark.parametrize("num_rows", [17, 50, 83, 110, 111, 400])
def test_evaluations_on_the_way_are_five_at_most(num_rows: int, tmp_path: Path) -> None:
    """The last step is evaluated too, so one just before it would be for nothing."""
    path = tmp_path / "rows.csv"
    rows = "".join(f"{n}번 질문인가요?,네\n" for n in range(num_rows))
    path.write_text("질문,답변\n" + rows, encoding="utf-8")
    write(planned("kcbert-base", path, device="24GB"), tmp_path / "a.yaml")
    recipe = kft.read_recipe(tmp_path / "a.yaml")
    trained = math.ceil(num_rows * (1 - recipe.data.eval_fraction) / 8)
    last, every = 3 * trained, recipe.evaluate.eval_steps
    assert every is not None
    assert 3 <= len({*range(every, last + 1, every), last}) <= 5


SPELLINGS = ["긍정", "부정"] * 40 + ["긍정 ", "긍종", "부정\u200b"]


def test_a_label_that_may_be_a_typo_is_told(tiny_bert: Path, tmp_path: Path) -> None:
    """It stays in the recipe, which must run, with a comment; blanks around it are none of it."""
    rows = [f"하늘이 높고 바람이 선선하다,{label}\n" for label in SPELLINGS]
    rows.append("좋아요 좋아요,\n")  # an empty label is no label
    (tmp_path / "rows.csv").write_text("text,label\n" + "".join(rows), encoding="utf-8")
    done = run("init", "a.yaml", "--data", "rows.csv", "--model", str(tiny_bert), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "a.yaml").read_text(encoding="utf-8")
    comment = "- 긍종 # in 1 row (rows.csv:83): a typo of `긍정`, which is in 41?"
    assert comment in " ".join(text.split())
    assert r'    - "부정\u200b"' in text
    labels = kft.read_recipe(tmp_path / "a.yaml").data.labels
    assert labels == ["긍정", "긍종", "부정", "부정\u200b"]
    first = (
        "warning: `긍종` is the label of 1 row, and `긍정` of 41: it may be a typo\n"
        "  --> rows.csv:83\n"
    )
    second = r"warning: `부정\u200b` is the label of 1 row, and `부정` of 40: it may be a typo"
    assert first in done.stderr
    assert second in done.stderr
    checked = run("check", "a.yaml", cwd=tmp_path)
    assert checked.returncode == 0, checked.stderr
    assert "`긍종` is the label of 1 row, and `긍정` of 41" in checked.stdout + checked.stderr
    assert "rows.csv:83" in checked.stdout + checked.stderr


def test_decomposed_labels_are_the_same_labels(tmp_path: Path) -> None:
    rows = [f"{n}번 상자,{unicodedata.normalize('NFD', '긍정')}\n{n}번 통,긍정\n" for n in range(9)]
    (tmp_path / "rows.csv").write_text("text,label\n" + "".join(rows), encoding="utf-8")
    assert look_at(str(tmp_path / "rows.csv")).labels == ("긍정",)


def test_scores_are_no_labels(tiny_bert: Path, tmp_path: Path) -> None:
    rows = [f"하늘이 높고 바람이 선선하다,좋아요 싫어요,{n % 11 / 2}\n" for n in range(40)]
    header = "sentence1,sentence2,score\n"
    (tmp_path / "rows.csv").write_text(header + "".join(rows), encoding="utf-8")
    done = run("init", "a.yaml", "--data", "rows.csv", "--model", str(tiny_bert), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    recipe = kft.read_recipe(tmp_path / "a.yaml")
    assert (recipe.task, recipe.data.labels) == ("sequence_regression", [])
    assert recipe.data.eval_fraction == 0.26  # as of labels
    checked = run("check", "a.yaml", cwd=tmp_path)
    assert checked.returncode == 0, checked.stderr
