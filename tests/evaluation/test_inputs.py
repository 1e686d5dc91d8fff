"""From what a model said to metrics, by hand; and which metrics are chosen for which rows."""

from __future__ import annotations

import math
from typing import Any

import pytest

from kft.errors import RecipeError
from kft.evaluation.choice import Choice, RowFacts, choose_metrics
from kft.evaluation.comparison import compare, headline
from kft.evaluation.inputs import (
    baseline,
    generation_inputs,
    kind_of_rows,
    row_inputs,
    statistics,
)
from kft.evaluation.metrics.generations import Generation, answer_hash
from kft.evaluation.metrics.registry import METRICS
from kft.evaluation.metrics.statistic import mean_statistic, value
from kft.evaluation.predictions import Outputs, as_bio
from kft.recipe.metric_rules import METRIC_NAMES
from kft.tasks.registry import TASKS
from kft.tasks.task import IGNORE_INDEX, Example


def example(text: str = "", *, labels: tuple[int, ...] = (0,), **more: Any) -> Example:
    return Example([0] * len(labels), list(labels), "rows:1", text, **more)


def scores(
    task: str,
    examples: list[Example],
    outputs: Outputs,
    names: tuple[str, ...],
    labels: tuple[str, ...] = (),
) -> dict[str, float]:
    kind = kind_of_rows(task, examples, have_labels=bool(labels))
    found = statistics(names, row_inputs(kind, outputs, examples, labels))
    return {name: value(statistic) for name, statistic in found.items()}


def test_bits_per_character_do_not_depend_on_the_tokenizer() -> None:
    # The same 8 bits for "나다" in two tokens or in four.
    nats, names = [8 * math.log(2)], ("bits_per_character", "bits_per_byte", "perplexity")
    few, many = (
        scores("causal_lm", [example("나다")], Outputs(nats, [count], []), names)
        for count in (2, 4)
    )
    assert few["bits_per_character"] == many["bits_per_character"] == pytest.approx(4.0)
    assert few["bits_per_byte"] == pytest.approx(8 / 6)
    assert [few["perplexity"], many["perplexity"]] == [pytest.approx(2**4), pytest.approx(2**2)]


def test_labels_by_hand() -> None:
    rows = [example(label=label) for label in (0, 1, 1, 1, 0)]
    outputs = Outputs([0.0] * 5, [1] * 5, [0, 0, 1, 1, 1])
    names = ("a", "b", "c")
    for task in ("sequence_classification", "causal_lm"):
        found = scores(task, rows, outputs, ("accuracy", "macro_f1"), names)
        # F1 of 0: 2*1/(2+2); of 1: 2*2/(3+3); of 2, which never occurs: 0.
        assert found["macro_f1"] == pytest.approx((0.5 + 2 / 3 + 0) / 3)
        assert found["accuracy"] == pytest.approx(3 / 5)
    always = baseline(row_inputs("labels", outputs, rows, names))
    assert always == {"majority_accuracy": 3 / 5, "label_counts": [2, 3, 0]}


def test_numbers_several_labels_and_tags_by_hand() -> None:
    rows = [example(value=number) for number in (1.0, 2.0, 3.0)]
    outputs = Outputs([0.0] * 3, [1] * 3, [1.0, 2.0, 6.0])
    found = scores("sequence_regression", rows, outputs, ("mean_squared_error", "r2", "pearson"))
    assert found["mean_squared_error"] == 3.0
    assert found["r2"] == pytest.approx(1 - 9 / 2)
    assert found["pearson"] == pytest.approx(5 / math.sqrt(2 * 14), abs=1e-6)
    several = [example(label_ids=[1, 0]), example(label_ids=[1, 1])]
    outputs = Outputs([0.0] * 2, [1] * 2, [[1, 0], [0, 1]])
    names = ("multilabel_exact_match", "multilabel_macro_f1")
    found = scores("sequence_classification", several, outputs, names, ("a", "b"))
    assert list(found.values()) == [0.5, pytest.approx((2 / 3 + 1) / 2)]
    tagged = [example(labels=(1, 2, 0, 3)), example(labels=(0, IGNORE_INDEX))]
    outputs = Outputs([0.0] * 2, [4, 1], [[1, 2, 0, 1], [0]])
    tags = ("O", "B-PS", "I-PS", "B-LC")
    assert scores("token_classification", tagged, outputs, ("entity_micro_f1",), tags) == {
        "entity_micro_f1": 0.5
    }


def test_tags_of_other_schemes_are_read_as_b_and_i() -> None:
    assert [as_bio(tag) for tag in ("N", "B", "I-LC", "S-OG")] == ["I-N", "I-B", "I-LC", "B-OG"]


def test_generations_are_scored_with_and_without_references() -> None:
    said = [Generation("네", "뭐 해?", True, "네"), Generation("응", "뭐 해?", False, "아니")]
    inputs = generation_inputs(said, {answer_hash("응")})
    names = ("exact_match", "ended", "length_limit", "memorised")
    found = {name: value(one) for name, one in statistics(names, inputs).items()}
    assert found == {"exact_match": 0.5, "ended": 0.5, "length_limit": 0.5, "memorised": 0.5}
    alone = generation_inputs([Generation("네", "뭐 해?", True)])
    assert "texts" not in alone
    with pytest.raises(ValueError, match="`chrf` needs"):
        statistics(["chrf"], alone)


AUTO = {
    "causal_lm": RowFacts("causal_lm", None, references=["그렇습니다, 아주 좋은 날입니다. " * 3]),
    "short answers": RowFacts("causal_lm", None, references=["네"]),
    "known answers": RowFacts("causal_lm", None, references=["네"], knows_training=True),
    "running text": RowFacts("causal_lm", None, is_text=True, references=["이어지는 글"]),
    "labels as answers": RowFacts("causal_lm", "labels", references=["긍정"]),
    "sequence_classification": RowFacts("sequence_classification", "labels"),
    "several labels": RowFacts("sequence_classification", "multilabels"),
    "sequence_regression": RowFacts("sequence_regression", "numbers"),
    "token_classification": RowFacts("token_classification", "tags", are_characters=True),
    "masked_lm": RowFacts("masked_lm", None),
}
HEADLINES = {
    "causal_lm": "bits_per_character",
    "short answers": "bits_per_character",
    "known answers": "bits_per_character",
    "running text": "bits_per_character",
    "labels as answers": "accuracy",
    "sequence_classification": "accuracy",
    "several labels": "multilabel_macro_f1",
    "sequence_regression": "r2",
    "token_classification": "entity_micro_f1",
    "masked_lm": "eval_loss",
}


@pytest.mark.parametrize("case", AUTO)
def test_each_task_has_metrics_and_a_headline(case: str) -> None:
    choice = choose_metrics("auto", AUTO[case])
    assert choice.headline == HEADLINES[case]
    assert choice.headline in choice.rows
    assert choice.rows[0] == "eval_loss"
    assert {"chrf", "ended", "rouge_l_eojeol"} <= set(choice.generated) or case not in (
        "causal_lm", "short answers",
    )  # fmt: skip
    assert ("exact_match" in choice.generated) == (case in ("short answers", "known answers"))
    assert ("memorised" in choice.generated) == (case == "known answers")
    assert ("klue_character_f1" in choice.rows) == (case == "token_classification")


def test_metrics_that_a_recipe_names_come_first_and_are_possible() -> None:
    chosen = choose_metrics(["chrf", "perplexity"], AUTO["causal_lm"], best="bits_per_byte")
    assert chosen == Choice(("eval_loss", "perplexity", "bits_per_byte"), ("chrf",), "chrf")
    with pytest.raises(RecipeError, match="can't be computed from these rows"):
        choose_metrics(["accuracy"], AUTO["several labels"])
    with pytest.raises(RecipeError, match="needs generated answers") as caught:
        choose_metrics(["chrf"], RowFacts("causal_lm", None))
    assert "scored_generations" in str(caught.value)
    with pytest.raises(RecipeError) as caught:
        choose_metrics("auto", AUTO["several labels"], best="accuracy")
    assert "metric_for_best_model" in str(caught.value)


def test_every_task_of_the_table_has_a_case() -> None:
    assert {facts.task for facts in AUTO.values()} == set(TASKS)


def test_the_recipe_knows_the_metrics_there_are() -> None:
    kinds: dict[str, list[str]] = {}
    for name, entry in METRICS.items():
        kinds.setdefault(entry.kind, []).append(name)
    assert {kind: list(names) for kind, names in METRIC_NAMES.items()} == kinds


def test_a_difference_says_whether_it_is_better_worse_or_noise() -> None:
    rows = 40
    low, high = mean_statistic([1.0] * rows), mean_statistic([2.0] * rows)
    noisy = mean_statistic([1.0 + (-1) ** at for at in range(rows)])
    differences = compare(
        {"eval_loss": high, "accuracy": low, "r2": low},
        {"eval_loss": low, "accuracy": high, "r2": noisy},
    )
    assert {name: one.outcome for name, one in differences.items()} == {
        "eval_loss": "better",
        "accuracy": "better",
        "r2": "within noise",
    }
    assert compare({"accuracy": high}, {"accuracy": low})["accuracy"].outcome == "worse"
    assert differences["accuracy"].num_rows == rows
    told = headline("r2", differences, noisy, {})
    assert told["sentence"] == "r2: the difference is within noise on 40 rows"
    few = mean_statistic([1.0] * 9)
    assert compare({"accuracy": few}, {"accuracy": few}) == {}
    told = headline("accuracy", {}, few, {"majority_accuracy": 0.5})
    assert told["outcome"] is None
    assert told["sentence"] == "accuracy: 9 rows are too few to tell a difference from noise"


def test_better_than_a_new_head_is_not_better_than_one_answer_for_all() -> None:
    never, half = mean_statistic([0.0] * 40), mean_statistic([0.0, 1.0] * 20)
    differences = compare({"accuracy": never}, {"accuracy": half})
    told = headline("accuracy", differences, half, {"majority_accuracy": 0.5})
    assert [told["outcome"], told["free"], told["is_above_free"]] == ["better", 0.5, False]
    assert told["sentence"].endswith(
        "not clearly above 0.5, which always giving the same answer would score"
    )
    told = headline("accuracy", differences, half, {"majority_accuracy": 0.1})
    assert told["is_above_free"]
    assert told["sentence"] == "accuracy: better on 40 rows"
    assert "free" not in headline("macro_f1", differences, half, {"majority_accuracy": 0.1})


def test_how_often_one_label_occurs_is_chance_too() -> None:
    """0.64 on 75 rows against a label that 0.52 of them have: paired, from -0.04 to +0.28."""
    before, after = mean_statistic([1.0] * 36 + [0.0] * 39), mean_statistic([1.0] * 48 + [0.0] * 27)
    differences = compare({"accuracy": before}, {"accuracy": after})
    told = headline("accuracy", differences, after, {"majority_accuracy": 0.52})
    assert not told["is_above_free"]
    many = mean_statistic(([1.0] * 48 + [0.0] * 27) * 10)
    told = headline("accuracy", differences, many, {"majority_accuracy": 0.52})
    assert told["is_above_free"]


def test_where_neither_way_is_better_there_is_no_outcome() -> None:
    same = mean_statistic([1.0] * 20)
    found = compare({"memorised_and_right": same}, {"memorised_and_right": same})
    assert found["memorised_and_right"].outcome is None
