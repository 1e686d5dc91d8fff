"""Tokenizers as kft loads them: known traps are mended, told, and last through a save."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from kft.errors import ModelError
from kft.models.sentencepiece_file import read_sentencepiece, rebuild
from kft.models.special_tokens import stop_ids
from kft.models.tokenizer import OpenedTokenizer, has_tokenizer, open_tokenizer
from kft.models.tokenizer_measures import SENTENCES, measure
from kft.recipe.schema import ModelSection

NSMC_ROWS = 1000


def opened(folder: Path, **keys: Any) -> OpenedTokenizer:
    return open_tokenizer(ModelSection(name_or_path=str(folder), **keys))


@pytest.fixture(scope="module")
def checkpoints(real_data: Path) -> Path:
    return real_data / "checkpoints"


@pytest.fixture(scope="module")
def reviews(real_data: Path) -> list[str]:
    lines = (real_data / "data/nsmc/ratings_test.txt").read_text(encoding="utf-8").split("\n")
    return [line.split("\t")[1] for line in lines[1 : NSMC_ROWS + 1]]


def write(folder: Path, name: str, content: Any) -> None:
    folder.mkdir(exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    (folder / name).write_text(text, encoding="utf-8")


# Real vocabularies


def test_kcbert_keeps_its_case(checkpoints: Path, reviews: list[str]) -> None:
    plain = AutoTokenizer.from_pretrained(checkpoints / "kcbert-base")
    assert measure(plain, reviews).unknown_rate > 0.7
    found = opened(checkpoints / "kcbert-base")
    assert measure(found.tokenizer, reviews).unknown_rate < 0.006
    assert found.preset is not None
    assert found.preset.name == "kcbert-base"
    assert "Lower-casing was turned off" in found.findings[0].what


@pytest.mark.parametrize("name", ["koelectra-base-v1", "koelectra-small-v1"])
def test_koelectra_needs_no_architecture(name: str, checkpoints: Path, reviews: list[str]) -> None:
    found = opened(checkpoints / name)
    assert measure(found.tokenizer, reviews).unknown_rate < 0.002
    ids = found.tokenizer("영화", "재미").input_ids
    assert found.tokenizer.convert_ids_to_tokens(ids)[0] == "[CLS]"
    assert len(found.tokenizer) == 32200


def test_kobert_is_built_from_its_pieces(
    checkpoints: Path, reviews: list[str], tmp_path: Path
) -> None:
    found = opened(checkpoints / "kobert-base-v1")
    tokenizer = found.tokenizer
    names = ("unk", "pad", "cls", "sep", "mask")
    assert [getattr(tokenizer, f"{name}_token_id") for name in names] == [0, 1, 2, 3, 4]
    pair = tokenizer("영화", "재미", padding="max_length", max_length=8)
    assert pair["input_ids"][0] == 2
    assert pair["input_ids"][-1] == 1  # padded on the right
    assert pair["token_type_ids"][:5] == [0, 0, 0, 1, 1]
    assert max(pair["token_type_ids"]) == 1
    assert measure(tokenizer, reviews).unknown_rate == pytest.approx(0.0089, abs=0.002)
    assert "spiece.model" in found.findings[0].what
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_bytes(
        (checkpoints / "kobert-base-v1/config.json").read_bytes()
    )
    for again in (AutoTokenizer.from_pretrained(tmp_path), opened(tmp_path).tokenizer):
        assert again(reviews[:50]).input_ids == tokenizer(reviews[:50]).input_ids


@pytest.mark.parametrize(
    ("file", "agreement"),
    [
        # Where two ways to cut have the same score, both libraries pick one: 2 rows in 1,000.
        ("kobert-base-v1/spiece.model", 0.995),
        ("kortok-sp-8k/tok.model", 1.0),
        ("kortok-sp-32k/tok.model", 1.0),
    ],
)
def test_the_pieces_are_sentencepieces_own(
    file: str, agreement: float, checkpoints: Path, reviews: list[str]
) -> None:
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(checkpoints / file))
    ours = rebuild(read_sentencepiece(checkpoints / file), {"[CLS]", "[SEP]", "[PAD]", "[MASK]"})
    rows = [row for row in reviews if row.strip()]
    same = sum(theirs.encode(row) == ours.encode(row).ids for row in rows)
    assert same / len(rows) >= agreement


def test_kogpt2_is_read_as_its_file_says(
    checkpoints: Path, reviews: list[str], tmp_path: Path
) -> None:
    plain = AutoTokenizer.from_pretrained(checkpoints / "kogpt2-v1")
    assert measure(plain, SENTENCES).character_recall < 0.5  # its pieces taken for bytes
    found = opened(checkpoints / "kogpt2-v1")
    tokenizer = found.tokenizer
    assert measure(tokenizer, reviews).character_recall > 0.99
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (0, 1, 3)
    assert max(tokenizer.get_vocab().values()) == 49999  # no `<mask>` beyond the rows
    assert tokenizer.unk_token_id in tokenizer("뷁쉙").input_ids  # no longer dropped
    assert len(found.findings) == 2
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_bytes((checkpoints / "kogpt2-v1/config.json").read_bytes())
    again = opened(tmp_path)
    assert again.findings == ()
    assert again.tokenizer(reviews[:50]).input_ids == tokenizer(reviews[:50]).input_ids


def test_a_gpt2_vocabulary_without_settings_gets_kogpt2s_tokens(
    checkpoints: Path, tmp_path: Path
) -> None:
    """KoGPT2 v2 as it lies on the hub: tokenizer.json and config.json alone."""
    (tmp_path / "tokenizer.json").write_bytes(
        (checkpoints / "kogpt2-v1" / "tokenizer.json").read_bytes()
    )
    config = json.loads((checkpoints / "kogpt2-v1/config.json").read_text(encoding="utf-8"))
    write(tmp_path, "config.json", {**config, "vocab_size": 51200})
    found = opened(tmp_path)
    tokenizer = found.tokenizer
    assert found.preset is not None
    assert found.preset.name == "kogpt2"
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("</s>", "</s>")
    assert (tokenizer.unk_token_id, tokenizer.pad_token_id) == (5, 3)


@pytest.mark.parametrize("name", ["ko-gpt-mini", "kobigbird-bert-base"])
def test_a_right_tokenizer_is_left_alone(name: str, checkpoints: Path) -> None:
    assert opened(checkpoints / name).findings == ()


# Made for the purpose

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "한", "##국", "##어", "가", "나", "ㅋ"]


def wordpiece_folder(folder: Path, config: dict[str, Any], pieces: list[str] = PIECES) -> Path:
    write(folder, "vocab.txt", "\n".join(pieces) + "\n")
    write(folder, "config.json", {"vocab_size": len(pieces), **config})
    return folder


def test_a_vocabulary_of_jamo_gets_decomposed_text(tmp_path: Path) -> None:
    jamo = [*PIECES[:5], "\u1112", "##\u1161", "##\u11ab", "##\u1100", "##\u116e", "##\u11a8"]
    folder = wordpiece_folder(tmp_path, {"model_type": "bert"}, jamo)
    write(folder, "tokenizer_config.json", {"do_lower_case": False})
    found = opened(folder)
    assert found.tokenizer.unk_token_id not in found.tokenizer("한국").input_ids
    assert any("decomposed" in finding.what for finding in found.findings)


def test_lower_casing_that_the_vocabulary_expects_stays(tmp_path: Path) -> None:
    jamo = [*PIECES[:5], "\u1112", "##\u1161", "##\u11ab", "movie"]
    found = opened(wordpiece_folder(tmp_path, {"model_type": "bert"}, jamo))
    assert found.tokenizer.tokenize("Movie") == ["movie"]
    assert found.tokenizer.do_lower_case


@pytest.mark.parametrize(
    ("config", "gives"),
    [
        ({"model_type": "bert", "type_vocab_size": 2}, True),
        ({"model_type": "roberta", "type_vocab_size": 1}, False),  # KLUE-RoBERTa
        ({"model_type": "gpt_neox"}, False),  # Polyglot-Ko
    ],
)
def test_token_types_are_given_where_the_model_takes_them(
    config: dict[str, Any], gives: bool, tmp_path: Path
) -> None:
    folder = wordpiece_folder(tmp_path, config)
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": False}
    write(folder, "tokenizer_config.json", settings)
    found = opened(folder)
    assert ("token_type_ids" in found.tokenizer("한국어", "가")) is gives
    assert any("token_type_ids" in finding.what for finding in found.findings) is not gives


def word_tokenizer(folder: Path, words: list[str], **special: str) -> Path:
    vocabulary = {word: number for number, word in enumerate(words)}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token=words[0]))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=made, unk_token=words[0], **special).save_pretrained(
        folder
    )
    return folder


@pytest.mark.parametrize(
    ("words", "padding"),
    [(["<unk>", "</s>", "가"], "</s>"), (["<unk>", "</s>", "<pad>", "가"], "<pad>")],
)
def test_a_missing_padding_token_is_set(words: list[str], padding: str, tmp_path: Path) -> None:
    found = opened(word_tokenizer(tmp_path, words, eos_token="</s>"))
    assert found.tokenizer.pad_token == padding
    assert [finding.severity for finding in found.findings] == ["note"]
    assert found.findings[0].where == str(tmp_path)


def test_the_configs_end_token_is_taken(tmp_path: Path) -> None:
    folder = word_tokenizer(tmp_path, ["<unk>", "<끝>", "가"])
    write(folder, "config.json", {"model_type": "llama", "eos_token_id": 1, "vocab_size": 3})
    assert opened(folder).tokenizer.eos_token == "<끝>"


def test_no_end_token_at_all_is_refused(tmp_path: Path) -> None:
    folder = word_tokenizer(tmp_path, ["<unk>", "끝", "가"])
    with pytest.raises(ModelError, match="has no end token"):
        opened(folder)


def test_a_broken_sentencepiece_model_is_named(tmp_path: Path) -> None:
    write(tmp_path, "config.json", {"model_type": "bert"})
    write(tmp_path, "spiece.model", "version https://git-lfs.github.com/spec/v1\n")
    assert has_tokenizer(tmp_path)
    with pytest.raises(ModelError, match="sentencepiece model can't be read") as caught:
        opened(tmp_path)
    assert caught.value.where == str(tmp_path / "spiece.model")


def test_the_stop_tokens_of_a_listed_chat_template_are_known(tmp_path: Path) -> None:
    words = ["<unk>", "<|im_end|>", "<|endofturn|>", "<|stop|>", "가"]
    tokenizer = opened(word_tokenizer(tmp_path, words, eos_token="<|im_end|>")).tokenizer
    assert stop_ids(tokenizer) == []
    tokenizer.chat_template = "{{ messages[0].content }}<|im_end|><|endofturn|>"
    assert stop_ids(tokenizer) == [2, 3]
