"""The model card of a run's adapter or model, from what lies in the run folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from kft import __version__
from kft.api.kept_json import read_json
from kft.api.opened import head_of, trained_part
from kft.api.paths import with_names_alone
from kft.export.card import Base, CardFacts, write_card
from kft.export.card_loading import Loading
from kft.export.modelfile import GGUF
from kft.export.onnx_file import ONNX
from kft.models.decoders import CAUSAL_LM, first_position, fit_attention, is_encoder, is_prefix
from kft.models.licence import licence_of
from kft.models.loader import load_config
from kft.models.precision import DTYPES
from kft.models.quantization import quantization_config
from kft.models.tokenizer import load_tokenizer
from kft.recipe.schema import ModelSection, Recipe
from kft.tasks.registry import TASKS


def write_run_card(
    run: Path, recipe: Recipe, folder: Path, verification: Mapping[str, Any] | None = None
) -> None:
    """Write the card of an adapter, a merged model or a fully trained one.

    Args:
        run: The run folder; what is not there yet is left out of the card.
        recipe: Its resolved recipe.
        folder: Where the weights are.
        verification: The numbers of the model in ``folder``, when it was compared.
    """
    is_adapter = (folder / "adapter_config.json").is_file()
    environment, result = read_json(run / "environment.json"), read_json(run / "result.json")
    base = recipe.model.name_or_path
    is_here = Path(base).exists()
    licence = licence_of(base)
    facts = CardFacts(
        title=run.absolute().name,
        kind="adapter" if is_adapter else "model",
        task=recipe.task,
        method=recipe.adapter.method,
        version=__version__,
        base=Base(
            name=Path(base).name if is_here else base,
            licence=licence,
            revision=recipe.model.revision,
            sha256=environment.get("base_sha256"),
            quantization=recipe.model.quantization,
        ),
        loading=_loading(recipe, run, folder, (environment, licence.hub), is_adapter=is_adapter),
        files=[(Path(path).name, sha) for path, sha in _files(environment)],
        rows=_rows(environment, result),
        recipe=_own_values(recipe),
        result=result,
        verification=verification or (result.get("verification") if is_adapter else None),
    )
    write_card(facts, folder)


def _loading(
    recipe: Recipe,
    run: Path,
    folder: Path,
    known: tuple[Mapping[str, Any], str | None],
    *,
    is_adapter: bool,
) -> Loading:
    environment, hub = known
    weights = GGUF if (folder / GGUF).is_file() else None
    if weights is not None:  # which has its tokenizer inside
        folder = trained_part(run, "model" if recipe.adapter.method == "full" else "adapter")
    task = TASKS[recipe.task]
    config = load_config(recipe.model)
    fit_attention(config, task.auto_class, recipe.model.attention)
    tokenizer = load_tokenizer(ModelSection(name_or_path=str(folder)))
    start = None
    if tokenizer.chat_template is None:
        start = tokenizer.bos_token or tokenizer.eos_token or ""
    dtype = (environment.get("auto") or {}).get("model.dtype", "float32")
    is_decoder = task.auto_class == CAUSAL_LM and is_encoder(config)
    options: dict[str, Any] = {"is_decoder": True} if is_decoder else {}
    quantized = quantization_config(recipe.model, DTYPES[dtype], task.auto_class, config)
    quantization = quantized.to_diff_dict() if quantized is not None else {}
    base = recipe.model.name_or_path
    return Loading(
        auto_class=task.auto_class,
        task=recipe.task,
        base=(hub or Path(base).name) if is_adapter else None,
        dtype=dtype,
        options={**options, **_head_keys(recipe)},
        quantization={k: v for k, v in quantization.items() if not k.startswith("quant_")},
        start=start,
        is_pair="text_pair" in recipe.data.columns or recipe.data.format == "pairs",
        prefix=is_decoder and is_prefix(config),
        gguf=weights,
        graph=ONNX if (folder / ONNX).is_file() else None,
        odd_positions=is_decoder and first_position(config) > 0,
    )


def _head_keys(recipe: Recipe) -> dict[str, Any]:
    """What a base's configuration has to be told of the head."""
    head = head_of(recipe)
    if head.kind == "language":
        return {}
    if head.kind == "number":
        return {"num_labels": 1, "problem_type": "regression"}
    names = dict(enumerate(head.labels))
    return {"id2label": names, "label2id": {name: number for number, name in names.items()}}


def _files(environment: Mapping[str, Any]) -> list[tuple[str, str]]:
    return list((environment.get("data_sha256") or {}).items())


def _rows(environment: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, str]:
    auto = environment.get("auto") or {}
    held_out = (result.get("tuned") or {}).get("num_rows")
    found = {
        "rows trained on": result.get("train_rows"),
        "rows held out": held_out,
        "steps": result.get("steps"),
        "parameters trained": result.get("trainable_parameters"),
    }
    words = {name: f"{value:,}" for name, value in found.items() if value is not None}
    named = {"format": auto.get("data.format"), "template": auto.get("data.template")}
    return words | {name: str(value) for name, value in named.items() if value}


def _own_values(recipe: Recipe) -> str:
    """The keys that don't stand at their default, with the last part of each path."""
    values = with_names_alone(recipe).model_dump(mode="json", exclude_defaults=True)
    values.pop("output_dir", None)
    return str(yaml.safe_dump(values, allow_unicode=True, sort_keys=False))
