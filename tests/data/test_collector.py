"""The collector of cycles is paused, and runs on as before."""

from __future__ import annotations

import contextlib
import gc

import pytest

from kft.data.collector import collector_paused


@pytest.mark.parametrize("was_on", [True, False])
def test_it_is_as_it_was_afterwards(was_on: bool) -> None:
    before = gc.isenabled()
    try:
        if was_on:
            gc.enable()
        else:
            gc.disable()
        with contextlib.suppress(KeyError), collector_paused():
            paused = not gc.isenabled()
            raise KeyError
        assert paused
        assert gc.isenabled() == was_on
    finally:
        gc.enable() if before else gc.disable()
