"""What a configuration alone says of its model: can it do the task, and how long may a row be?"""

from __future__ import annotations

from typing import Any

import torch
import transformers
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from kft.errors import ModelError
from kft.recipe.schema import ModelSection


def check_architecture(config: Any, auto_class: str) -> None:
    """See that the model can do the task.

    transformers makes a causal LM of a BERT too, and then every token sees the one it is to
    predict: the loss falls to nothing and nothing is learned.

    Args:
        config: The checkpoint's configuration.
        auto_class: Name of the transformers class that fits the task.

    Raises:
        ModelError: If the architecture does not predict next tokens and the task does.
    """
    name = config.model_type
    if auto_class != "AutoModelForCausalLM" or auto_class in (
        config.to_dict().get("auto_map") or {}
    ):
        return
    is_encoder = name in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(
        config, "is_decoder", False
    )
    if is_encoder or name not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise ModelError(
            f"`{name}` is an encoder: its tokens see those that come after them"
            if is_encoder
            else f"transformers has no causal language model of the architecture `{name}`",
            where="`model.name_or_path`",
            expected="a model that writes from left to right, such as GPT-2, GPT-NeoX or Llama",
        )


def num_positions(config: Any) -> int | None:
    """Tokens that a row may have at most; ``None`` where the architecture sets no limit."""
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    return positions if isinstance(positions, int) and positions > 0 else None


def skeleton(config: Any, section: ModelSection, auto_class: str) -> Any:
    """The model without weights, on the meta device: its modules and their shapes.

    Raises:
        ModelError: If the configuration's numbers don't make a model.
    """
    factory = getattr(transformers, auto_class)
    try:
        with torch.device("meta"):
            return factory.from_config(config, trust_remote_code=section.trust_remote_code)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as cause:
        raise ModelError(
            f"The configuration of `{section.name_or_path}` doesn't make a model: {cause}",
            where="`model.name_or_path`",
            expected="the `config.json` that the checkpoint was published with",
        ) from cause
