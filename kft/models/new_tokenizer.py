"""A tokenizer made from the training rows, for models that start from random weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from kft.errors import ModelError

SPECIAL_TOKENS = ("<s>", "</s>", "<unk>", "<pad>")
"""Start, end, unknown and padding, with the ids 0 to 3."""


def train_tokenizer(texts: Iterable[str], config: Any) -> Any:
    """A byte-level BPE of the config's ``vocab_size``; it puts ``<s>`` in front of a text.

    Args:
        texts: The training rows.
        config: The model's configuration; its special ids must be those of
            :data:`SPECIAL_TOKENS`, so that weights and vocabulary agree.

    Raises:
        ModelError: If the config's start or end id is another one, or the rows are too few
            for a vocabulary of this size.

    Source:
        Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.2.
    """
    if (config.bos_token_id, config.eos_token_id) != (0, 1):
        raise ModelError(
            f"The config's start and end ids are {config.bos_token_id} and {config.eos_token_id}",
            where="`model.name_or_path`",
            expected="`bos_token_id` 0 and `eos_token_id` 1, those of a newly made tokenizer",
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() != config.vocab_size:
        raise ModelError(
            f"The training rows give a vocabulary of only {tokenizer.get_vocab_size():,} pieces",
            where="`model.tokenizer`",
            expected=f"{config.vocab_size:,}, the config's `vocab_size`",
            hint="Give more rows, or lower `vocab_size` in the config.",
        )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 0)]
    )
    start, end, unknown, padding = SPECIAL_TOKENS
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=start,
        eos_token=end,
        unk_token=unknown,
        pad_token=padding,
        model_max_length=getattr(config, "max_position_embeddings", 512),
        clean_up_tokenization_spaces=False,
    )
