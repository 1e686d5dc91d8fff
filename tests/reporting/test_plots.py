"""Plots of any run can be drawn."""

from __future__ import annotations

import pytest

from kft.reporting.plots import layers_plot


@pytest.mark.parametrize("layers", [1, 2, 3, 5, 6, 7, 12, 24, 32, 48])
def test_norms_of_any_number_of_layers(layers: int) -> None:
    norms = {f"h.{number}": 0.5 + number for number in range(layers)}
    log = [{"step": step, "grad_norm_by_layer": norms} for step in (10, 20)]
    drawn = layers_plot("layers", [{"step": 5}, *log])
    assert drawn.count("var(--one)") == layers


def test_no_norms_are_no_plot() -> None:
    assert layers_plot("layers", [{"step": 1, "loss": 2.0}]) == ""
    assert layers_plot("layers", [{"step": 1, "grad_norm_by_layer": {"h.0": 0.0}}]) == ""
