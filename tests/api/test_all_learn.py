"""Every weight that is trained gets a gradient: DDP waits for each of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from test_tasks import CASES

from kft.api.loaded import load
from kft.api.observer import Silent
from kft.api.stepping import training_windows
from kft.api.training import prepare_training
from kft.recipe.reader import read_recipe

if TYPE_CHECKING:
    from conftest import RecipeFile

ENCODERS = ["tiny_bert", "tiny_roberta", "tiny_electra"]
DECODERS = ["tiny_gpt", "tiny_llama", "tiny_neox"]
PAIRS = [
    *((kind, model) for kind in ("token_classification", "prefix") for model in ENCODERS),
    *((kind, model) for kind in ("masked_lm", "causal") for model in ENCODERS[:2]),
    *(("sequence_classification", model) for model in (*ENCODERS, *DECODERS)),
    *(("causal", model) for model in DECODERS),
    ("sequence_regression", "tiny_bert"),
]


@pytest.mark.parametrize("method", ["full", pytest.param("lora", marks=pytest.mark.slow)])
@pytest.mark.parametrize(("kind", "model"), PAIRS)
def test_every_trained_weight_gets_a_gradient(
    kind: str,
    model: str,
    method: str,
    request: pytest.FixtureRequest,
    recipe_file: RecipeFile,
) -> None:
    rows, keys = CASES[kind]
    task: dict[str, Any] = {"task": "causal_lm" if kind in ("causal", "prefix") else kind}
    checkpoint: Path = request.getfixturevalue(model)
    more = {"adapter.method": method, "data.eval_fraction": 0.4, "data.max_length": 48}
    loaded = load(read_recipe(recipe_file(checkpoint, rows(), {**task, **keys, **more})), Silent())
    training = prepare_training(loaded)
    batch = next(training_windows(loaded, training.plan, 1))[0]
    training.module(batch).total.backward()
    named = dict(training.module.named_parameters())
    trained = {name for name, weight in named.items() if weight.requires_grad}
    assert trained
    assert [name for name in sorted(trained) if named[name].grad is None] == []
