"""Errors and findings as text for a terminal: kft's own, click's, and unexpected ones.

Whatever comes from a recipe, a file or a model is shown with its control characters written
out: a terminal obeys them, and a text written from right to left can hide what it says.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import sys
import traceback
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TextIO

import click

from kft.errors import Finding, KftError, UsageError, name_list, nearest_name, without_secrets

_UNSAFE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    r"\ud800-\udfff\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_COLORS: dict[str, dict[str, Any]] = {
    "error:": {"fg": "red", "bold": True},
    "warning:": {"fg": "yellow", "bold": True},
    "note:": {"fg": "blue", "bold": True},
    "-->": {"fg": "blue"},
    "expected:": {"fg": "green"},
    "hint:": {"fg": "cyan"},
}
_LABEL = re.compile(r"^( *)(" + "|".join(map(re.escape, _COLORS)) + ")", re.MULTILINE)


def visible(text: str, keep: str = "") -> str:
    r"""The text with control, direction and unseen characters written as escapes.

    Args:
        text: Text from anywhere.
        keep: Characters that stay, for example a newline.

    Example:
        >>> print(visible("가\x1b[31m\n"))
        가\x1b[31m\n
    """
    return _UNSAFE.sub(
        lambda found: found[0] if found[0] in keep else _escape(found[0]),
        text,
    )


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def error_text(error: KftError) -> str:
    """An error in its four parts, safe to print."""
    return str(
        KftError(
            visible(error.what),
            where=None if error.where is None else visible(error.where),
            expected=None if error.expected is None else visible(error.expected, "\n"),
            hint=None if error.hint is None else visible(error.hint, "\n"),
        )
    )


def finding_text(finding: Finding) -> str:
    """A finding in the form of an error, safe to print."""
    where = None if finding.where is None else visible(finding.where)
    hint = None if finding.hint is None else visible(finding.hint, "\n")
    return without_secrets(
        str(replace(finding, what=visible(finding.what), where=where, hint=hint))
    )


def show_finding(finding: Finding) -> None:
    """Print a finding on stderr."""
    tell(finding_text(finding), colored=wants_color(sys.stderr))


def with_colors(text: str) -> str:
    """The text of an error or finding with its labels coloured."""
    return _LABEL.sub(lambda found: found[1] + click.style(found[2], **_COLORS[found[2]]), text)


def wants_color(stream: TextIO) -> bool:
    """Whether a stream is a terminal on which colours are welcome (https://no-color.org)."""
    is_plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return stream.isatty() and not is_plain


def tell(text: str, *, colored: bool = False) -> None:
    """Print on stderr, without any token in it; a closed stderr is no reason to fail."""
    text = without_secrets(text)
    with contextlib.suppress(OSError):
        click.echo(with_colors(text) if colored else text, err=True, color=colored)


def as_json(content: Any) -> str:
    r"""JSON that a terminal can show and a program can read.

    Args:
        content: Plain values. Numbers that JSON lacks (infinity, not a number) become `null`.

    Example:
        >>> print(as_json({"loss": float("inf"), "answer": "네\x9b"}))
        {
          "loss": null,
          "answer": "네\u009b"
        }
    """
    text = json.dumps(_finite(content), ensure_ascii=False, indent=2, default=str)
    return _shown_json(text)


def json_line(content: Any) -> str:
    """As :func:`as_json`, on one line."""
    return _shown_json(json.dumps(_finite(content), ensure_ascii=False, default=str))


def _shown_json(text: str) -> str:
    return re.sub(
        _UNSAFE, lambda found: found[0] if found[0] == "\n" else json.dumps(found[0])[1:-1], text
    )


def _finite(content: Any) -> Any:
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, Mapping):
        return {str(name): _finite(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return content


def unexpected(error: Exception, *, with_traceback: bool) -> KftError:
    """What to say about an error that kft did not raise on purpose."""
    first_line = str(error).strip().partition("\n")[0]
    said = f"{type(error).__name__}: {first_line}" if first_line else type(error).__name__
    hint = None if with_traceback else "`--traceback` on the same command shows where."
    return KftError(f"kft met something unexpected: {said}", hint=hint)


def traceback_text(error: BaseException) -> str:
    """The whole traceback, safe to print."""
    return visible("".join(traceback.format_exception(error)), "\n\t").rstrip()


def usage_error(error: click.ClickException) -> UsageError:
    """What click says about wrong words, in kft's own form."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    path = context.command_path if context else "kft"
    help_hint = f"`{path} --help` shows how it is used."
    if isinstance(error, click.NoSuchCommand) and context is not None:
        return _unknown_command(error.command_name, context)
    if isinstance(error, click.NoSuchOption) and context is not None:
        return _unknown_option(error.option_name, context)
    if isinstance(error, click.MissingParameter) and error.param is not None:
        return UsageError(f"`{error.param.human_readable_name}` is missing", hint=help_hint)
    # `Option '--data' requires an argument.`, `Got unexpected extra argument (x)`
    said = re.sub(r"'([^']*)'|\(([^()]*)\)$", r"`\1\2`", error.format_message()).rstrip(".")
    return UsageError(said, hint=help_hint)


def _unknown_command(name: str, context: click.Context) -> UsageError:
    group = context.command
    commands = group.list_commands(context) if isinstance(group, click.Group) else []
    nearest = nearest_name(name, commands)
    hint = f"Did you mean `{context.command_path} {nearest}`?" if nearest else None
    return UsageError(
        f"Unknown command `{name}`",
        expected=f"one of {name_list(commands, limit=len(commands))}",
        hint=hint,
    )


def _unknown_option(name: str, context: click.Context) -> UsageError:
    options = [
        option
        for parameter in context.command.get_params(context)
        for option in parameter.opts
        if option.startswith("--")
    ]
    nearest = nearest_name(name, options)
    hint = f"Did you mean `{nearest}`?" if nearest else None
    if "." in name:
        hint = f"Keys of the recipe have no dashes: `{name.lstrip('-')}=VALUE`."
    return UsageError(
        f"Unknown option `{name}` of `{context.command_path}`",
        expected=f"one of {name_list(options, limit=len(options))}",
        hint=hint,
    )


class AtLeast(click.ParamType[int]):
    """A whole number with a lower limit."""

    name = "number"

    def __init__(self, minimum: int) -> None:
        self.minimum = minimum

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number that was typed."""
        if re.fullmatch(r"[+-]?[0-9]{1,9}", str(value)) and int(value) >= self.minimum:
            return int(value)
        raise _wrong_value(value, param, ctx, f"a whole number, at least {self.minimum}")


class OneOf(click.ParamType[str]):
    """One of a few words."""

    name = "word"

    def __init__(self, *words: str) -> None:
        self.words = words

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The word that was typed."""
        if value in self.words:
            return str(value)
        nearest = nearest_name(str(value), self.words)
        hint = f"Did you mean `{nearest}`?" if nearest else None
        raise _wrong_value(value, param, ctx, f"one of {name_list(self.words)}", hint)


def _wrong_value(
    value: Any,
    parameter: click.Parameter | None,
    context: click.Context | None,
    expected: str,
    hint: str | None = None,
) -> UsageError:
    option = parameter.opts[0] if parameter else "argument"
    command = f" of `{context.command_path}`" if context else ""
    return UsageError(
        f"Invalid value for `{option}`{command}, got `{value}`", expected=expected, hint=hint
    )
