"""Matplotlib figures as SVG that stands in a page: its colours and fonts, its own ids, no files.

Matplotlib writes fixed colours; the page has two sets of them. So figures are drawn in colours
that stand for a part (:data:`PARTS`) and become ``var(--part)`` here. Text stays text, without a
font of its own: the page's fonts have Hangul, matplotlib's do not.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager

import matplotlib as mpl
from matplotlib.figure import Figure

PARTS: Mapping[str, str] = {
    name: f"#01{number:02x}fe"
    for number, name in enumerate(
        ("ink", "soft", "line", "base", "one", "two", "three", "four", "five", "six")
    )
}
"""Name of a part in the page's style -> the colour it is drawn in."""

SERIES = ("one", "two", "three", "four", "five", "six")
"""Parts for curves that are compared, in their order."""

STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "kft",
    "font.size": 10,
    "axes.edgecolor": PARTS["line"],
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": PARTS["line"],
    "grid.linewidth": 0.6,
    "xtick.color": PARTS["line"],
    "ytick.color": PARTS["line"],
    "xtick.labelcolor": PARTS["soft"],
    "ytick.labelcolor": PARTS["soft"],
    "text.color": PARTS["ink"],
    "axes.unicode_minus": True,
    "path.simplify_threshold": 0.5,
}
"""Settings that figures are drawn and saved with (:func:`drawing`)."""

_PART_OF = {colour: name for name, colour in PARTS.items()}
_COLOUR = re.compile("|".join(_PART_OF))
_ID = re.compile(r' id="([^"]*)"')
_REFERENCE = re.compile(r'(url\(#|href="#)([^")]*)')
_OUTSIDE = re.compile(r"^.*?(?=<svg)", re.DOTALL)
_DROPPED = re.compile(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", re.DOTALL)
_NAMESPACE = re.compile(r' xmlns(:\w+)?="[^"]*"')
_SIZE = re.compile(r' (?:width|height)="[\d.]+pt"')
_FONT = re.compile(r'font-family: [^;"]*;? ?')


def drawing() -> AbstractContextManager[None]:
    """A context in which figures take :data:`STYLE`; nothing of it stays behind."""
    context: AbstractContextManager[None] = mpl.rc_context(STYLE)
    return context


def inline_svg(figure: Figure, name: str) -> str:
    """A figure as an ``<svg>`` element.

    Args:
        figure: Drawn within :func:`drawing`, in the colours of :data:`PARTS`.
        name: Put before its ids, so that two figures of a page don't share one.

    Returns:
        The element; it scales to the width of what it stands in.
    """
    file = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    text = _DROPPED.sub("", _OUTSIDE.sub("", file.getvalue()))
    used = {found[2] for found in _REFERENCE.finditer(text)}
    text = _ID.sub(lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "", text)
    text = _REFERENCE.sub(lambda found: f"{found[1]}{name}-{found[2]}", text)
    text = _NAMESPACE.sub("", text).replace("xlink:href", "href")
    text = _SIZE.sub("", text, count=2)
    text = _FONT.sub("", text)
    text = _COLOUR.sub(lambda found: f"var(--{_PART_OF[found[0]]})", text)
    return re.sub(r"\s*\n\s*", "\n", text).strip()
