"""Numbers of rows that come again, so that what is made for one product serves many.

For half precision on a CPU torch has oneDNN write a program for each shape of a product: 4 to 12
milliseconds and one to two megabytes for each number of rows that it hasn't seen, and batches
without padding have another number of tokens at each step. Imports no torch: a plan asks too.
"""

from __future__ import annotations

from typing import Final

PER_OCTAVE: Final = 8
"""Numbers between one power of two and the next."""
CHUNK_BYTES: Final = 2**26
"""Of a chunk of logits, were they float32."""
CHUNK_STEP: Final = 64
"""Rows of a chunk are a multiple of this, where it has as many: its weight is the model's largest,
and reading it takes longer than a few rows more."""


def filled(number: int) -> int:
    """The next of few numbers of rows; above 64 at most an eighth more, 4 % on average.

    Example:
        >>> [filled(number) for number in (1, 9, 100, 128, 129, 830)]
        [8, 16, 104, 128, 144, 832]
    """
    step = max(1 << max(number - 1, 1).bit_length() - 1, 64) // PER_OCTAVE
    return -(-number // step) * step


def chunk_rows(num_words: int, chunk_bytes: int = CHUNK_BYTES) -> int:
    """Targets whose logits are held at once; at least 16, whatever the vocabulary.

    Example:
        >>> chunk_rows(51_200), chunk_rows(901_629), chunk_rows(4_000_000)
        (320, 18, 16)
    """
    rows = max(16, chunk_bytes // (4 * num_words))
    return rows - rows % CHUNK_STEP if rows > CHUNK_STEP else rows


def filled_chunk(number: int, most: int) -> int:
    """Rows that a chunk of ``number`` is filled up to, of ``most`` at once.

    Example:
        >>> filled_chunk(7, 320), filled_chunk(320, 320), filled_chunk(7, 18)
        (64, 320, 18)
    """
    step = min(CHUNK_STEP, most)
    return -(-number // step) * step
