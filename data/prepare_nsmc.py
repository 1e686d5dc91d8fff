"""Make the rows that two recipes use from NSMC's own files, under data/nsmc/.

    python data/prepare_nsmc.py data/nsmc

reads ``ratings_train.txt`` and ``ratings_test.txt`` in the folder named and writes

- ``reviews_train.jsonl``, ``reviews_eval.jsonl``: for pre-training. Distinct reviews in NFC,
  shuffled with seed 0; the first 1,000 are held out, one a row. Of the others four in ten stand
  alone, and the rest are joined to pages of up to 400 characters, one review a line, so that a
  model of 256 positions sees all of its positions.
- ``sentiment_train.tsv``, ``sentiment_test.tsv``: 20,000 labelled training reviews, and 10,000
  test reviews that do not occur anywhere in NSMC's training file (1,571 of its test reviews do).
"""

from __future__ import annotations

import json
import random
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

HELD_OUT = 1000
PAGE_CHARACTERS = 400
TRAIN_ROWS = 20_000
TEST_ROWS = 10_000


def read(path: Path) -> list[tuple[str, str]]:
    """Text in NFC and label of each row that has a text, in file order."""
    cells = (line.split("\t") for line in path.read_text(encoding="utf-8").split("\n")[1:] if line)
    rows = ((unicodedata.normalize("NFC", text).strip(), label) for _, text, label in cells)
    return [(text, label) for text, label in rows if text]


def pages(texts: Sequence[str], generator: random.Random) -> Iterator[str]:
    """Single reviews and pages of reviews."""
    page: list[str] = []
    for text in texts:
        if generator.random() < 0.4:
            yield text
            continue
        if page and sum(map(len, page)) + len(page) + len(text) > PAGE_CHARACTERS:
            yield "\n".join(page)
            page = []
        page.append(text)
    if page:
        yield "\n".join(page)


def write_texts(path: Path, texts: Sequence[str]) -> None:
    """One ``{"text": ...}`` a line."""
    lines = (json.dumps({"text": text}, ensure_ascii=False) for text in texts)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{path}: {len(texts):,} rows, {sum(map(len, texts)):,} characters")


def write_labelled(path: Path, rows: Sequence[tuple[str, str]]) -> None:
    """Tab-separated, as NSMC's own files: a header, then text and label."""
    lines = ["document\tlabel", *(f"{text}\t{label}" for text, label in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    positive = sum(label == "1" for _, label in rows)
    print(f"{path}: {len(rows):,} rows, {positive:,} positive")


def main() -> None:
    """Write the four files."""
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("data/nsmc")
    folder = Path("data/nsmc")
    folder.mkdir(parents=True, exist_ok=True)
    train, test = read(source / "ratings_train.txt"), read(source / "ratings_test.txt")
    generator = random.Random(0)
    texts = list(dict.fromkeys(text for text, _ in train))
    generator.shuffle(texts)
    write_texts(folder / "reviews_eval.jsonl", texts[:HELD_OUT])
    write_texts(folder / "reviews_train.jsonl", list(pages(texts[HELD_OUT:], generator)))
    known = set(texts)
    unseen = [row for row in test if row[0] not in known]
    write_labelled(folder / "sentiment_train.tsv", generator.sample(train, TRAIN_ROWS))
    write_labelled(folder / "sentiment_test.tsv", generator.sample(unseen, TEST_ROWS))


if __name__ == "__main__":
    main()
