"""Rows that say the same: repeated ones, held-out rows that were trained on, labels that disagree.

Texts are compared by 64-bit hashes, 18 bytes a row, so two million rows take 36 MB. Among two
million texts the chance that any two different ones share a hash is one in ten million.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from array import array

import numpy as np

_PUNCTUATION_RUN = re.compile(r"([^\w\s])\1+")
_PLAIN = re.compile(r"[가-힣0-9a-z,]+(?: [가-힣0-9a-z,]+)*")


def loosened(text: str) -> str:
    """The text without what hardly matters: NFC, case, white space, runs of one sign.

    Example:
        >>> loosened("  정말   GOOD!!!! ㅋㅋㅋ ") == loosened("정말 good! ㅋㅋㅋ")
        True
    """
    if _PLAIN.fullmatch(text):
        return text
    text = " ".join(unicodedata.normalize("NFC", text).casefold().split())
    return _PUNCTUATION_RUN.sub(r"\1", text)


class TextKeys:
    """The hashes of the texts of one side of the data, in row order."""

    def __init__(self) -> None:
        self._exact = array("Q")
        self._loose = array("Q")
        self._labels = array("h")

    def add(self, text: str, label: int | None = None) -> None:
        """Take in the text of a row.

        Args:
            text: What makes the row what it is: for labelled rows the text alone, else prompt
                and answer.
            label: Index of its label, below 32,768; ``None`` where answers are no labels.
        """
        exact = _hash(text)
        loose = loosened(text)
        self._exact.append(exact)
        self._loose.append(exact if loose == text else _hash(loose))
        self._labels.append(-1 if label is None else label)

    @property
    def exact(self) -> np.ndarray:
        """Hash of each text as it is, uint64 (rows,)."""
        return np.frombuffer(self._exact, dtype=np.uint64) if self._exact else _NONE

    @property
    def loose(self) -> np.ndarray:
        """Hash of each text after :func:`loosened`, uint64 (rows,)."""
        return np.frombuffer(self._loose, dtype=np.uint64) if self._loose else _NONE

    @property
    def labels(self) -> np.ndarray:
        """Index of each row's label, int16 (rows,); -1 where it has none."""
        return np.array(self._labels, dtype=np.int16)

    def num_distinct(self) -> int:
        """Number of different texts; an empty one counts as a text."""
        return len(np.unique(self.exact))

    def repeated(self) -> np.ndarray:
        """Rows whose text and label an earlier row has as they are, int64, ascending."""
        return _later_ones(self.exact, self.labels)

    def nearly_repeated(self) -> np.ndarray:
        """Rows that repeat an earlier one after :func:`loosened` only, int64, ascending."""
        return np.setdiff1d(_later_ones(self.loose, self.labels), self.repeated())

    def conflicting(self) -> tuple[int, np.ndarray]:
        """Texts that stand with more than one label.

        Returns:
            Their number, and the first row of each whose label differs from that of the text's
            first row, int64, ascending.
        """
        if not len(self.exact) or self.labels.max() < 0:
            return 0, np.empty(0, dtype=np.int64)
        _, first, which = np.unique(self.exact, return_index=True, return_inverse=True)
        differs = np.flatnonzero(self.labels != self.labels[first][which])
        texts, rows = np.unique(which[differs], return_index=True)
        return len(texts), np.sort(differs[rows])

    def num_exactly_in(self, trained: TextKeys) -> int:
        """Number of rows whose text stands in other rows as it is, whatever the label."""
        return int(np.isin(self.exact, trained.exact).sum())

    def first_like(self, loose_key: int) -> int:
        """The first row whose text is, loosened, that of a hash; there must be one."""
        return int(np.argmax(self.loose == np.uint64(loose_key)))

    def standing_in(self, trained: TextKeys) -> np.ndarray:
        """Rows whose text, loosened, stands in other rows, whatever the label; int64, ascending."""
        return np.flatnonzero(np.isin(self.loose, trained.loose))


_NONE = np.empty(0, dtype=np.uint64)


def _hash(text: str) -> int:
    content = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def _later_ones(keys: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Rows that have both from an earlier row."""
    order = np.lexsort((labels, keys))  # stable: rows of one key and label keep their order
    same = (keys[order][1:] == keys[order][:-1]) & (labels[order][1:] == labels[order][:-1])
    return np.sort(order[1:][same])
