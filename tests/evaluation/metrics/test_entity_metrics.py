"""Metrics of named entities, by hand, against seqeval, and on KLUE's own sentences."""

from __future__ import annotations

import math
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from seqeval.metrics import classification_report, f1_score
from seqeval.scheme import IOB2
from sklearn import metrics as reference

from kft.evaluation.metrics.entities import (
    count_entities,
    entity_f1,
    find_entities,
    klue_character_f1,
)
from kft.evaluation.metrics.statistic import value

TAGS = ["O", "B-PS", "I-PS", "B-LC", "I-LC", "B-OG"]


@pytest.mark.parametrize(
    ("tags", "loose", "strict"),
    [
        ("O I-PS I-PS O", [("PS", 1, 3)], []),
        ("B-PS I-LC I-LC", [("PS", 0, 1), ("LC", 1, 3)], [("PS", 0, 1)]),
        ("B-PS B-PS I-PS", [("PS", 0, 1), ("PS", 1, 3)], [("PS", 0, 1), ("PS", 1, 3)]),
        ("I-PS B-PS", [("PS", 0, 1), ("PS", 1, 2)], [("PS", 1, 2)]),
        ("B-PS O I-PS", [("PS", 0, 1), ("PS", 2, 3)], [("PS", 0, 1)]),
        ("", [], []),
    ],
)
def test_the_two_readings(
    tags: str, loose: list[tuple[str, int, int]], strict: list[tuple[str, int, int]]
) -> None:
    assert find_entities(tags.split()) == loose
    assert find_entities(tags.split(), strict=True) == strict


def test_by_hand() -> None:
    true = [["B-PS", "I-PS", "O", "B-LC"], ["B-LC", "O"]]
    predicted = [["B-PS", "I-PS", "O", "B-OG"], ["B-LC", "I-LC"]]
    # PS 1 of 1 and 1; LC 0 right, 1 found, 2 true; OG 0, 1, 0.
    assert value(entity_f1(predicted, true)) == pytest.approx(2 * 1 / (3 + 3))
    assert value(entity_f1(predicted, true, average="macro")) == pytest.approx(1 / 3)
    by_type = count_entities(predicted, true).by_type()
    assert {name: score.support for name, score in by_type.items()} == {"LC": 2, "OG": 0, "PS": 1}
    assert by_type["PS"].f1 == 1.0


def random_tags(seed: int) -> tuple[list[list[str]], list[list[str]]]:
    generator = np.random.default_rng(seed)
    true, predicted = [], []
    for length in generator.integers(1, 15, 60):
        row = generator.choice(TAGS, length, p=[0.4, 0.12, 0.18, 0.1, 0.1, 0.1])
        other = generator.choice(TAGS, length)
        true.append(row.tolist())
        predicted.append(np.where(generator.random(length) < 0.75, row, other).tolist())
    return predicted, true


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("strict", [False, True])
def test_random_tags_agree_with_seqeval(seed: int, *, strict: bool) -> None:
    predicted, true = random_tags(seed)
    mode = {"mode": "strict", "scheme": IOB2} if strict else {}
    for average in ("micro", "macro"):
        theirs = f1_score(true, predicted, average=average, zero_division=0, **mode)
        ours = value(entity_f1(predicted, true, average=average, strict=strict))
        assert ours == pytest.approx(theirs)
    report = classification_report(true, predicted, output_dict=True, zero_division=0, **mode)
    for name, score in count_entities(predicted, true, strict=strict).by_type().items():
        theirs = report[name]
        assert score.support == theirs["support"]
        assert (score.precision, score.recall, score.f1) == pytest.approx(
            (theirs["precision"], theirs["recall"], theirs["f1-score"])
        )


@pytest.mark.parametrize("seed", range(3))
def test_characters_agree_with_scikit_learn_without_o(seed: int) -> None:
    predicted, true = random_tags(seed)
    labels = [*TAGS[1:], "I-OG"]  # one that nobody uses
    theirs = reference.f1_score(
        list(chain(*true)), list(chain(*predicted)), labels=labels, average="macro", zero_division=1
    )
    assert value(klue_character_f1(predicted, true, labels)) == pytest.approx(theirs)
    assert value(klue_character_f1(predicted, true, [*labels, "O"])) == pytest.approx(theirs)
    occurring = reference.f1_score(
        list(chain(*true)), list(chain(*predicted)), labels=TAGS[1:], average="macro"
    )
    assert value(klue_character_f1(predicted, true)) == pytest.approx(occurring)


def test_o_alone_scores_nothing() -> None:
    assert value(klue_character_f1([["O", "O"]], [["O", "B-PS"]])) == 0
    assert value(entity_f1([["O", "O"]], [["O", "B-PS"]])) == 0
    assert math.isnan(value(klue_character_f1([["O"]], [["O"]])))


def test_wrong_tags_are_refused() -> None:
    with pytest.raises(ValueError, match="`PS-B` is no tag"):
        find_entities(["PS-B"])
    with pytest.raises(ValueError, match="sequence 1: 1 tags for 2"):
        entity_f1([["O"], ["O"]], [["O"], ["O", "O"]])
    with pytest.raises(ValueError, match="1 predicted sequences for 2"):
        klue_character_f1([["O"]], [["O"], ["O"]])


def klue_sentences(path: Path) -> list[list[str]]:
    """Tags of each sentence: a character and its tag a line, blank lines between."""
    sentences: list[list[str]] = [[]]
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("##"):
            continue
        if not line.strip("\n\r"):
            sentences.append([])
        else:
            sentences[-1].append(line.rsplit("\t", 1)[-1])
    return [sentence for sentence in sentences if sentence]


def test_klue_sentences_agree_with_seqeval(real_data: Path) -> None:
    true = klue_sentences(real_data / "data" / "klue" / "klue-ner-v1.1_dev.tsv")
    assert len(true) == 5000
    generator = np.random.default_rng(0)
    names = sorted({tag for row in true for tag in row})
    predicted = [
        [
            str(generator.choice(names)) if noisy else tag
            for tag, noisy in zip(row, wrong, strict=True)
        ]
        for row in true[:500]
        for wrong in [generator.random(len(row)) < 0.03]
    ]
    theirs = f1_score(true[:500], predicted, average="macro", mode="strict", scheme=IOB2)
    ours = value(entity_f1(predicted, true[:500], average="macro", strict=True))
    assert ours == pytest.approx(theirs)
    assert 0.3 < ours < 0.9
