"""What a tokenizer does to given strings, in numbers. Nothing is judged here.

Characters are compared by their compatibility form and without case or white space: a
vocabulary that writes ㅋ as a conjoining jamo or drops capitals has changed a text, not lost it.
What it changes is counted apart.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

SENTENCES = (
    "오늘은 날씨가 맑아서 한강까지 천천히 걸어갔다.",
    "영화는 생각보다 길었지만 끝까지 지루하지 않았어요.",
    "회의는 오후 세 시에 시작하니 자료를 미리 읽어 주세요.",
    "할머니께서 끓여 주신 된장찌개가 제일 맛있습니다.",
    "왜 아직도 답장이 없는지 모르겠네, 무슨 일 있어?",
    "서울에서 부산까지 기차로 두 시간 반쯤 걸린다고 합니다.",
    "진짜 웃겨서 눈물 났음 ㅋㅋㅋ 또 보고 싶다 ㅠㅠ",
    "이 책은 2019년에 처음 나왔고 값은 15,000원입니다.",
    "컴퓨터가 갑자기 꺼져서 쓰던 글을 모두 잃어버렸다.",
    "아이들은 눈이 내리자 밖으로 뛰어나가 눈사람을 만들었다.",
    "정부는 내년 예산을 올해보다 조금 늘리기로 결정했다.",
    "괜찮아, 처음에는 누구나 실수하니까 다시 해 보자!",
)
"""Korean of everyday life: polite and plain, numbers, slang. Written for this purpose."""

_BYTE_TOKEN = re.compile(r"<0x[0-9A-Fa-f]{2}>")
_JAMO = re.compile("[\u1100-\u11ff\ua960-\ua97f\ud7b0-\ud7ff]")
_SYLLABLE = re.compile("[가-힣]")
_SHOWN_CHARACTERS = 5


@dataclass(frozen=True)
class Measures:
    """Sums over the texts; rates are made from them.

    Args:
        texts: Number of texts.
        characters: Characters that are not white space, after folding.
        eojeols: Words between white space.
        tokens: Tokens without the special ones around a text.
        unknown: Unknown tokens among them.
        byte_tokens: Tokens that stand for one byte, where the vocabulary fell back to bytes.
        kept: Characters that come back when the tokens are decoded.
        unmarked: Characters of the texts that have no unknown token.
        unmarked_kept: Those of them that come back.
        changed: Characters that come back as others of the same compatibility form.
        lost: The commonest characters that don't come back, with their counts.
        highest_id: The largest token id; -1 without any.
        unknown_in: Index of the text with the most unknown tokens, or ``None``.
    """

    texts: int
    characters: int
    eojeols: int
    tokens: int
    unknown: int
    byte_tokens: int
    kept: int
    unmarked: int
    unmarked_kept: int
    changed: int
    lost: tuple[tuple[str, int], ...]
    highest_id: int
    unknown_in: int | None = None

    @property
    def unknown_rate(self) -> float:
        """Share of tokens that are unknown."""
        return self.unknown / self.tokens if self.tokens else 0.0

    @property
    def character_recall(self) -> float:
        """Share of characters that come back."""
        return self.kept / self.characters if self.characters else 1.0

    @property
    def unmarked_recall(self) -> float:
        """Share of characters that come back where no unknown token says that some are lost."""
        return self.unmarked_kept / self.unmarked if self.unmarked else 1.0

    @property
    def byte_rate(self) -> float:
        """Share of tokens that stand for one byte."""
        return self.byte_tokens / self.tokens if self.tokens else 0.0

    def numbers(self) -> Mapping[str, float]:
        """Name -> value, for a report."""
        return {
            "unknown_rate": self.unknown_rate,
            "character_recall": self.character_recall,
            "unmarked_recall": self.unmarked_recall,
            "changed_rate": self.changed / max(self.characters, 1),
            "tokens_per_character": self.tokens / max(self.characters, 1),
            "tokens_per_eojeol": self.tokens / max(self.eojeols, 1),
            "byte_rate": self.byte_rate,
        }


def measure(tokenizer: Any, texts: Sequence[str]) -> Measures:
    """Encode the texts without special tokens, decode them again, and count.

    Args:
        tokenizer: A transformers tokenizer.
        texts: Strings; empty ones count as nothing.

    Source:
        The unknown rate alone misses tokenizers that drop what they don't know (KoGPT2 v1),
        therefore the characters that come back.
    """
    texts = [text for text in texts if text.strip()]
    if not texts:
        return Measures(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, (), -1)
    ids = tokenizer(texts, add_special_tokens=False, return_attention_mask=False)["input_ids"]
    decoded = decode_all(tokenizer, ids)
    unknown = tokenizer.unk_token_id
    unknown_counts = [0 if unknown is None else row.count(unknown) for row in ids]
    bytes_of = {
        token for name, token in tokenizer.get_vocab().items() if _BYTE_TOKEN.fullmatch(name)
    }
    total = kept = unmarked = unmarked_kept = exact = 0
    lost = Counter[str]()
    for text, back, unknowns in zip(texts, decoded, unknown_counts, strict=True):
        before = characters(text)
        missing = before - characters(back)
        total += before.total()
        back_again = before.total() - missing.total()
        kept += back_again
        if not unknowns:
            unmarked += before.total()
            unmarked_kept += back_again
        lost += missing
        exact += (Counter("".join(text.split())) & Counter("".join(back.split()))).total()
    worst = max(range(len(texts)), key=lambda row: unknown_counts[row])
    return Measures(
        texts=len(texts),
        characters=total,
        eojeols=sum(len(text.split()) for text in texts),
        tokens=sum(map(len, ids)),
        unknown=sum(unknown_counts),
        byte_tokens=sum(token in bytes_of for row in ids for token in row) if bytes_of else 0,
        kept=kept,
        unmarked=unmarked,
        unmarked_kept=unmarked_kept,
        changed=max(kept - exact, 0),
        lost=tuple((_as_typed(one), n) for one, n in lost.most_common(_SHOWN_CHARACTERS)),
        highest_id=max((max(row) for row in ids if row), default=-1),
        unknown_in=worst if unknown_counts[worst] else None,
    )


def decode_all(tokenizer: Any, ids: Sequence[Sequence[int]]) -> list[str]:
    """The texts of the ids without special tokens; in one call where the backend has one."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        return list(backend.decode_batch(list(map(list, ids)), skip_special_tokens=True))
    return list(tokenizer.batch_decode(ids, skip_special_tokens=True))


def characters(text: str) -> Counter[str]:
    """The characters that are compared.

    Each is folded by itself: NFKC of a whole text would make one syllable of ㅋ and ㅠ.

    Example:
        >>> sorted(characters("ㅋㅠ Ａ").items())
        [('a', 1), ('ᄏ', 1), ('ᅲ', 1)]
    """
    counted = Counter("".join(unicodedata.normalize("NFC", text).split()))
    folded = Counter[str]()
    for character, count in counted.items():
        for part in _fold(character):
            folded[part] += count
    return folded


@lru_cache(maxsize=2**16)
def _fold(character: str) -> str:
    return "".join(unicodedata.normalize("NFKC", character).casefold().split())


_TYPED = {unicodedata.normalize("NFKC", chr(code)): chr(code) for code in range(0x318E, 0x3130, -1)}


def _as_typed(character: str) -> str:
    """A conjoining jamo as the letter on the keyboard."""
    return _TYPED.get(character, character)


def decomposes_hangul(tokenizer: Any) -> bool:
    """Whether the tokenizer's own normalization takes syllables apart into jamo."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    normalizer = getattr(backend, "normalizer", None)
    return normalizer is not None and bool(_JAMO.search(normalizer.normalize_str("한글")))


def hangul_syllables(texts: Iterable[str]) -> int:
    """Syllables of Hangul in the texts."""
    return sum(len(_SYLLABLE.findall(text)) for text in texts)


def vocabulary_has(tokenizer: Any) -> tuple[int, int]:
    """How many pieces hold Hangul syllables, and how many conjoining jamo."""
    return _count(tokenizer.get_vocab(), _SYLLABLE), _count(tokenizer.get_vocab(), _JAMO)


def _count(pieces: Iterable[str], pattern: re.Pattern[str]) -> int:
    return sum(1 for piece in pieces if pattern.search(piece))
