"""Korean text for the recipes' tests, in the layouts of the public files that they name."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

from kft.models.tokenizer_measures import SENTENCES as PLAIN_KOREAN

ROWS = 24
FILE = Path(__file__).resolve().parents[1] / "assets" / "sentences.txt"


def known_sentences() -> list[str]:
    """The tests' sentences, those that the guard asks for, and what templates and labels say."""
    own = FILE.read_text(encoding="utf-8").splitlines()
    more = ["### 질문: ### 맥락: ### 답변: 부정 긍정 리뷰 평가", "명령어 입력 응답 아래는 작업을"]
    return [*own, *PLAIN_KOREAN, *more]


def _jsonl(rows: list[dict[str, str]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _instructions(generator: random.Random) -> list[dict[str, str]]:
    return [
        {
            "instruction": generator.choice(known_sentences()),
            "input": generator.choice(["", "가격은 삼천 원이다."]),
            "output": generator.choice(known_sentences()),
        }
        for _ in range(ROWS)
    ]


def _koalpaca_v1(generator: random.Random) -> str:
    return json.dumps(_instructions(generator), ensure_ascii=False)


def _koalpaca_v11(generator: random.Random) -> str:
    rows = _instructions(generator)
    return _jsonl(
        [
            {"instruction": row["instruction"], "output": row["output"], "url": f"u/{n}"}
            for n, row in enumerate(rows)
        ]
    )


def _kullm(generator: random.Random) -> str:
    return _jsonl([{"id": f"r{n}", **row} for n, row in enumerate(_instructions(generator))])


def made_up_words(generator: random.Random) -> str:
    """Running text with enough different words for a new vocabulary of 8,000 pieces."""
    syllables = [chr(code) for code in range(0xAC00, 0xD7A4)]
    words = ["".join(generator.choices(syllables, k=3)) for _ in range(4000)]
    lines = [" ".join(words[start : start + 20]) for start in range(0, len(words), 20)]
    return _jsonl([{"text": line} for line in lines])


def _reviews(generator: random.Random) -> str:
    return _jsonl([{"text": generator.choice(known_sentences())} for _ in range(ROWS)])


def _sentiment(generator: random.Random) -> str:
    rows = [f"{generator.choice(known_sentences())}\t{n % 2}" for n in range(ROWS)]
    return "\n".join(["document\tlabel", *rows]) + "\n"


def _pairs(generator: random.Random) -> str:
    labels = ("entailment", "neutral", "contradiction")
    rows = [
        f'"{generator.choice(known_sentences())}\t{generator.choice(known_sentences())}'
        f"\t{labels[n % 3]}"
        for n in range(ROWS)
    ]
    return "\n".join(["sentence1\tsentence2\tgold_label", *rows]) + "\n"


def _similar(generator: random.Random) -> str:
    rows = [
        f"main\tfile\t2017\t{n}\t{n % 11 / 2}\t{generator.choice(known_sentences())}"
        f"\t{generator.choice(known_sentences())}"
        for n in range(ROWS)
    ]
    return "\n".join(["genre\tfilename\tyear\tid\tscore\tsentence1\tsentence2", *rows]) + "\n"


def _entities(generator: random.Random) -> str:
    """A character and its tag a line, as KLUE-NER has them; the first word is a place."""
    blocks = []
    for n in range(ROWS):
        text = generator.choice(known_sentences())
        first = len(text.split()[0])
        tags = ["B-LC", *["I-LC"] * (first - 1), *["O"] * (len(text) - first)]
        lines = [f"{character}\t{tag}" for character, tag in zip(text, tags, strict=True)]
        marked = f"<{text[:first]}:LC>{text[first:]}"
        blocks.append("\n".join([f"## klue-ner-v1_{n:05}\t{marked}", *lines]))
    return "\n\n".join(blocks) + "\n"


def _chat(generator: random.Random) -> str:
    rows = [
        f'"{generator.choice(known_sentences())}","{generator.choice(known_sentences())}",{n % 3}'
        for n in range(ROWS)
    ]
    return "\n".join(["Q,A,label", *rows]) + "\n"


LAYOUTS: dict[str, Callable[[random.Random], str]] = {
    "ko_alpaca_data.json": _koalpaca_v1,
    "KoAlpaca_v1.1.jsonl": _koalpaca_v11,
    "kullm-v2": _kullm,
    "reviews_train.jsonl": _reviews,
    "reviews_eval.jsonl": _reviews,
    "sentiment_train.tsv": _sentiment,
    "sentiment_test.tsv": _sentiment,
    "multinli.train.ko.tsv": _pairs,
    "xnli.dev.ko.tsv": _pairs,
    "sts-train.tsv": _similar,
    "sts-dev.tsv": _similar,
    "klue-ner-v1.1_train.tsv": _entities,
    "klue-ner-v1.1_dev.tsv": _entities,
    "ChatbotData.csv": _chat,
}
"""Name of a public file -> a few rows in its layout."""


def rows_like(named: str, generator: random.Random) -> str:
    """A few rows in the layout of the file that a recipe names."""
    return LAYOUTS[Path(named).name](generator)
