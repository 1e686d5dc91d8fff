"""What a run shows of itself in a notebook."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kft.reporting.curves import loss_image

if TYPE_CHECKING:
    import pandas


def run_html(
    folder: Path,
    comparison: Sequence[tuple[str, Any, Any]],
    metrics: pandas.DataFrame,
    result: Mapping[str, Any],
) -> str:
    """The table of results and the curves.

    Args:
        folder: Of the run.
        comparison: Name, base and tuned of each number.
        metrics: One row per step and evaluation.
        result: The content of ``result.json``.

    Returns:
        HTML; everything that a person may have written is escaped.
    """
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{_number(base)}</td><td>{_number(tuned)}</td></tr>"
        for name, base, tuned in comparison
    )
    curves = loss_image(metrics, result) if "loss" in metrics else ""
    return (
        f"<b>{html.escape(str(folder))}</b>"
        f"<table><tr><th></th><th>base</th><th>tuned</th></tr>{rows}</table>{curves}"
    )


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else html.escape(str(value))
