"""What is mended in the tokenizers of Korean checkpoints, each recognised by the files themselves.

A remedy does nothing where there is nothing to mend, and says in one sentence what it did.
Presets name the remedies that their checkpoints need; they are tried on every checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from tokenizers import Tokenizer, normalizers
from transformers import BertTokenizer, PreTrainedTokenizerFast

from kft.errors import Finding
from kft.models.sentencepiece_tokenizer import bert_from_sentencepiece
from kft.models.special_tokens import set_end, set_listed_tokens, set_padding
from kft.models.tokenizer_files import Loading, TokenizerFiles
from kft.models.tokenizer_measures import (
    SENTENCES,
    decomposes_hangul,
    measure,
    vocabulary_has,
)

Remedy = Callable[[Loading], tuple[Any, str | None]]
"""The tokenizer in its place, or another one, and what was done."""

FEW_SYLLABLES = 100
"""A vocabulary of jamo has fewer pieces with whole syllables than this; others have thousands."""
READABLE = 0.98
"""Character recall from which a tokenizer is taken as it was loaded."""


def build_instead(files: TokenizerFiles) -> tuple[Any, list[Finding]] | None:
    """A tokenizer made from the vocabulary where transformers has no class for it.

    Returns:
        ``None`` where transformers' own class is to be taken.
    """
    for build in (_from_sentencepiece, _from_wordpieces):
        built = build(files)
        if built is not None:
            tokenizer, what = built
            return tokenizer, [Finding("note", what)]
    return None


def mend(loading: Loading) -> tuple[Any, list[Finding]]:
    """Every remedy in turn.

    Args:
        loading: The tokenizer as loaded; may be changed in place.

    Returns:
        The tokenizer to use, and a note for each thing that was mended.
    """
    findings = []
    for remedy in MENDING.values():
        tokenizer, what = remedy(loading)
        loading = replace(loading, tokenizer=tokenizer)
        if what is not None:
            findings.append(Finding("note", what))
    return loading.tokenizer, findings


def _from_sentencepiece(files: TokenizerFiles) -> tuple[Any, str] | None:
    """KoBERT and others: a BERT whose vocabulary is a sentencepiece model."""
    is_bert = files.config.get("model_type") in {None, "bert", "distilbert", "electra"}
    if files.sentencepiece is None or files.tokenizer_json is not None or not is_bert:
        return None
    tokenizer = bert_from_sentencepiece(files)
    if tokenizer is None:
        return None
    declared = files.declared_class
    instead = f" instead of by the class `{declared}`" if declared else ""
    return tokenizer, f"The tokenizer was built from `{files.sentencepiece.name}`{instead}"


def _from_wordpieces(files: TokenizerFiles) -> tuple[Any, str] | None:
    """KoELECTRA's pre-training folder: a vocab.txt, and a config that names no architecture."""
    is_named = files.declared_class is not None or "model_type" in files.config
    if files.wordpieces is None or files.tokenizer_json is not None or is_named:
        return None
    lines = files.wordpieces.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    pieces = {piece: index for index, piece in enumerate(lines)}
    if not {"[UNK]", "[CLS]", "[SEP]", "[PAD]"} <= set(pieces):
        return None
    lowers = files.settings.get("do_lower_case", files.config.get("do_lower_case", True))
    tokenizer = BertTokenizer(pieces, do_lower_case=bool(lowers))
    length = files.config.get("max_position_embeddings") or files.config.get("max_seq_length")
    if isinstance(length, int):
        tokenizer.model_max_length = length
    return tokenizer, "The tokenizer was built from `vocab.txt`: the config names no architecture"


def _own_file(loading: Loading) -> tuple[Any, str | None]:
    """KoGPT2: the class rebuilds the vocabulary as bytes, and ``tokenizer.json`` says otherwise."""
    tokenizer = loading.tokenizer
    files, name = loading.files, type(tokenizer).__name__
    if files.tokenizer_json is None or name in {"TokenizersBackend", "PreTrainedTokenizerFast"}:
        return tokenizer, None
    loaded = measure(tokenizer, SENTENCES).character_recall
    if loaded >= READABLE:
        return tokenizer, None
    content = json.loads(files.tokenizer_json.read_text(encoding="utf-8"))
    _drop_misplaced(content)
    roles = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token")
    given = {role: files.settings[role] for role in roles if files.settings.get(role)}
    own = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(content)),
        clean_up_tokenization_spaces=False,
        **given,
    )
    if measure(own, SENTENCES).character_recall <= loaded:
        return tokenizer, None
    return own, (
        f"`tokenizer.json` was taken as it is: the class `{name}` reads it otherwise and loses "
        f"{1 - loaded:.0%} of the characters"
    )


def _drop_misplaced(content: dict[str, Any]) -> None:
    """Leave out added tokens that aren't in the vocabulary and claim another piece's id."""
    vocabulary = content.get("model", {}).get("vocab", {})
    if isinstance(vocabulary, Mapping):
        taken = set(vocabulary.values())
        content["added_tokens"] = [
            token
            for token in content.get("added_tokens", [])
            if token["content"] in vocabulary or token["id"] not in taken
        ]


def _keep_case(loading: Loading) -> tuple[Any, str | None]:
    """KcBERT without its settings: BERT's lower-casing takes syllables apart."""
    tokenizer = loading.tokenizer
    if not isinstance(tokenizer, BertTokenizer) or not decomposes_hangul(tokenizer):
        return tokenizer, None
    syllables, jamo = vocabulary_has(tokenizer)
    if not tokenizer.do_lower_case or syllables <= jamo:
        return tokenizer, None
    tokenizer.do_lower_case, tokenizer.strip_accents = False, False
    tokenizer.init_kwargs.update(do_lower_case=False, strip_accents=False)
    tokenizer.backend_tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=tokenizer.tokenize_chinese_chars,
        strip_accents=False,
        lowercase=False,
    )
    return tokenizer, (
        "Lower-casing was turned off (`do_lower_case: false`): it takes Hangul apart, and the "
        "vocabulary is of whole syllables"
    )


def _decompose(loading: Loading) -> tuple[Any, str | None]:
    """KR-BERT sub-char: the pieces are conjoining jamo, so the text must become that."""
    tokenizer = loading.tokenizer
    if not isinstance(tokenizer, BertTokenizer) or decomposes_hangul(tokenizer):
        return tokenizer, None
    syllables, jamo = vocabulary_has(tokenizer)
    if jamo <= syllables or syllables >= FEW_SYLLABLES:
        return tokenizer, None
    backend = tokenizer.backend_tokenizer
    backend.normalizer = normalizers.Sequence([normalizers.NFKD(), backend.normalizer])
    # The class would rebuild it without this step, so it is saved as what it now is.
    own = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=tokenizer.model_max_length,
        model_input_names=list(tokenizer.model_input_names),
        **tokenizer.special_tokens_map,
    )
    return own, "Text is decomposed (NFKD) first: the vocabulary is of conjoining jamo"


def _unknown_token(loading: Loading) -> tuple[Any, str | None]:
    """KoGPT2 v1: pieces of whole characters, and what isn't among them vanishes."""
    tokenizer = loading.tokenizer
    model: Any = getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)
    if type(model).__name__ != "BPE" or model.unk_token is not None or model.byte_fallback:
        return tokenizer, None
    if vocabulary_has(tokenizer)[0] == 0:  # a byte-level vocabulary knows everything
        return tokenizer, None
    unknown = tokenizer.unk_token or "<unk>"
    if unknown not in tokenizer.get_vocab():
        return tokenizer, None
    model.unk_token, model.fuse_unk = unknown, True
    tokenizer.unk_token = unknown
    return tokenizer, f"Unknown characters become `{unknown}`: the vocabulary dropped them silently"


def _token_types(loading: Loading) -> tuple[Any, str | None]:
    """Polyglot-Ko and KLUE-RoBERTa: the tokenizer numbers its segments, the model can't take it."""
    tokenizer = loading.tokenizer
    files = loading.files
    types, family = files.config.get("type_vocab_size"), files.config.get("model_type")
    if "token_type_ids" not in tokenizer.model_input_names or family in {None, "xlnet"}:
        return tokenizer, None
    if isinstance(types, int) and types > 1:
        return tokenizer, None
    if types is None and family in _TWO_TYPES_BY_DEFAULT:
        return tokenizer, None
    names = [name for name in tokenizer.model_input_names if name != "token_type_ids"]
    tokenizer.model_input_names = names
    tokenizer.init_kwargs["model_input_names"] = names
    rows = "one row" if types == 1 else "no table"
    return tokenizer, f"The tokenizer gives no `token_type_ids`: the model has {rows} for them"


_TWO_TYPES_BY_DEFAULT = {"bert", "electra", "roberta", "big_bird", "albert", "xlm-roberta"}

MENDING: Mapping[str, Remedy] = {
    "own_file": _own_file,
    "keep_case": _keep_case,
    "decompose": _decompose,
    "special_tokens": set_listed_tokens,
    "unknown_token": _unknown_token,
    "token_types": _token_types,
    "end_token": set_end,
    "pad_token": set_padding,
}
"""In the order in which they are tried: a later one reads what an earlier one set."""

REMEDIES = frozenset({"sentencepiece", "wordpiece", *MENDING})
"""Every name that a preset may give."""
