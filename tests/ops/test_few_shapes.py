"""Few numbers of rows, none of them much larger than what was asked for."""

from __future__ import annotations

from kft.ops.few_shapes import (
    CHUNK_BYTES,
    CHUNK_STEP,
    PER_OCTAVE,
    chunk_rows,
    filled,
    filled_chunk,
)


def test_few_numbers_serve_all() -> None:
    numbers = range(1, 4097)
    found = [filled(number) for number in numbers]
    assert all(number <= one < number + 8 or one <= 1.125 * number
               for number, one in zip(numbers, found, strict=True))  # fmt: skip
    assert found == sorted(found)
    octaves = 6  # 64 to 4,096
    assert len(set(found)) <= 64 // 8 + octaves * PER_OCTAVE
    assert all(filled(one) == one for one in set(found))
    waste = sum(one / number for number, one in zip(numbers, found, strict=True)) / len(found) - 1
    assert waste < 0.05


def test_chunks_are_held_to_their_bytes() -> None:
    for words in (11, 500, 51_200, 120_000, 901_629, 10**7):
        rows = chunk_rows(words)
        assert rows >= 16
        assert 4 * rows * words <= CHUNK_BYTES or rows == 16
        assert rows <= CHUNK_STEP or rows % CHUNK_STEP == 0
        for number in (1, 17, rows - 1, rows):
            assert number <= filled_chunk(number, rows) <= rows or number > rows
        assert filled_chunk(rows, rows) == rows
