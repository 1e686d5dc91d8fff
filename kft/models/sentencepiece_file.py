"""A sentencepiece model read from its file and rebuilt in ``tokenizers``, piece for piece.

transformers does this only with protobuf installed, and for a BERT with a sentencepiece model
it has no class: KoBERT's own is remote code, and the XLNet class, which loads without a word,
takes Hangul apart. The file is a protocol buffer of three messages; the few fields needed are
read here, and nothing in it is run.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import sentencepiece
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
)

from kft.errors import ModelError

PieceKind = Literal["normal", "unknown", "control", "user", "unused", "byte"]
_KINDS: dict[int, PieceKind] = {
    1: "normal",
    2: "unknown",
    3: "control",
    4: "user",
    5: "unused",
    6: "byte",
}
_UNIGRAM = 1  # TrainerSpec.ModelType


@dataclass(frozen=True)
class SentencePieceModel:
    """What the file says.

    Args:
        pieces: Text, score and kind of each piece, in the order of their ids.
        is_unigram: Else byte-pair encoding.
        charsmap: Sentencepiece's compiled normalization rules; empty when there are none.
        adds_prefix: A space is put in front of every text.
        squeezes_spaces: Spaces at the ends are dropped and runs of them become one.
    """

    pieces: tuple[tuple[str, float, PieceKind], ...]
    is_unigram: bool
    charsmap: bytes
    adds_prefix: bool
    squeezes_spaces: bool

    def id_of(self, piece: str) -> int | None:
        """The piece's id; ``None`` where there is no such piece."""
        names = [name for name, _, _ in self.pieces]
        return names.index(piece) if piece in names else None


def read_sentencepiece(path: Path) -> SentencePieceModel:
    """Read a ``.model`` file.

    Raises:
        ModelError: If it is no sentencepiece model, or is cut off.

    Source:
        google/sentencepiece, ``src/sentencepiece_model.proto``.
    """
    content = path.read_bytes()
    try:
        sentencepiece.SentencePieceProcessor(model_proto=content)  # its own checks
        fields = list(_fields(content))
        pieces = tuple(_piece(value) for number, value in fields if number == 1)
        trainer = dict(_fields(_last(fields, 2)))
        rules = dict(_fields(_last(fields, 3)))
    except (RuntimeError, ValueError, IndexError, struct.error) as cause:
        raise ModelError(
            "The sentencepiece model can't be read",
            where=str(path),
            expected="the whole file; this one may be cut off, or a git-lfs pointer",
        ) from cause
    return SentencePieceModel(
        pieces=pieces,
        is_unigram=trainer.get(3, _UNIGRAM) == _UNIGRAM,
        charsmap=rules.get(2, b""),
        adds_prefix=bool(rules.get(3, 1)),
        squeezes_spaces=bool(rules.get(4, 1)),
    )


def rebuild(model: SentencePieceModel, special_tokens: set[str]) -> Tokenizer:
    """The same tokenizer in ``tokenizers``; no post-processor.

    Args:
        model: As :func:`read_sentencepiece` returns it.
        special_tokens: Pieces that stand for no text, besides the file's control pieces.

    Raises:
        ModelError: If the model is neither unigram nor pairs that its pieces tell.
    """
    vocabulary = [(piece, score) for piece, score, _ in model.pieces]
    unknown = next(
        (index for index, (_, _, kind) in enumerate(model.pieces) if kind == "unknown"), 0
    )
    has_bytes = any(kind == "byte" for _, _, kind in model.pieces)
    if model.is_unigram:
        tokenizer = Tokenizer(models.Unigram(vocabulary, unknown, has_bytes))
    else:
        ids = {piece: index for index, (piece, _) in enumerate(vocabulary)}
        tokenizer = Tokenizer(
            models.BPE(
                ids,
                _merges(vocabulary, ids),
                unk_token=vocabulary[unknown][0],
                fuse_unk=True,
                byte_fallback=has_bytes,
            )
        )
    steps: list[Any] = [normalizers.Precompiled(model.charsmap)] if model.charsmap else []
    if model.squeezes_spaces:
        steps += [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    tokenizer.normalizer = normalizers.Sequence(steps)
    prepend: Literal["always", "never"] = "always" if model.adds_prefix else "never"
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend)
    pieces_to_text: list[Any] = [decoders.Metaspace(prepend_scheme=prepend)]
    if has_bytes:
        pieces_to_text = [decoders.ByteFallback(), *pieces_to_text]
    tokenizer.decoder = decoders.Sequence(pieces_to_text)
    for piece, _, kind in model.pieces:
        if kind in {"control", "unknown"} or piece in special_tokens:
            tokenizer.add_special_tokens([AddedToken(piece, normalized=False, special=True)])
        elif kind == "user":
            tokenizer.add_tokens([AddedToken(piece, normalized=False)])
    return tokenizer


def _merges(vocabulary: list[tuple[str, float]], ids: dict[str, int]) -> list[tuple[str, str]]:
    """Sentencepiece joins the pair whose result has the best score, so scores order the pairs."""
    pairs = [
        (score, piece[:cut], piece[cut:])
        for piece, score in vocabulary
        for cut in range(1, len(piece))
        if piece[:cut] in ids and piece[cut:] in ids
    ]
    pairs.sort(key=lambda pair: (-pair[0], ids[pair[1]], ids[pair[2]]))
    return [(left, right) for _, left, right in pairs]


def _piece(content: bytes) -> tuple[str, float, PieceKind]:
    fields = dict(_fields(content))
    return fields[1].decode("utf-8"), float(fields.get(2, 0.0)), _KINDS[fields.get(3, 1)]


def _last(fields: list[tuple[int, Any]], number: int) -> bytes:
    found = [value for given, value in fields if given == number]
    return found[-1] if found else b""


def _fields(content: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value of each field of a message: int, float or bytes."""
    position = 0
    while position < len(content):
        key, position = _varint(content, position)
        number, form = key >> 3, key & 7
        if form == 0:
            value, position = _varint(content, position)
            yield number, value
        elif form == 5:
            yield number, struct.unpack_from("<f", content, position)[0]
            position += 4
        elif form == 1:
            yield number, struct.unpack_from("<d", content, position)[0]
            position += 8
        elif form == 2:
            size, position = _varint(content, position)
            if position + size > len(content):
                raise ValueError("a field ends behind the file")
            yield number, content[position : position + size]
            position += size
        else:
            raise ValueError(f"a field of the unknown form {form}")


def _varint(content: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[position]
        value |= (byte & 0x7F) << shift
        position += 1
        shift += 7
        if byte < 0x80:
            return value, position
