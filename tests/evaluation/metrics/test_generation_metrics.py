"""What answers do: cases that must be seen, and cases that must not."""

from __future__ import annotations

from pathlib import Path
from unicodedata import normalize

import pytest

from kft.evaluation.metrics.generations import (
    GENERATION_SHARES,
    Generation,
    answer_hash,
    copies_training,
    generation_statistic,
    memory_statistic,
    repeats,
    scripts_in,
    scripts_unasked,
)
from kft.evaluation.metrics.statistic import value

LOOP = "저는 잘 모르겠습니다. "


@pytest.mark.parametrize(
    "text",
    [
        "그래서 " + LOOP * 4,
        (LOOP * 4).strip(),
        "답은 " + LOOP * 6 + "저는 잘",  # cut within the loop
        "말했다" * 4,
        "아 " * 20,
        "ㅋ" * 20,
        "가 나 다 라 하나 가 나 다 라 둘 가 나 다 라 셋 가 나 다 라 넷",
        normalize("NFD", "좋아요! " * 4),
    ],
)
def test_going_round_in_circles_is_seen(text: str) -> None:
    assert repeats(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "네",
        "정말 재미있어요 ㅋㅋㅋㅋㅋㅋㅋㅋ",
        "글쎄요......",
        "와!!!!! 대박 ㅎㅎㅎㅎ",
        "그래서 " + LOOP * 3,
        "가 나 다 라 하나 가 나 다 라 둘 가 나 다 라 셋",
        "하루에 세 번, 한 번에 두 알씩 드시고, 사흘 뒤에 다시 오세요.",
    ],
)
def test_how_people_write_is_not_repeating(text: str) -> None:
    assert not repeats(text)


def test_tokens_that_come_again_are_seen_where_eojeols_cannot() -> None:
    text = "가나다라마바사아자차카타파하거너더러머버"
    assert not repeats(text)
    assert not repeats(text, [1, 2, 3, 4, 9, 1, 2, 3, 4, 8, 1, 2, 3, 4])
    assert repeats(text, [1, 2, 3, 4, 9, 1, 2, 3, 4, 8, 1, 2, 3, 4, 7, 1, 2, 3, 4])


def test_real_answers_hardly_repeat(real_data: Path) -> None:
    import csv

    with (real_data / "data" / "chatbot" / "ChatbotData.csv").open(encoding="utf-8") as file:
        answers = [row["A"] for row in csv.DictReader(file)]
    assert len(answers) > 11_000
    assert [answer for answer in answers if repeats(answer)] == []


@pytest.mark.parametrize(
    ("text", "scripts"),
    [
        ("한글 123 .,!?「」・％㎞", set()),
        ("大韓民國", {"hanja"}),
        ("豈", {"hanja"}),  # a compatibility ideograph; NFC makes it an ordinary one
        ("さくら", {"kana"}),
        ("ｶﾅ", {"kana"}),
        ("Привет", {"cyrillic"}),
        ("Ｋｏｒｅａ", {"latin"}),
        ("café", {"latin"}),
        ("모델은 GPT와 日本語", {"latin", "hanja"}),
        ("ㅋㅋ ㆍ ㅏ", set()),
    ],
)
def test_scripts(text: str, scripts: set[str]) -> None:
    assert scripts_in(text) == scripts


def test_a_script_is_unasked_if_neither_prompt_nor_reference_has_it() -> None:
    text = "首都는 Seoul"
    assert scripts_unasked(Generation(text, "수도는?", True)) == {"hanja", "latin"}
    assert scripts_unasked(Generation(text, "capital은?", True, "서울")) == {"hanja"}
    assert scripts_unasked(Generation(text, "capital은?", True, ["서울", "首爾"])) == set()


def test_shares_by_hand() -> None:
    generations = [
        Generation("서울입니다.", "수도는?", True, "서울"),
        Generation(LOOP * 5, "뭐 해?", False, "쉬어요."),
        Generation("東京", "어디?", True, "도쿄"),
        Generation("  ", "말해 봐", True, "네"),
    ]
    shares = {name: value(generation_statistic(name, generations)) for name in GENERATION_SHARES}
    assert shares == {
        "ended": 3 / 4,
        "length_limit": 1 / 4,
        "repeats": 1 / 4,
        "empty": 1 / 4,
        "switches_script": 1 / 4,
        "switches_to_hanja": 1 / 4,
        "switches_to_latin": 0,
        "switches_to_kana": 0,
        "switches_to_cyrillic": 0,
    }


def test_memorised_are_copies_that_are_not_the_reference() -> None:
    trained = {answer_hash("위로해 드립니다."), answer_hash("네, 그래요."), answer_hash("")}
    generations = [
        Generation("위로해  드립니다.\n", "배고파", True, "밥 드세요."),  # out of place
        Generation(normalize("NFD", "네, 그래요."), "맞아?", True, "네, 그래요."),  # right as well
        Generation("위로해 드립니다!", "배고파", True, "밥 드세요."),  # not the same words
        Generation("", "배고파", True, "밥 드세요."),
        Generation("네, 그래요.", "맞아?", True),  # no reference to be right by
    ]
    assert [copies_training(generation, trained) for generation in generations] == [
        True,
        True,
        False,
        False,
        True,
    ]
    assert value(memory_statistic("memorised", generations, trained)) == pytest.approx(2 / 5)
    right = value(memory_statistic("memorised_and_right", generations, trained))
    assert right == pytest.approx(1 / 5)
