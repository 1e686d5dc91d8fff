"""The tokenizer guard: every real folder's verdict, and each fault planted once."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerFast

from kft.errors import ModelError
from kft.models.guard import ENOUGH_HANGUL, MOST_TEXTS, examine, require
from kft.models.tokenizer import open_tokenizer
from kft.models.tokenizer_measures import SENTENCES, hangul_syllables, measure
from kft.recipe.schema import ModelSection

FOLDERS = [
    "kcbert-base",
    "ko-bert-mini",
    "ko-gpt-mini",
    "kobert-base-v1",
    "kobigbird-bert-base",
    "koelectra-base-v1",
    "koelectra-small-v1",
    "kogpt2-v1",
    "kortok-sp-8k",
    "kortok-sp-32k",
]


@pytest.fixture(scope="module")
def checkpoints(real_data: Path) -> Path:
    return real_data / "checkpoints"


@pytest.fixture(scope="module")
def reviews(real_data: Path) -> list[str]:
    lines = (real_data / "data/nsmc/ratings_test.txt").read_text(encoding="utf-8").split("\n")
    return [line.split("\t")[1] for line in lines[1:1001]]


def config_of(folder: Path) -> Any:
    try:
        return AutoConfig.from_pretrained(folder)
    except ValueError:  # pre-training code's own
        return None


@pytest.mark.parametrize("name", FOLDERS)
def test_a_right_or_mended_tokenizer_passes(
    name: str, checkpoints: Path, reviews: list[str]
) -> None:
    folder = checkpoints / name
    found = open_tokenizer(ModelSection(name_or_path=str(folder)))
    for texts in (reviews, []):
        report = examine(found.tokenizer, config_of(folder), texts)
        assert report.errors == ()
        require(report)


@pytest.mark.parametrize(
    ("name", "what", "hint"),
    [
        ("kcbert-base", r"7\d\.\d% of the tokens .* unknown", "`do_lower_case: false`"),
        ("kobert-misloaded", r"39\.\d% of the tokens .* unknown", "XLNetTokenizer"),
        ("kogpt2-v1", r"Only \d+\.\d% of the characters .* come back", "GPT2Tokenizer"),
    ],
)
def test_what_transformers_loads_wrongly_is_refused(
    name: str, what: str, hint: str, checkpoints: Path, reviews: list[str]
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(checkpoints / name)
    for texts in (reviews, []):  # on the user's rows, and on the built-in sentences alone
        with pytest.raises(ModelError) as caught:
            require(examine(tokenizer, config_of(checkpoints / name), texts))
        assert hint in (caught.value.hint or "")
    report = examine(tokenizer, config_of(checkpoints / name), reviews)
    with pytest.raises(ModelError, match=what):
        require(report)


def test_kobert_misloaded_is_refused_by_kft_too(checkpoints: Path, reviews: list[str]) -> None:
    folder = checkpoints / "kobert-misloaded"
    found = open_tokenizer(ModelSection(name_or_path=str(folder)))
    report = examine(found.tokenizer, config_of(folder), reviews, published=found.published)
    with pytest.raises(ModelError) as caught:
        require(report)
    assert "`model.tokenizer: skt/kobert-base-v1`" in (caught.value.hint or "")
    warned = " ".join(finding.what for finding in report.findings)
    assert "pads on the left" in warned
    assert "doesn't put `[CLS]` in front" in warned


def test_kogpt2s_config_is_named(checkpoints: Path) -> None:
    folder = checkpoints / "kogpt2-v1"
    found = open_tokenizer(ModelSection(name_or_path=str(folder)))
    told = [finding.what for finding in examine(found.tokenizer, config_of(folder)).findings]
    assert (
        "The config's `eos_token_id` 50256 lies outside the 50,000 rows: the tokenizer's 1 is used"
        in told
    )


# Planted faults

KOREAN = sorted({character for sentence in SENTENCES for character in "".join(sentence.split())})
SPECIALS = ["[UNK]", "[PAD]", "[CLS]", "[SEP]"]


def by_character(
    pieces: list[str] = KOREAN, *, padding_side: str = "right", with_cls: bool = True
) -> Any:
    """A tokenizer whose pieces are characters."""
    vocabulary = {piece: number for number, piece in enumerate([*SPECIALS, *pieces])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.normalizer = normalizers.NFC()
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split("", "isolated")]
    )
    if with_cls:
        made.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        padding_side=padding_side,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def config(**keys: Any) -> Any:
    sizes = {"model_type": "bert", "vocab_size": 1000, "type_vocab_size": 2, "pad_token_id": 1}
    return SimpleNamespace(**{**sizes, **keys})


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    assert examine(by_character(), config(), list(SENTENCES)).findings == ()


def test_unknown_characters_are_counted_and_named() -> None:
    tokenizer = by_character([piece for piece in KOREAN if piece not in "다."])
    counted = measure(tokenizer, ["하다. 했다."])
    assert (counted.tokens, counted.unknown, counted.characters) == (6, 4, 6)
    assert counted.kept == 2
    assert dict(counted.lost) == {"다": 2, ".": 2}
    (finding,) = examine(tokenizer, config()).errors
    assert "`.`" in finding.what
    assert "expected at most 5%" in finding.what


def test_characters_that_vanish_are_noticed_without_an_unknown_token() -> None:
    tokenizer = by_character()
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("다", "")
    report = examine(tokenizer, config())
    assert report.numbers["korean.unknown_rate"] == 0
    with pytest.raises(ModelError, match="characters of plain Korean sentences come back"):
        require(report)


def test_the_users_rows_decide_when_there_are_enough() -> None:
    narrow = sorted(set("비가오고바람분다"))
    rows = ["비가 오고 바람 분다"] * (ENOUGH_HANGUL // 8 + 1)
    assert hangul_syllables(rows) >= ENOUGH_HANGUL
    report = examine(by_character(narrow), config(), rows)
    assert report.errors == ()  # a small vocabulary that knows all of its rows
    assert [finding.severity for finding in report.findings] == ["warning"]
    assert examine(by_character(narrow), config(), rows[:2]).errors


def test_only_a_sample_is_measured() -> None:
    report = examine(by_character(), config(), list(SENTENCES) * 1000)
    assert 0 < report.numbers["data.texts"] <= MOST_TEXTS


@pytest.mark.parametrize(
    ("keys", "severity", "what"),
    [
        ({"vocab_size": 50}, "error", "pieces of the tokenizer have no row in the model"),
        ({"type_vocab_size": 1}, "error", "numbers segments up to 1"),
        ({"model_type": "roberta", "pad_token_id": 0}, "error", "counts its positions from"),
        ({"pad_token_id": 0}, "note", "`pad_token_id` is 0 and the tokenizer's 1"),
        ({"sep_token_id": 50256}, "warning", "50256 lies outside the 1,000 rows"),
    ],
)
def test_an_id_that_does_not_fit_the_model_is_found(
    keys: dict[str, Any], severity: str, what: str
) -> None:
    findings = examine(by_character(), config(**keys)).findings
    assert any(f.severity == severity and what in f.what for f in findings), findings


def test_added_tokens_without_embeddings_are_told() -> None:
    tokenizer = by_character()
    rows = len(tokenizer)
    tokenizer.add_tokens(["<화자1>"])
    unused = examine(tokenizer, config(vocab_size=rows)).findings
    assert [(f.severity, "`<화자1>`" in f.what) for f in unused] == [("note", True)]
    used = examine(tokenizer, config(vocab_size=rows), ["<화자1> 오늘은"]).findings
    assert [f.severity for f in used] == ["warning"]


@pytest.mark.parametrize(
    ("keys", "what"),
    [({"padding_side": "left"}, "pads on the left"), ({"with_cls": False}, "`[CLS]` in front")],
)
def test_an_encoders_form_is_checked(keys: dict[str, Any], what: str) -> None:
    (finding,) = examine(by_character(**keys), config()).findings
    assert finding.severity == "warning"
    assert what in finding.what
    assert examine(by_character(**keys), config(model_type="llama")).findings == ()


def test_another_class_than_the_declared_is_told() -> None:
    from transformers import BertTokenizer

    pieces = {piece: number for number, piece in enumerate([*SPECIALS, *KOREAN])}
    tokenizer = BertTokenizer(pieces, do_lower_case=False)
    (finding,) = [
        found
        for found in examine(tokenizer, None, declared_class="KoBERTTokenizer").findings
        if "declare" in found.what
    ]
    assert finding.what == "The files declare `KoBERTTokenizer`, and `BertTokenizer` was loaded"
    right = examine(tokenizer, None, declared_class="BertTokenizerFast").findings
    assert not any("declare" in found.what for found in right)


def test_a_run_stops_before_it_trains(checkpoints: Path, tmp_path: Path) -> None:
    import kft

    rows = "\n".join(f"{number}\t{SENTENCES[number % 12]}" for number in range(60))
    (tmp_path / "rows.tsv").write_text(f"id\ttext\n{rows}\n", encoding="utf-8")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"model: {{name_or_path: {checkpoints / 'ko-gpt-mini'}, "
        f"tokenizer: {checkpoints / 'kobert-misloaded'}}}\n"
        f"data: {{train: {tmp_path / 'rows.tsv'}}}\noutput_dir: {tmp_path / 'run'}\n",
        encoding="utf-8",
    )
    with pytest.raises(ModelError, match="of the tokens of the data are unknown") as caught:
        kft.check(recipe)
    assert caught.value.exit_code == 2


def test_a_vocabulary_with_little_korean_is_told_where_there_is_enough_text(
    tiny_tokenizer: Path,
) -> None:
    """Bytes for most syllables: dear, but nothing is lost. A few words are no average."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_tokenizer)
    rare = "뷁쉙똠햏춍퀭뛟굻"

    def told(times: int) -> bool:
        findings = examine(tokenizer, None, [rare * times]).findings
        return any("The data take" in finding.what for finding in findings)

    assert told(40)
    assert not told(2)
