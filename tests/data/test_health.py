"""Health of texts: what is counted, where it was first, how grave it is."""

from __future__ import annotations

import csv
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kft.data import characters
from kft.data.characters import kinds, name_of, rare_syllables
from kft.data.health import TextHealth
from kft.data.mojibake import is_mangled, restored

PLAIN = [f"{number}번째 문장입니다." for number in range(9)]


def looked_at(*texts: str, column: str = "text") -> TextHealth:
    health = TextHealth()
    for number, text in enumerate([*PLAIN, *texts], start=1):
        health.add(text, f"rows:{number}", column)
    return health


def test_plain_korean_has_no_fault() -> None:
    assert looked_at("정말 좋아요! 10점, ABC…", "tab\t과 줄\n바꿈").findings() == []
    assert TextHealth().findings() == []


def test_every_column_is_judged_by_itself() -> None:
    health = looked_at("가\u200b")
    for number in range(4):
        health.add("Good morning", f"rows:{number}", "answer")
    (finding,) = health.findings()
    assert finding.what.startswith("`text` has characters without width")
    assert (finding.where, finding.count) == ("rows:10", 1)
    summary = health.summary()
    assert list(summary) == ["text", "answer"]
    assert summary["answer"]["shares"]["latin"] == pytest.approx(11 / 12)


def test_the_first_place_and_the_number_of_rows() -> None:
    (finding,) = looked_at("가", "나\xa0\xa0", "다", "라\xa0").findings()
    assert (finding.where, finding.count) == ("rows:11", 2)


def test_a_mangled_row_has_no_other_fault() -> None:
    text = "안녕하세요".encode().decode("latin-1")
    assert "\x88" in text  # a control character otherwise
    (finding,) = looked_at(text).findings()
    assert finding.what == "`text` has text that was decoded with the wrong encoding: " + (
        "UTF-8 read as Latin-1"
    )


def test_joiners_between_emoji_stay() -> None:
    family = "👨\u200d👩\u200d👧 ❤\ufe0f\u200d🔥"
    assert looked_at(family).findings() == []
    assert looked_at("👨\u200d").findings()[0].count == 1


def test_old_korean_is_no_lone_jamo() -> None:
    old = "\u1112\u119e\u11ab글"  # a syllable with arae-a, which has no code point of its own
    assert looked_at(old).findings() == []
    assert "U+11AB" in looked_at("글자 \u11ab").findings()[0].what


@pytest.mark.parametrize(
    ("texts", "severity"), [(["Hi"] * 1, "note"), (["Hi"] * 4, "warning"), (["Hi"] * 20, None)]
)
def test_rows_without_hangul(texts: list[str], severity: str | None) -> None:
    texts = [f"{text} {number}" for number, text in enumerate(texts)]
    health = looked_at(*texts) if severity != "note" else looked_at(*PLAIN, *texts)
    assert [finding.severity for finding in health.findings()] == ([severity] if severity else [])


def test_a_few_slight_faults_among_many_rows_are_a_note() -> None:
    health = looked_at("가\u200b", "010-1234-5678 전화")
    for number in range(3000):
        health.add("안녕하세요", f"more:{number}")
    assert [found.severity for found in health.findings()] == ["warning", "note"]
    assert "telephone" in health.findings()[0].what


def test_private_numbers_are_not_repeated_in_the_message() -> None:
    for text in ("900101-" + "1234567", "010-1234-5678", "+82 10 1234 5678", "02-123-4567"):
        (finding,) = looked_at(f"번호 {text}.").findings()
        assert "telephone" in finding.what
        assert text not in str(finding)
    for text in (
        "2019-01-02-123",
        "1234567890123",
        "991301-1234567",
        "1.010.1234",
        "3-010-1234-5678",
    ):
        assert looked_at(f"번호 {text}.").findings() == []


def test_shares_of_scripts() -> None:
    health = TextHealth()
    health.add("한글 漢 ab1!", "rows:1")
    summary = health.summary()["text"]
    assert summary["characters"] == 9
    counts = {name: round(share * 9) for name, share in summary["shares"].items()}
    assert counts == {"other": 1, "hangul": 2, "hanja": 1, "latin": 2, "digits": 1, "space": 2}


def test_no_character_is_two_kinds_of_unseen() -> None:
    groups = ("FILLERS", "ZERO_WIDTHS", "WIDE_SPACES", "CONTROLS")
    sets = [set(getattr(characters, name)) for name in groups]
    assert sum(map(len, sets)) == len(set().union(*sets))
    assert len(rare_syllables()) == 11_172 - 2_350
    assert kinds()[ord("뷁")] & characters.RARE_SYLLABLE
    assert name_of("\x1b") == "U+001B"


@given(st.lists(st.text(st.characters(codec=None, exclude_categories=()))))
def test_any_text_can_be_looked_at(texts: list[str]) -> None:
    health = TextHealth()
    for number, text in enumerate(texts):
        health.add(text, f"rows:{number}")
    health.findings()
    summary = health.summary()
    assert sum(column["characters"] for column in summary.values()) == sum(map(len, texts))
    # Batches don't matter: one text at a time gives the same counts.
    alone: dict[str, int] = {}
    for text in texts:
        single = TextHealth()
        single.add(text, "rows:1")
        for name, count in single.summary()["text"]["faults"].items():
            alone[name] = alone.get(name, 0) + count
    assert alone == (summary["text"]["faults"] if texts else {})


KOREAN = "안녕하세요, 반갑습니다! ㅋㅋ 10점"


@pytest.mark.parametrize("meant", [KOREAN, "좋다", "ㅠㅠ", "한국어 문장\n둘째 줄"])
@pytest.mark.parametrize(
    ("written", "read"), [("utf-8", "latin-1"), ("cp949", "latin-1"), ("cp949", "cp1252")]
)
def test_a_wrong_encoding_is_turned_back(meant: str, written: str, read: str) -> None:
    found = restored(meant.encode(written).decode(read))
    assert found is not None
    assert found[1] == meant


def test_utf_8_read_as_cp949_is_turned_back_where_nothing_was_lost() -> None:
    for meant in ("!진짜", "!최고 !많이", "공포,과유"):  # an even number of bytes, by luck valid
        assert restored(meant.encode().decode("cp949")) == ("UTF-8 read as CP949", meant)


@pytest.mark.parametrize(
    "text",
    [KOREAN, "déjà vu", "¿¡Qué!?", "Ärger über Öl", "©2020 ™", "漢字 文章", "À É Õ", "½ ± ×", ""],
)
def test_other_text_is_left_alone(text: str) -> None:
    assert restored(text) is None
    assert not is_mangled(text)


@pytest.mark.parametrize("text", ["아핳핳", "뷁 뙇", "헠헠헠", "평점봐랔ㅋㅋ왘ㅋㅋ", "뽜야 뽜"])
def test_odd_syllables_are_no_mojibake(text: str) -> None:
    assert not is_mangled(text)


@pytest.mark.parametrize("encoding", ["cp949", "cp1252"])
def test_mojibake_with_losses_is_seen(encoding: str) -> None:
    assert is_mangled("안녕하세요 반갑습니다 좋아요".encode().decode(encoding, "replace"))


NSMC_FAULTS = {
    "run": 11_771,
    "compatibility jamo": 21_567,
    "zero width": 2,
    "filler": 3,
    "full width": 25,
    "entity": 1,
    "tag": 4,
    "url": 43,
    "hanja": 218,
    "not nfc": 12,
    "empty": 5,
    "not korean": 886,
    "mangled": 1,
    "privacy": 2,
    "middle dot": 10,
    "foreign letters": 18,
}


def test_nsmc_as_it_is(real_data: Path) -> None:
    with (real_data / "data/nsmc/ratings_train.txt").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[1:]
    started = time.process_time()
    health = TextHealth()
    for number, (_, document, _) in enumerate(rows, start=2):
        health.add(document, f"ratings_train.txt:{number}", "document")
    summary = health.summary()["document"]
    assert time.process_time() - started < 4
    assert summary["rows"] == 150_000
    assert summary["faults"] == NSMC_FAULTS
    assert summary["shares"]["hangul"] == pytest.approx(0.727, abs=0.001)
