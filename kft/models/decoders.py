"""Encoders as decoders: BERT, RoBERTa and ELECTRA write from left to right, with two attentions.

``causal``: each token sees those before it. ``prefix``: the tokens of the prompt see each other
both ways, as in pre-training, and those of the answer see what is before them.

A prompt's tokens are told by the attention mask: 0 is padding, 1 a token, 2 a token of the
prompt. Generation appends ones, so an answer stays an answer, with a cache and without one.
"""

from __future__ import annotations

from typing import Any

import transformers

CAUSAL_LM = "AutoModelForCausalLM"
PROMPT = 2
"""What an attention mask has on the tokens of a prompt."""

DECODERS = frozenset({"bert", "electra", "roberta", "xlm-roberta", "camembert"})
"""Architectures of encoders that become decoders with ``task: causal_lm``."""

_FROM_BEHIND_PADDING = frozenset({"roberta", "xlm-roberta", "camembert"})


def first_position(config: Any) -> int:
    """Number of the first position: RoBERTa counts from behind its padding token's id."""
    return config.pad_token_id + 1 if config.model_type in _FROM_BEHIND_PADDING else 0


def is_encoder(config: Any) -> bool:
    """Whether the checkpoint is one of those that become decoders here."""
    return config.model_type in DECODERS


def is_prefix(config: Any) -> bool:
    """Whether a model's prompt is to see itself both ways."""
    return getattr(config, "kft_attention", None) == "prefix"


def fit_attention(config: Any, auto_class: str, attention: str) -> None:
    """Write into an encoder's configuration how its tokens see each other; in place.

    A checkpoint that says of itself that it is a prefix model stays one: it is right as no
    other.

    Args:
        config: The checkpoint's.
        auto_class: Name of the transformers class that fits the task.
        attention: The recipe's ``model.attention``.
    """
    if not is_encoder(config):
        return
    config.is_decoder = auto_class == CAUSAL_LM
    if config.is_decoder and attention == "prefix":
        config.kft_attention = "prefix"


def model_class(config: Any, auto_class: str) -> Any:
    """What makes or loads the model: a transformers auto class, or a decoder of an encoder."""
    if auto_class == CAUSAL_LM and is_encoder(config):
        from kft.models.decoder_classes import CLASSES  # modelling code: where a model is made

        return CLASSES[config.model_type]
    return getattr(transformers, auto_class)


def published_class(model: Any) -> str:
    """Name of the transformers class that loads the model's folder."""
    own = (kind for kind in type(model).__mro__ if kind.__module__.startswith("transformers."))
    return next(own, type(model)).__name__


def as_decoder(tokenizer: Any) -> Any:
    """Give an encoder's tokenizer a start and an end: `[CLS]` begins a text, `[SEP]` ends it.

    Args:
        tokenizer: A transformers tokenizer; changed in place, and saved with the model.
    """
    if tokenizer.cls_token is not None and tokenizer.sep_token is not None:
        tokenizer.bos_token, tokenizer.eos_token = tokenizer.cls_token, tokenizer.sep_token
    return tokenizer
