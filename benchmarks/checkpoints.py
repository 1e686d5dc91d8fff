# ruff: noqa: E501 -- the page's lines are long
"""What the tokenizers of real Korean checkpoints do, as they are and as kft loads them.

    KFT_TEST_DATA=../shared python benchmarks/checkpoints.py

Measures every folder of `$KFT_TEST_DATA/checkpoints` on the first 5,000 test reviews of NSMC.
Writes docs/evidence/checkpoints.md.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import transformers
from transformers import AutoConfig, AutoTokenizer

from kft.models import guard
from kft.models.tokenizer import open_tokenizer
from kft.models.tokenizer_measures import Measures, measure
from kft.recipe.schema import ModelSection

ROWS = 5000
OTHERS = {"kobert-misloaded": "kobert-base-v1"}
"""Folder -> the folder that has the tokenizer it was published with."""


def texts_of_nsmc(data: Path) -> list[str]:
    """The first test reviews, empty ones left out."""
    lines = (data / "nsmc" / "ratings_test.txt").read_text(encoding="utf-8").split("\n")
    texts = [line.split("\t")[1] for line in lines[1 : ROWS + 1]]
    return [text for text in texts if text.strip()]


def config_of(folder: Path) -> Any | None:
    """The configuration, where the folder has one that names an architecture."""
    try:
        return AutoConfig.from_pretrained(folder)
    except (OSError, ValueError):
        return None


def verdict(report: guard.TokenizerReport) -> str:
    """What the guard says, in a few words."""
    if not report.errors:
        return "passes"
    return (
        "**refused**: " + report.errors[0].what.partition("; expected")[0].partition(", first")[0]
    )


def row(name: str, way: str, measures: Measures | None, text: str) -> str:
    """A line of the table."""
    if measures is None:
        return f"| {name} | {way} | | | | {text} |"
    return (
        f"| {name} | {way} | {measures.unknown_rate:.2%} | {measures.character_recall:.2%} | "
        f"{measures.numbers()['tokens_per_eojeol']:.2f} | {text} |"
    )


def plain_line(folder: Path, texts: list[str]) -> str:
    """The folder as transformers loads it."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        said = str(error).strip().split("\n")[0].partition(" from one of")[0]
        return row(f"`{folder.name}`", "transformers", None, f"doesn't load: {said}")
    report = guard.examine(tokenizer, config_of(folder), texts)
    return row(f"`{folder.name}`", "transformers", measure(tokenizer, texts), verdict(report))


def kft_line(folder: Path, texts: list[str], other: Path | None = None) -> tuple[str, list[str]]:
    """The folder as kft loads it (with the tokenizer of another folder), and what it says."""
    place = None if other is None else str(other)
    opened = open_tokenizer(ModelSection(name_or_path=str(folder), tokenizer=place))
    report = guard.examine(
        opened.tokenizer,
        config_of(folder),
        texts,
        declared_class=opened.declared_class,
        published=opened.published,
    )
    told = [f"- {finding.what}." for finding in opened.findings]
    for finding in report.findings:
        if finding.severity != "note":
            hint = f" Hint: {finding.hint}" if finding.severity == "error" else ""
            told.append(f"- {finding.severity}: {finding.what}.{hint}")
    way = "kft" if other is None else f"kft, `model.tokenizer: {other.name}`"
    return row("", way, measure(opened.tokenizer, texts), verdict(report)), told


def main() -> None:
    """Measure and write."""
    warnings.simplefilter("ignore")
    transformers.utils.logging.set_verbosity_error()
    shared = Path(os.environ.get("KFT_TEST_DATA", "../shared"))
    texts = texts_of_nsmc(shared / "data")
    table, notes = [], []
    for folder in sorted(path for path in (shared / "checkpoints").iterdir() if path.is_dir()):
        line, told = kft_line(folder, texts)
        table += [plain_line(folder, texts), line]
        if folder.name in OTHERS:
            table.append(kft_line(folder, texts, folder.with_name(OTHERS[folder.name]))[0])
        notes += ["", f"`{folder.name}`", "", *(told or ["- nothing to mend."])]
    page = [
        "# Korean checkpoints: their tokenizers, measured",
        "",
        f"Every tokenizer on the first {ROWS:,} test reviews of NSMC, empty ones left out (the guard's verdict rests on a sample of up to {guard.MOST_TEXTS:,} texts):",
        f"as transformers {transformers.__version__} loads the folder, and as kft does. Made by `python benchmarks/checkpoints.py`.",
        "",
        "| folder | loaded by | unknown tokens | characters that come back | tokens per eojeol | verdict |",
        "|---|---|--:|--:|--:|---|",
        *table,
        "",
        "A low number of tokens per eojeol is no merit by itself: whole words may have become one `[UNK]`.",
        "",
        "## Limits",
        "",
        f"- Unknown tokens over {guard.UNKNOWN_LIMIT:.0%}: refused. Right tokenizers have up to 1.7 % on Korean text, wrong ones 39 to 79 %.",
        f"- Characters that come back under {guard.RECALL_LIMIT:.0%}, in texts without an unknown token: refused. They vanish without a trace.",
        f"- Characters that come back under {guard.MARKED_RECALL_LIMIT:.0%} over all texts: refused. One unknown token may hide a whole word.",
        f"- Unknown tokens over {guard.UNKNOWN_NOTED:.0%}, or under {guard.RECALL_NOTED:.1%} of the characters: a warning names the commonest.",
        "- Pieces without a row in the model, segments beyond `type_vocab_size`, and a padding id that positions are counted from: refused.",
        f"- With {guard.ENOUGH_HANGUL} syllables of Hangul or more, the user's rows decide; with fewer, twelve built-in sentences do.",
        "",
        "Characters are compared by their compatibility form and without case: a vocabulary that writes ㅋ as a conjoining jamo (KoBERT) changes it and doesn't lose it.",
        "",
        "## What was mended, and what the guard says then",
        *notes,
        "",
    ]
    target = Path("docs/evidence/checkpoints.md")
    target.write_text("\n".join(page), encoding="utf-8")
    print(target.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
