"""A tokenizer made from the training rows, for models that start from random weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
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
from transformers import BertTokenizer, PreTrainedTokenizerFast

from kft.errors import ModelError
from kft.models.decoders import is_encoder

SPECIAL_TOKENS = ("<s>", "</s>", "<unk>", "<pad>")
"""Start, end, unknown and padding of a decoder, with the ids 0 to 3."""

ENCODER_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""Those of an encoder, with the ids 0 to 4, as KLUE's checkpoints have them."""

_CHARACTERS = 2_000
"""Characters that are pieces by themselves: 99.97 % of NSMC's; the trainer's own 1,000 are too few
for Hangul."""

_INNER = 0xF0000
"""The first of the code points, all for private use, that stand for characters inside a word while
pieces are counted."""


def train_tokenizer(texts: Iterable[str], config: Any) -> Any:
    """A tokenizer of the config's ``vocab_size``: WordPiece for an encoder, else a byte-level BPE.

    The same texts give the same tokenizer.

    Args:
        texts: The training rows.
        config: The model's configuration; its special ids must be those of the new vocabulary.

    Raises:
        ModelError: If the config's special ids are other ones, or the rows are too few for a
            vocabulary of this size.
    """
    made = _word_pieces(texts, config) if is_encoder(config) else _byte_pairs(texts, config)
    if len(made) != config.vocab_size:
        raise ModelError(
            f"The training rows give a vocabulary of only {len(made):,} pieces",
            where="`model.tokenizer`",
            expected=f"{config.vocab_size:,}, the config's `vocab_size`",
            hint="Give more rows, or lower `vocab_size` in the config.",
        )
    return made


def _word_pieces(texts: Iterable[str], config: Any) -> Any:
    """Whole case, `[CLS]` before and `[SEP]` behind a text.

    Source:
        Wu et al. 2016, "Google's Neural Machine Translation System", section 4.1.
    """
    if config.pad_token_id != 0:
        raise ModelError(
            f"The config's padding id is {config.pad_token_id}",
            where="`model.name_or_path`",
            expected="`pad_token_id` 0, that of a newly made tokenizer of an encoder",
        )
    return BertTokenizer(
        vocab=piece_vocabulary(texts, config.vocab_size, ENCODER_TOKENS),
        do_lower_case=False,
        strip_accents=False,
        model_max_length=config.max_position_embeddings,
    )


def piece_vocabulary(texts: Iterable[str], size: int, specials: Sequence[str]) -> dict[str, int]:
    """The pieces of a WordPiece and their ids: for the same texts always the same.

    `WordPieceTrainer` numbers the characters inside words in an order that differs from process to
    process, and with them pairs that are as frequent as each other. A BPE numbers characters as
    they are sorted; here it sees those inside words as other ones, which is all that ``##`` says.

    Args:
        texts: Cased texts.
        size: Pieces at most, with the special ones.
        specials: The special ones, which get the first ids.

    Returns:
        Special pieces, the most frequent characters as the first of a word and as inner ones, then
        what is put together, the most frequent pairs first.
    """
    words = _count_words(texts)
    counts: Counter[str] = Counter()
    for word, count in words.items():
        for each in word:
            counts[each] += count
    common = sorted(counts, key=lambda each: (-counts[each], each))[:_CHARACTERS]
    inner = {each: chr(_INNER + number) for number, each in enumerate(sorted(common))}
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(specials), initial_alphabet=list(inner), show_progress=False
    )
    bpe.train_from_iterator(_with_inner(words, inner), trainer)
    known = bpe.get_vocab()
    outer = {stands: each for each, stands in inner.items()}
    pieces = list(specials)
    for piece in sorted(known, key=known.__getitem__):
        spelled = "".join(outer.get(each, each) for each in piece)
        pieces.append(f"##{spelled}" if piece[0] in outer else spelled)
    return {piece: number for number, piece in enumerate(pieces)}


def _count_words(texts: Iterable[str]) -> Counter[str]:
    """The words of BERT's own splitting: a comma or a Hanja is one by itself."""
    normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    splitter = pre_tokenizers.BertPreTokenizer()
    words: Counter[str] = Counter()
    for text in texts:
        split = splitter.pre_tokenize_str(normalizer.normalize_str(text))
        words.update(word for word, _ in split)
    return words


def _with_inner(words: Counter[str], inner: dict[str, str]) -> Iterator[str]:
    """Each word as often as it stands, rare characters left out, inner ones as `inner` says."""
    for word, count in words.items():
        first = word[0] if word[0] in inner else ""
        spelled = first + "".join(inner.get(each, "") for each in word[1:])
        yield " ".join([spelled] * count)


def _byte_pairs(texts: Iterable[str], config: Any) -> Any:
    """No text is unknown to it; it puts ``<s>`` in front of one.

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
