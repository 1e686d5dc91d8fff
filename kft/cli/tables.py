"""Results as text tables: no colour is needed to read them, and 80 columns are enough."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.cells import cell_len

from kft.cli.messages import visible

_GAP = "  "


def number_text(value: float, *, signed: bool = False) -> str:
    """A number with as many digits as can be compared at a glance.

    Args:
        value: A whole number is written in full, any other with about five digits.
        signed: Whether a positive number gets a plus sign.

    Example:
        >>> [number_text(value) for value in (120_000, 2.31408, 812.25, 0.00018)]
        ['120,000', '2.3141', '812.25', '1.8e-04']
    """
    sign = "+" if signed else ""
    if isinstance(value, int):
        return f"{value:{sign},}"
    size = abs(value)
    if not math.isfinite(value) or (size != 0 and not 1e-3 <= size < 1e6):
        return f"{value:{sign}.1e}" if math.isfinite(value) else f"{value:{sign}}"
    return f"{value:{sign},.{4 if size < 100 else 2}f}"


def bytes_text(count: float) -> str:
    """Bytes in the largest binary unit that leaves at least one.

    Example:
        >>> bytes_text(900), bytes_text(3_435_973_837)
        ('900 B', '3.2 GiB')
    """
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} B"


def time_text(seconds: float) -> str:
    """A duration as hours, minutes and seconds, or in tenths of a second below ten.

    Example:
        >>> time_text(3.21), time_text(125), time_text(7265)
        ('3.2 s', '2:05', '2:01:05')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def value_text(value: Any) -> str:
    """A value of a result as text that fits in a cell."""
    match value:
        case bool():
            return "yes" if value else "no"
        case None:
            return "-"
        case int() | float():
            return number_text(value)
        case list() | tuple():
            return ", ".join(value_text(item) for item in value)
        case _:
            return visible(str(value))


def table(header: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> str:
    """Columns, the first on the left and the others on the right.

    Args:
        header: Title of each column; the first may be empty.
        rows: Cells; double-width characters count twice.
        width: Cells of the terminal. Where the columns don't fit, each row becomes a block
            with a line for each cell, so that nothing is cut off.

    Returns:
        Lines without a last newline.
    """
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(cell_len(line[column]) for line in lines) for column in range(len(header))]
    if sum(widths) + len(_GAP) * (len(widths) - 1) > width:
        return "\n".join(_block(header, row) for row in rows)
    return "\n".join(_GAP.join(_aligned(line, widths)).rstrip() for line in lines)


def _aligned(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    spaces = [" " * (width - cell_len(cell)) for cell, width in zip(line, widths, strict=True)]
    return [
        line[0] + spaces[0],
        *(space + cell for cell, space in zip(line[1:], spaces[1:], strict=True)),
    ]


def _block(header: Sequence[str], row: Sequence[str]) -> str:
    labels = max(cell_len(title) for title in header[1:])
    lines = [row[0]]
    for title, cell in zip(header[1:], row[1:], strict=True):
        if cell:
            lines.append(f"{_GAP}{_padded(title, labels)}{_GAP}{cell}")
    return "\n".join(lines)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - cell_len(text))


def pairs(facts: Mapping[str, Any]) -> str:
    """Names and values, one pair on a line; nested mappings are left to ``--json``."""
    plain = {
        visible(name): value for name, value in facts.items() if not isinstance(value, Mapping)
    }
    labels = max((cell_len(name) for name in plain), default=0)
    return "\n".join(
        f"{_padded(name, labels)}{_GAP}{value_text(value)}" for name, value in plain.items()
    )


def evaluation_table(results: Mapping[str, Mapping[str, Any]], width: int) -> str:
    """A line for each number, a column for each model.

    Args:
        results: Model -> name of a number -> its value.
        width: Cells of the terminal.
    """
    measures = dict.fromkeys(
        name
        for result in results.values()
        for name, value in result.items()
        if not isinstance(value, Mapping)
    )
    rows = [
        [name, *(value_text(result.get(name)) for result in results.values())] for name in measures
    ]
    return table(["", *map(visible, results)], rows, width)


def comparison_table(result: Mapping[str, Any], width: int) -> str:
    """The base model against the tuned one.

    Args:
        result: Has ``base`` and ``tuned`` (name -> number), and maybe ``intervals``
            (name -> ``difference``, ``low``, ``high``).
        width: Cells of the terminal.

    Returns:
        The table; counts such as ``num_rows`` and baselines are left out. Empty when nothing was
        measured.
    """
    base, tuned = result["base"], result["tuned"]
    intervals = result.get("intervals", {})
    names = [
        name
        for name in base
        if _is_measure(name, base[name]) and _is_measure(name, tuned.get(name))
    ]
    header = ["", "base", "tuned", "difference", "95 % interval"]
    rows = [
        [
            name,
            number_text(base[name]),
            number_text(tuned[name]),
            number_text(tuned[name] - base[name], signed=True),
            interval_text(intervals.get(name)),
        ]
        for name in names
    ]
    if not any(row[-1] for row in rows):
        header, rows = header[:-1], [row[:-1] for row in rows]
    return table(header, rows, width) if rows else ""


def verdict_lines(result: Mapping[str, Any]) -> list[str]:
    """What the numbers of a run come to: did it help, what it cost, how it fits, its best step.

    Args:
        result: May have ``headline``, ``forgetting``, ``fit`` and ``best``, as in ``result.json``.

    Example:
        >>> verdict_lines({"headline": {"sentence": "accuracy: better on 200 rows"}})
        ['accuracy: better on 200 rows']
    """
    headline, fit, best = (result.get(part) or {} for part in ("headline", "fit", "best"))
    lost = result.get("forgetting")
    lines = [str(headline["sentence"])] if headline else []
    majority = (result.get("tuned") or {}).get("majority_accuracy")
    if majority is not None:
        lines.append(f"always answering the commonest label: accuracy {value_text(majority)}")
    if lost:
        lines.append(f"forgetting: {lost['sentence']}")
    if fit:
        lines.append(f"fit: {fit['verdict']}. {fit['reason']}")
    if best:
        saved = "these weights are saved" if best["is_saved"] else "the last weights are saved"
        value = value_text(best["value"])
        lines.append(f"best: {best['metric']} {value} at step {best['step']}; {saved}")
        before = (result.get("base") or {}).get(best["metric"])
        if best["metric"] == "eval_loss" and before is not None and before < best["value"]:
            lines[-1] += f"; before training it was {value_text(before)}"
    return lines


def _is_measure(name: str, value: Any) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and not name.startswith(("num_", "majority_"))
    )


def interval_text(interval: Mapping[str, Any] | None) -> str:
    """The two ends of an interval, signed; empty without one."""
    if interval is None:
        return ""
    low, high = (number_text(interval[end], signed=True) for end in ("low", "high"))
    return f"{low} to {high}"
