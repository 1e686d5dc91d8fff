"""What a configuration alone says of its model: can it do the task, and how long may a row be?"""

from __future__ import annotations

from typing import Any

import torch
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
)

from kft.errors import ModelError, name_list
from kft.models.decoders import CAUSAL_LM, DECODERS, first_position, is_encoder, model_class
from kft.recipe.schema import ModelSection

_TOKENS = "AutoModelForTokenClassification"
_MODELS = {
    "AutoModelForSequenceClassification": (
        "classifier of texts",
        MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    ),
    _TOKENS: ("classifier of tokens", MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES),
    "AutoModelForMaskedLM": ("masked language model", MODEL_FOR_MASKED_LM_MAPPING_NAMES),
}


def check_architecture(config: Any, auto_class: str, attention: str = "causal") -> None:
    """See that the model can do the task.

    transformers makes a causal LM of any BERT-like model, and then every token may see the one
    it is to predict: the loss falls to nothing and nothing is learned. kft makes decoders of
    those that it knows how to, and refuses the others.

    Args:
        config: The checkpoint's configuration.
        auto_class: Name of the transformers class that fits the task.
        attention: The recipe's ``model.attention``.

    Raises:
        ModelError: If the architecture can't do the task.
    """
    name = config.model_type
    if attention == "prefix" and not is_encoder(config):
        raise ModelError(
            f"`{name}` reads from left to right: its prompt can't see itself both ways",
            where="`model.attention`",
            expected=f"`causal`, or a checkpoint of {name_list(sorted(DECODERS))}",
        )
    if auto_class in (config.to_dict().get("auto_map") or {}):
        return
    if auto_class == CAUSAL_LM:
        _check_writes(config)
        return
    if auto_class not in _MODELS:
        return
    what, names = _MODELS[auto_class]
    if name not in names:
        raise ModelError(
            f"transformers has no {what} of the architecture `{name}`",
            where="`model.name_or_path`",
            expected="an encoder, such as BERT, RoBERTa or ELECTRA",
        )
    if auto_class == _TOKENS and name not in MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        raise ModelError(
            f"`{name}` reads from left to right: a word's tag can't depend on what follows it",
            where="`model.name_or_path`",
            expected="an encoder, such as BERT, RoBERTa or ELECTRA",
        )


def _check_writes(config: Any) -> None:
    name = config.model_type
    if is_encoder(config):
        return
    sees_all = name in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(
        config, "is_decoder", False
    )
    if sees_all or name not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise ModelError(
            f"`{name}` is an encoder: its tokens see those that come after them"
            if sees_all
            else f"transformers has no causal language model of the architecture `{name}`",
            where="`model.name_or_path`",
            expected="a model that writes from left to right, such as GPT-2, GPT-NeoX or Llama, "
            f"or an encoder that can: {name_list(sorted(DECODERS))}",
        )


def num_positions(config: Any) -> int | None:
    """Tokens that a row may have at most; ``None`` where the architecture sets no limit."""
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    if not isinstance(positions, int) or positions <= 0:
        return None
    return positions - first_position(config)


def skeleton(config: Any, section: ModelSection, auto_class: str) -> Any:
    """The model without weights, on the meta device: its modules and their shapes.

    Raises:
        ModelError: If the configuration's numbers don't make a model.
    """
    factory = model_class(config, auto_class)
    try:
        with torch.device("meta"):
            return factory.from_config(config, trust_remote_code=section.trust_remote_code)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as cause:
        raise ModelError(
            f"The configuration of `{section.name_or_path}` doesn't make a model: {cause}",
            where="`model.name_or_path`",
            expected="the `config.json` that the checkpoint was published with",
        ) from cause
