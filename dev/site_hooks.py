"""What the site needs beyond MkDocs: formulas as MathML, and links to files that aren't pages.

MkDocs calls these functions by their names.
"""

from __future__ import annotations

import html
import os
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert

LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(((?:\.\./)+[^)#\s]+)\)")
FORMULA = re.compile(r'<(div|span) class="arithmatex">\\([\[(])(.*?)\\[\])]</\1>', flags=re.DOTALL)


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Links that lead out of `docs/`, to a recipe or a result, become words and a path."""
    root = Path(config["docs_dir"]).parent
    folder = Path(config["docs_dir"]) / Path(page.file.src_uri).parent

    def shown(link: re.Match[str]) -> str:
        target = Path(os.path.normpath(folder / link[2]))
        if target.is_relative_to(config["docs_dir"]):
            return link[0]
        path = target.relative_to(root).as_posix()
        if path.endswith(link[1]) or Path(path).stem == link[1]:
            return f"`{path}`"
        return f"{link[1]} (`{path}`)"

    return LINK.sub(shown, markdown)


def on_page_content(content: str, **_: Any) -> str:
    """Formulas become MathML, which browsers draw by themselves."""

    def drawn(formula: re.Match[str]) -> str:
        display = "block" if formula[2] == "[" else "inline"
        return str(convert(html.unescape(formula[3]).strip(), display=display))

    return FORMULA.sub(drawn, content)
