"""Few numbers of rows, none of them much larger than what was asked for."""

from __future__ import annotations

from kft.ops.few_shapes import PER_OCTAVE, filled


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
