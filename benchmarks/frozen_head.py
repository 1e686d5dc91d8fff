"""A linear head on a frozen encoder: how much a checkpoint knew before it was tuned.

The head is fitted until it converges on the vectors that the encoder gives as it came: the first
token's for a label or a number, each tagged token's for tags. Beside it stands what always says
the commonest label (for a number: the mean).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from transformers import AutoModel

from kft.api.preflight import load_data
from kft.evaluation.metrics.registry import compute_metrics
from kft.ops.losses import IGNORE_INDEX
from kft.recipe.schema import Recipe
from kft.tasks.registry import choose_task
from kft.tasks.task import Example


@torch.no_grad()
def vectors(examples: Sequence[Example], model: Any) -> list[np.ndarray]:
    """The frozen encoder's last hidden states of each example, (T, D)."""
    order = sorted(range(len(examples)), key=lambda row: len(examples[row].input_ids))
    found: list[np.ndarray] = [np.empty(0)] * len(examples)
    for start in range(0, len(order), 64):
        rows = order[start : start + 64]
        width = max(len(examples[row].input_ids) for row in rows)
        ids = torch.zeros(3, len(rows), width, dtype=torch.int64)
        for place, row in enumerate(rows):
            one = examples[row]
            length = len(one.input_ids)
            ids[0, place, :length] = torch.tensor(one.input_ids)
            ids[1, place, :length] = 1
            ids[2, place, :length] = torch.tensor(one.token_type_ids or [0] * length)
        states = model(input_ids=ids[0], attention_mask=ids[1], token_type_ids=ids[2])[0]
        for place, row in enumerate(rows):
            found[row] = states[place, : len(examples[row].input_ids)].numpy()
    return found


def frozen(recipe: Recipe, metrics: Sequence[str]) -> dict[str, dict[str, float]]:
    """Metrics of the commonest label (or the mean), and of a head on the frozen encoder."""
    task = choose_task(recipe.task, recipe.model.attention)
    _, records, _, data = load_data(recipe, task)
    encoder = AutoModel.from_pretrained(recipe.model.name_or_path, dtype=torch.float32).eval()
    train, test = list(data.train.examples), list(data.held_out.examples)
    inside, outside = vectors(train, encoder), vectors(test, encoder)
    if recipe.task == "token_classification":
        return _frozen_tags(records.labels, metrics, train, test, inside, outside)
    first, held = (np.stack([one[0] for one in part]) for part in (inside, outside))
    if recipe.task == "sequence_regression":
        known = [one.value for one in train]
        truths = [one.value for one in test]
        mean = float(np.mean(known))
        guess = Ridge().fit(first, known).predict(held)
        # A constant has no correlation with anything.
        always = {"pearson": 0.0, **compute_metrics(["r2"], _pair([mean] * len(truths), truths))}
        return {"mean": always, "frozen": compute_metrics(metrics, _pair(guess, truths))}
    known_labels, labels = [one.label for one in train], [one.label for one in test]
    common = Counter(known_labels).most_common(1)[0][0]
    head = LogisticRegression(max_iter=2000).fit(first, known_labels)
    return {
        name: _label_metrics(metrics, guess, labels, len(records.labels))
        for name, guess in (("majority", [common] * len(labels)), ("frozen", head.predict(held)))
    }


def _pair(predictions: Any, references: Any) -> dict[str, Any]:
    return {"predictions": list(predictions), "references": list(references)}


def _label_metrics(
    names: Sequence[str], predictions: Any, references: Any, num_labels: int
) -> dict[str, float]:
    return compute_metrics(names, {**_pair(predictions, references), "num_labels": num_labels})


def _frozen_tags(
    names: Sequence[str],
    metrics: Sequence[str],
    train: Sequence[Example],
    test: Sequence[Example],
    inside: Sequence[np.ndarray],
    outside: Sequence[np.ndarray],
) -> dict[str, dict[str, float]]:
    """The same of tags: the head sees each tagged token's vector."""
    tagged = [np.array(one.labels) != IGNORE_INDEX for one in train]
    known = np.concatenate(
        [np.array(one.labels)[on] for one, on in zip(train, tagged, strict=True)]
    )
    seen = np.concatenate([rows[on] for rows, on in zip(inside, tagged, strict=True)])
    head = LogisticRegression(max_iter=300).fit(seen, known)
    truths, guesses, common = [], [], []
    most = names[Counter(known.tolist()).most_common(1)[0][0]]
    for one, rows in zip(test, outside, strict=True):
        on = np.array(one.labels) != IGNORE_INDEX
        truths.append([names[label] for label in np.array(one.labels)[on]])
        guesses.append([names[label] for label in head.predict(rows[on])])
        common.append([most] * int(on.sum()))
    return {
        "majority": compute_metrics(metrics, _pair(common, truths)),
        "frozen": compute_metrics(metrics, _pair(guesses, truths)),
    }
