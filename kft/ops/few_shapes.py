"""Numbers of rows that come again, so that what is made for one product serves many.

For half precision on a CPU torch has oneDNN write a program for each shape of a product: 4 to 12
milliseconds and one to two megabytes for each number of rows that it hasn't seen, and batches
without padding have another number of tokens at each step.
"""

from __future__ import annotations

from typing import Final

PER_OCTAVE: Final = 8
"""Numbers between one power of two and the next; at most an eighth is filled, 4 % on average."""


def filled(number: int) -> int:
    """The next of few numbers of rows.

    Example:
        >>> [filled(number) for number in (1, 9, 100, 128, 129, 830)]
        [8, 16, 104, 128, 144, 832]
    """
    step = max(1 << max(number - 1, 1).bit_length() - 1, 64) // PER_OCTAVE
    return -(-number // step) * step
