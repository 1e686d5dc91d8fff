"""A model with labels is asked: the same numbers as transformers' pipelines, and refusals."""

from __future__ import annotations

import io
import json
import sys
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import AutoTokenizer, pipeline

import kft
from kft.api.generate import open_asked
from kft.api.predict import Predictor
from kft.cli.main import run_words
from kft.errors import UsageError

if TYPE_CHECKING:
    from conftest import RecipeFile

WORDS = ["서울의", "가을은", "하늘이", "높고", "바람이", "선선하다"]
KEYS = {"train.max_steps": 40, "data.eval_fraction": 0.4, "data.max_length": 48}
ASKED = ["가을은 좋아요 하늘이", "바람이 싫어요", "하늘이 높고 바람이 선선하다", "좋아요"]


def labelled() -> list[dict[str, Any]]:
    said = ["좋아요", "싫어요"]
    return [
        {"text": f"{WORDS[at // 2 % 6]} {said[at % 2]} {WORDS[at // 3 % 6]}", "label": said[at % 2]}
        for at in range(30)
    ]


def with_several() -> list[dict[str, Any]]:
    return [
        {
            "text": f"{WORDS[at % 6]} {WORDS[at // 6 % 6]}",
            "label": [["가", "나"], ["나"], []][at % 3],
        }
        for at in range(30)
    ]


def pairs() -> list[dict[str, Any]]:
    return [
        {"sentence1": WORDS[at % 6], "sentence2": WORDS[at * 5 % 6], "score": 0.5 * (at % 6)}
        for at in range(30)
    ]


def characters() -> list[dict[str, Any]]:
    text = "서울의 가을은 높다"
    tags = ["B-LC", "I-LC", *["O"] * 2, "B-TI", "I-TI", *["O"] * 4]
    return [{"tokens": list(text), "tags": tags} for _ in range(30)]


def words() -> list[dict[str, Any]]:
    tags = ["B-LC", "O", "O", "O", "B-TI", "I-TI"]
    return [{"tokens": WORDS[at % 3 :], "tags": tags[at % 3 :]} for at in range(30)]


def train(
    task: str, rows: list[dict[str, Any]], checkpoint: Path, recipe_file: RecipeFile, **more: Any
) -> kft.Run:
    return kft.finetune(recipe_file(checkpoint, rows, {"task": task, **KEYS, **more}))


def places(run: kft.Run) -> list[str]:
    """What of a run can be asked."""
    return [str(run.folder), str(run.folder / "adapter"), str(run.folder / "merged")]


def predictor(place: str) -> Predictor:
    asked = open_asked(place)
    assert isinstance(asked, Predictor)
    return asked


def test_a_classifier_says_what_the_pipeline_says(
    tiny_bert: Path, recipe_file: RecipeFile, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    run = train("sequence_classification", labelled(), tiny_bert, recipe_file)
    merged = str(run.folder / "merged")
    expected = pipeline("text-classification", merged)(ASKED, top_k=None)
    for place in places(run):
        for said, theirs in zip(predictor(place).predict(ASKED), expected, strict=True):
            assert said.label == theirs[0]["label"]
            assert said.score == pytest.approx(theirs[0]["score"], abs=1e-4)
            assert said.scores == pytest.approx(
                {one["label"]: one["score"] for one in theirs}, abs=1e-4
            )
    found = run.predict(ASKED)
    assert [one.label for one in found][:2] == ["좋아요", "싫어요"]
    assert run.predict(ASKED[1]).label == "싫어요"
    # What macOS types as separate jamo is the same text.
    apart = unicodedata.normalize("NFD", ASKED[1])
    assert run.tokenizer(apart).input_ids != run.tokenizer(ASKED[1]).input_ids
    assert run.predict(apart).scores == pytest.approx(found[1].scores, abs=1e-6)
    with pytest.raises(UsageError, match="writes no text"):
        run.generate(ASKED)
    capsys.readouterr()
    assert run_words(["generate", merged, "--prompt", ASKED[1]]) == 0
    first, share, second, _ = capsys.readouterr().out.rstrip("\n").split("\t")
    assert (first, second) == ("싫어요", "좋아요")
    assert float(share) == pytest.approx(found[1].score, abs=0.006)
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join([ASKED[0], "", *ASKED[1:]])))
    assert run_words(["generate", str(run.folder), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["label"] for line in lines] == [one.label for one in found]
    assert set(lines[0]) == {"label", "score", "scores", "was_cut"}
    raw = "\n".join(ASKED).encode() + b"\n\xff\n"  # the lines before a bad one are answered
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))
    assert run_words(["generate", str(run.folder), "--json"]) == 2
    answered = capsys.readouterr()
    assert len(answered.out.splitlines()) == len(ASKED)
    assert f"stdin, line {len(ASKED) + 1}" in answered.err
    assert run_words(["generate", merged, "--prompt", "좋아요", "--system", "곰"]) == 2
    assert "`--system` is for models that write text" in capsys.readouterr().err
    assert run_words(["generate", merged, "--prompt", " "]) == 2
    assert "error: The text is empty\n  --> text 1" in capsys.readouterr().err
    assert run_words(["generate", merged, "--prompt", "좋아요 " * 500]) == 0
    assert "its end was cut off" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["lora", "full"])
def test_several_labels_may_hold(
    method: str, tiny_bert: Path, recipe_file: RecipeFile, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = {"adapter.method": method, "train.learning_rate": 5e-3}
    run = train("sequence_classification", with_several(), tiny_bert, recipe_file, **keys)
    texts = [f"{one} {other}" for one in WORDS for other in WORDS]
    folder = run.folder / ("model" if method == "full" else "merged")
    theirs = pipeline("text-classification", str(folder))(texts, top_k=None)
    asked = [str(run.folder), str(folder)] if method == "full" else places(run)
    for place in asked:
        for said, expected in zip(predictor(place).predict(texts), theirs, strict=True):
            assert said.scores == pytest.approx(
                {one["label"]: one["score"] for one in expected}, abs=1e-4
            )
            assert isinstance(said.label, list)
            assert set(said.label) == {name for name, share in said.scores.items() if share > 0.5}
    assert {len(one.label) for one in run.predict(texts)} == {0, 1, 2}
    capsys.readouterr()
    nothing = next(text for text in texts if not run.predict(text).label)
    assert run_words(["generate", str(folder), "--prompt", nothing]) == 0
    assert capsys.readouterr().out == "-\n"


def test_pairs_are_separated_by_a_tab(
    tiny_bert: Path, recipe_file: RecipeFile, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = {"text": "sentence1", "text_pair": "sentence2", "label": "score"}
    keys = {"data.format": "pairs", "data.columns": columns}
    run = train("sequence_regression", pairs(), tiny_bert, recipe_file, **keys)
    asked = ("가을은 높고", "하늘이")
    inputs = run.tokenizer(*asked, return_tensors="pt")
    with torch.no_grad():
        expected = float(run.model(**inputs).logits)
    capsys.readouterr()
    for place in places(run):
        assert predictor(place).predict([asked])[0].label == pytest.approx(expected, abs=1e-4)
        assert run_words(["generate", place, "--prompt", "\t".join(asked)]) == 0
        assert float(capsys.readouterr().out) == pytest.approx(expected, abs=1e-4)
        assert run_words(["generate", place, "--prompt", asked[0]]) == 2
        told = capsys.readouterr().err
        assert "error: One text was given, and the model was trained on pairs" in told
        assert "expected: two texts, with a tab between them" in told
    # A checkpoint that doesn't say what it reads takes both.
    config = run.folder / "merged" / "config.json"
    content = json.loads(config.read_text(encoding="utf-8"))
    assert content.pop("kft_reads") == "pair"
    config.write_text(json.dumps(content), encoding="utf-8")
    unknown = predictor(str(run.folder / "merged"))
    one, two = unknown.predict([asked[0], asked])
    assert two.label == pytest.approx(expected, abs=1e-4)
    assert one.label != two.label


def test_single_texts_keep_their_tabs(tiny_gpt: Path, recipe_file: RecipeFile) -> None:
    run = train("sequence_classification", labelled(), tiny_gpt, recipe_file)
    tokenizer = AutoTokenizer.from_pretrained(run.folder / "merged")
    asked = "하늘이\t좋아요"
    with torch.no_grad():
        logits = run.model(**tokenizer([asked], return_tensors="pt")).logits[0]
    assert max(run.predict([asked, *ASKED])[0].scores.values()) == pytest.approx(
        float(logits.softmax(-1).max()), abs=1e-4
    )
    with pytest.raises(UsageError, match="trained on single ones"):
        run.predict(("하늘이", "좋아요"))


@pytest.mark.parametrize("unit", ["characters", "words"])
def test_entities_are_those_of_the_data(
    unit: str, tiny_bert: Path, recipe_file: RecipeFile, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = characters() if unit == "characters" else words()
    keys = {"data.format": "tokens", "train.learning_rate": 1e-2}
    run = train("token_classification", rows, tiny_bert, recipe_file, **keys)
    text = (
        "서울의  가을은 높다"
        if unit == "characters"
        else "서울의 가을은 하늘이\t높고 바람이 선선하다"
    )
    expected = (
        [("LC", "서울", 0, 2), ("TI", "가을", 5, 7)]
        if unit == "characters"
        else [("LC", "서울의", 0, 3), ("TI", "바람이 선선하다", 15, 23)]
    )
    capsys.readouterr()
    for place in places(run):
        said = predictor(place).predict([text, "높고"])[0]
        assert said.entities is not None
        found = [(one.name, one.text, one.start, one.end) for one in said.entities]
        assert found == expected
        assert all(0.5 < one.score <= 1 for one in said.entities)
        assert all(text[one.start : one.end] == one.text for one in said.entities)
        assert run_words(["generate", place, "--prompt", text]) == 0
        assert capsys.readouterr().out == "\t".join(f"{e[0]} {e[1]}" for e in expected) + "\n"
    cut, odd = run.predict([f"{text} " * 40, "\u200b 서울의 \ufe0f가을은 🙂\x00"])
    assert cut.was_cut
    assert cut.entities
    assert not odd.was_cut
    assert len(cut.label) == 40 * len(
        "".join(text.split()) if unit == "characters" else text.split()
    )
    assert set(cut.label[-20:]) == {"O"}  # of the end nothing was seen
