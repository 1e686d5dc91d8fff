"""Pages from templates: everything escaped, one file, nothing loaded from anywhere."""

from __future__ import annotations

import hashlib
import math
import re
from base64 import b64encode
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from kft.reporting.finding_words import korean_finding
from kft.reporting.metric_words import KOREAN
from kft.reporting.words import WORDS

PAGES = Path(__file__).parent / "pages"

_CODE = re.compile("`([^`]+)`")
_UNSAFE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    r"\ud800-\udfff\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
"""Characters that steer a terminal, or the direction and order of a text, or can't be seen."""


def render(template: str, values: Mapping[str, Any]) -> str:
    """A page.

    Args:
        template: Name of a file in ``pages``.
        values: What it shows; text is escaped, :class:`~markupsafe.Markup` is not.
    """
    return _environment().get_template(template).render(values)


def phrase(key: str, **parts: Any) -> Markup:
    """A phrase in both languages, of which the page shows one.

    Args:
        key: In :data:`kft.reporting.words.WORDS`.
        parts: What stands in its braces.

    Example:
        >>> print(phrase("rows dropped", reason="<b>"))  # doctest: +ELLIPSIS
        <span class="ko" lang="ko">...&lt;b&gt;</span><span class="en" lang="en">...&lt;b&gt;</span>
    """
    marked = (_CODE.sub(r"<code>\1</code>", words) for words in WORDS[key])
    # The words are this program's; what stands in their braces is escaped.
    return _both(*(Markup(words).format(**parts) for words in marked))  # noqa: S704


def metric_phrase(name: str, meanings: Mapping[str, str]) -> Markup:
    """What a metric is, in both languages; empty for a name that is none."""
    if name not in KOREAN:
        return Markup("")
    return _both(KOREAN[name], meanings.get(name, ""))


def finding_phrase(finding: str) -> Markup:
    """A finding in both languages, where it is known in Korean; else as it is."""
    told = korean_finding(finding)
    return escape(finding) if told is None else _both(told, finding)


def number(value: Any, *, signed: bool = False) -> str:
    """A number with about four digits; a dash for none.

    Example:
        >>> [number(value) for value in (1234567, 0.98765, 2.5, 1e-7, None, 1234.5)]
        ['1,234,567', '0.9877', '2.5', '1e-07', '–', '1,234']
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return "–" if value is None or isinstance(value, float) else str(value)
    sign = "+" if signed and value else ""
    if isinstance(value, int) or abs(value) >= 1000:
        text = f"{value:{sign},.0f}"
    else:
        text = f"{value:{sign}.4g}"
    return text.replace("-", "−", 1) if text.startswith("-") else text


def percent(share: float | None) -> str:
    """A share as a change in percent; a dash for none.

    Example:
        >>> percent(0.0917), percent(-0.02), percent(None)
        ('+9.2%', '−2.0%', '–')
    """
    return "–" if share is None or not math.isfinite(share) else f"{share:+.1%}".replace("-", "−")


def duration(seconds: float) -> str:
    """A time as hours, minutes and seconds.

    Example:
        >>> duration(4.2), duration(125), duration(7265)
        ('4.2 s', '2:05', '2:01:05')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def gibibytes(count: float) -> str:
    """Bytes as GiB, or MiB below one.

    Example:
        >>> gibibytes(3_435_973_837), gibibytes(776_142_848)
        ('3.2 GiB', '740 MiB')
    """
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def shown(text: str) -> str:
    r"""A text whose control, direction and unseen characters are written as escapes.

    Example:
        >>> print(shown("가\x1b[31m"))
        가\x1b[31m
    """
    return _UNSAFE.sub(
        lambda found: found[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text
    )


def _both(korean: str, english: str) -> Markup:
    return Markup(
        '<span class="ko" lang="ko">{}</span><span class="en" lang="en">{}</span>'
    ).format(korean, english)


def _finalize(value: Any) -> Any:
    if isinstance(value, Markup):
        return Markup(shown(value))  # noqa: S704 -- it was markup, and only loses characters
    return shown(value) if isinstance(value, str) else value


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(PAGES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = ((PAGES / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    environment.globals |= {
        "t": phrase,
        "style": Markup(style),  # noqa: S704 -- files of this package
        "script": Markup(script),  # noqa: S704
        "script_hash": f"sha256-{digest}",
        "code": lambda text: Markup("<code>{}</code>").format(text),
    }
    environment.filters |= {
        "number": number,
        "duration": duration,
        "gibibytes": gibibytes,
    }
    return environment
