"""A drawing of lines, boxes and words that is legible on light and on dark paper.

Colours are classes; a style sheet inside the picture gives each a light and a dark value, and the
picture brings its own ground, so it can't end up black on black.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

INKS = ("a", "b", "c", "d")
"""Classes of coloured lines, in the order of use."""

LIGHT = {
    "paper": "#ffffff",
    "ink": "#1f2328",
    "faint": "#6e7781",
    "grid": "#d8dee4",
    "a": "#0b62c4",
    "b": "#b35900",
    "c": "#1a7f37",
    "d": "#8250df",
}
DARK = {
    "paper": "#161b22",
    "ink": "#e6edf3",
    "faint": "#9198a1",
    "grid": "#30363d",
    "a": "#6cb6ff",
    "b": "#f0a04b",
    "c": "#57d175",
    "d": "#c297ff",
}


def _rules(colours: dict[str, str]) -> str:
    """Style rules: `.t-x` writes, `.l-x` draws lines, `.f-x` fills, `.w-x` fills weakly."""
    return "".join(
        f".t-{name}{{fill:{colour}}}.l-{name}{{stroke:{colour}}}"
        f".f-{name}{{fill:{colour}}}.w-{name}{{fill:{colour};fill-opacity:.16}}"
        for name, colour in colours.items()
    )


STYLE = (
    "text{font-family:system-ui,'Noto Sans KR','Apple SD Gothic Neo','Malgun Gothic',sans-serif}"
    ".line{fill:none;stroke-width:2;stroke-linejoin:round}"
    ".thin{fill:none;stroke-width:1}"
    + _rules(LIGHT)
    + "@media (prefers-color-scheme:dark){"
    + _rules(DARK)
    + "}"
)


@dataclass
class Drawing:
    """A picture that grows by each call.

    Args:
        width: In pixels, as every length here.
        height: As said.
        title: What it shows, for those who can't see it.
    """

    width: int
    height: int
    title: str
    parts: list[str] = field(default_factory=list)

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        ink: str = "ink",
        size: int = 13,
        anchor: str = "middle",
        bold: bool = False,
    ) -> None:
        """Words whose base line is at ``y``."""
        weight = ' font-weight="600"' if bold else ""
        self.parts.append(
            f'<text class="t-{ink}" x="{x:g}" y="{y:g}" font-size="{size}"'
            f' text-anchor="{anchor}"{weight}>{escape(words)}</text>'
        )

    def box(
        self, x: float, y: float, width: float, height: float, *, ink: str, fill: str = "weak"
    ) -> None:
        """A rectangle; ``fill`` is ``weak``, ``full`` or ``none``."""
        filled = {"weak": f"w-{ink}", "full": f"f-{ink}", "none": "thin"}[fill]
        self.parts.append(
            f'<rect class="{filled} l-{ink}" x="{x:g}" y="{y:g}" width="{width:g}"'
            f' height="{height:g}" rx="4"/>'
        )

    def line(self, points: Sequence[tuple[float, float]], *, ink: str, thin: bool = False) -> None:
        """A line through points."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(
            f'<polyline class="{"thin" if thin else "line"} l-{ink}" points="{path}"/>'
        )

    def arrow(self, start: tuple[float, float], end: tuple[float, float], ink: str = "ink") -> None:
        """A straight arrow along one axis."""
        (x, y), (to_x, to_y) = start, end
        self.line([start, end], ink=ink, thin=True)
        if x == to_x:
            back = 6 if to_y < y else -6
            tip = [(to_x - 4, to_y + back), end, (to_x + 4, to_y + back)]
        else:
            back = 6 if to_x < x else -6
            tip = [(to_x + back, to_y - 4), end, (to_x + back, to_y + 4)]
        self.line(tip, ink=ink, thin=True)

    def dot(self, x: float, y: float, ink: str) -> None:
        """A point."""
        self.parts.append(f'<circle class="f-{ink}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>')

    def svg(self) -> str:
        """The file's content."""
        body = "\n".join(self.parts)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}"'
            f' width="{self.width}" height="{self.height}" role="img">\n'
            f"<title>{escape(self.title)}</title>\n<style>{STYLE}</style>\n"
            f'<rect class="f-paper" width="{self.width}" height="{self.height}" rx="8"/>\n'
            f"{body}\n</svg>\n"
        )
