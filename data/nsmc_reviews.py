"""Make pre-training rows from NSMC's training reviews: data/nsmc/reviews_{train,eval}.jsonl.

    python data/nsmc_reviews.py data/nsmc/ratings_train.txt

Distinct reviews in NFC, shuffled with seed 0; the first 1,000 are held out, one a row. Of the
others four in ten stand alone, and the rest are joined to pages of up to 400 characters, one
review a line, so that a model of 256 positions sees all of its positions.
"""

from __future__ import annotations

import json
import random
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

HELD_OUT = 1000
PAGE_CHARACTERS = 400


def reviews(path: Path) -> list[str]:
    """The distinct reviews that are not empty, in file order."""
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    texts = (unicodedata.normalize("NFC", line.split("\t")[1]).strip() for line in lines)
    return list(dict.fromkeys(text for text in texts if text))


def rows(texts: list[str], generator: random.Random) -> Iterator[str]:
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


def write(path: Path, texts: list[str]) -> None:
    """One ``{"text": ...}`` a line."""
    lines = (json.dumps({"text": text}, ensure_ascii=False) for text in texts)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{path}: {len(texts):,} rows, {sum(map(len, texts)):,} characters")


def main() -> None:
    """Write both files beside the one named on the command line's ``data/nsmc``."""
    source = Path(sys.argv[1])
    folder = Path("data/nsmc")
    folder.mkdir(parents=True, exist_ok=True)
    generator = random.Random(0)
    texts = reviews(source)
    generator.shuffle(texts)
    write(folder / "reviews_eval.jsonl", texts[:HELD_OUT])
    write(folder / "reviews_train.jsonl", list(rows(texts[HELD_OUT:], generator)))


if __name__ == "__main__":
    main()
