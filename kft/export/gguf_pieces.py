"""A BPE's merges, in the two forms that llama.cpp reads: lines in order, or scores of pieces."""

from __future__ import annotations

from collections.abc import Sequence

Merge = Sequence[str] | str
"""Two pieces, or both in one string with a space between."""


def merge_lines(merges: Sequence[Merge]) -> list[str]:
    """``left right`` for each merge, a space within a piece as byte-level pieces write it.

    Example:
        >>> merge_lines([["Ġ", "ë"], "ì Ŀ"])
        ['Ġ ë', 'ì Ŀ']
    """
    return [" ".join(part.replace(" ", "Ġ") for part in _pair(merge)) for merge in merges]


def merge_scores(
    tokens: Sequence[str], is_normal: Sequence[bool], merges: Sequence[Merge]
) -> list[float] | None:
    """What llama.cpp's sentencepiece is to rank pieces by, so that it merges as the merges say.

    It joins any two neighbours whose text is a piece, the piece with the highest score first. That
    is the merges' own order when they hold every way to cut every piece in two, and all ways to
    one piece stand together.

    Args:
        tokens: Every token.
        is_normal: Whether it is a piece that merging makes.
        merges: In their order.

    Returns:
        A score for each token; ``None`` if the merges have another order than scores can have.

    Example:
        >>> merge_scores(["a", "b", "c", "ab", "abc"], [True] * 5, ["a b", "ab c"])
        [0.0, 0.0, 0.0, -1.0, -2.0]
        >>> merge_scores(["a", "b", "c", "ab", "bc", "abc"], [True] * 6, ["a b", "b c", "ab c"])
    """
    places: dict[str, list[int]] = {}
    pairs = [_pair(merge) for merge in merges]
    for place, (left, right) in enumerate(pairs):
        places.setdefault(left + right, []).append(place)
    known, listed = set(tokens), set(pairs)
    scores = []
    for token, normal in zip(tokens, is_normal, strict=True):
        own = places.get(token, [])
        if own and own[-1] - own[0] != len(own) - 1:
            return None
        cuts = [(token[:at], token[at:]) for at in range(1, len(token))] if normal else []
        if any(left in known and right in known and (left, right) not in listed
               for left, right in cuts):  # fmt: skip
            return None
        scores.append(-float(own[0] + 1) if own else 0.0)
    return scores


def _pair(merge: Merge) -> tuple[str, str]:
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right
