"""Where a run folder can't be."""

from __future__ import annotations

from pathlib import Path

import pytest

from kft.api.run_folder import check_place
from kft.errors import UsageError


@pytest.mark.parametrize(
    ("name", "why"), [("가" * 200, "too long"), ("bad\0name", "NUL character")], ids=["long", "NUL"]
)
def test_a_name_that_the_system_does_not_take(tmp_path: Path, name: str, why: str) -> None:
    with pytest.raises(UsageError, match=why) as caught:
        check_place(tmp_path / name)
    assert caught.value.where == "`output_dir`"


def test_a_folder_that_can_be_made(tmp_path: Path) -> None:
    check_place(tmp_path / "a" / "b")
