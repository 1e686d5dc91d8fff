"""What a sweep goes through: keys of the recipe with values to try, or ranges to draw from."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kft.errors import UsageError
from kft.recipe.reader import read_recipe
from kft.recipe.schema import Recipe

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})")
_FIXED = ("output_dir", "task", "train.metric_for_best_model")
"""Keys that every trial shares: else they can't be compared, or would share a folder."""

Values = dict[str, str]
"""Key -> value as it is typed on a command line."""


@dataclass(frozen=True)
class Range:
    """Numbers between two, both included.

    Args:
        low: The smallest.
        high: The largest.
        is_whole: Whole numbers only.
    """

    low: float
    high: float
    is_whole: bool

    @property
    def is_wide(self) -> bool:
        """Whether it is drawn from evenly in the logarithm: tenfold or more."""
        return self.low > 0 and self.high / self.low >= 10


@dataclass(frozen=True)
class Space:
    """The recipe of a sweep and what varies in it.

    Args:
        path: The recipe's file.
        fixed: Overrides that hold for every trial.
        axes: Key -> its values in the order typed, or a range.
        recipe: The recipe with ``fixed``; its ``output_dir`` is the sweep's folder.
    """

    path: str
    fixed: Values
    axes: dict[str, tuple[str, ...] | Range]
    recipe: Recipe

    @property
    def has_ranges(self) -> bool:
        """Whether there is no end of values to try."""
        return any(isinstance(axis, Range) for axis in self.axes.values())

    def grid(self) -> Iterator[Values]:
        """Every combination, the key typed last changing fastest.

        Raises:
            UsageError: If a key has a range, of which there is no grid.
        """
        listed = []
        for key, axis in self.axes.items():
            if isinstance(axis, Range):
                raise UsageError(
                    f"`{key}` has a range, which has no grid",
                    expected=f"values, such as `{key}={axis.low:g},{axis.high:g}`",
                    hint="`--trials 20` draws from it.",
                )
            listed.append(axis)
        for values in itertools.product(*listed):
            yield dict(zip(self.axes, values, strict=True))

    def trial_recipe(self, values: Values, folder: str) -> Recipe:
        """The recipe of one trial.

        The merged model is left out unless the sweep asks for it: the best trial's can be made
        with ``kft merge``.

        Args:
            values: What this trial has of each key.
            folder: Its run folder.

        Raises:
            RecipeError: If the values don't make sense.
        """
        overrides = {"export.merge": "false", **self.fixed, **values, "output_dir": folder}
        return read_recipe(self.path, [f"{key}={value}" for key, value in overrides.items()])

    def as_dict(self) -> dict[str, Any]:
        """What must be the same for a sweep to go on."""
        axes = {
            key: f"{axis.low:g}..{axis.high:g}" if isinstance(axis, Range) else list(axis)
            for key, axis in self.axes.items()
        }
        return {"recipe": self.recipe.resolved(), "axes": axes}


def read_space(path: str, words: Sequence[str]) -> Space:
    """Read ``key=v1,v2`` words: a key with one value is an override for every trial.

    Args:
        path: The recipe.
        words: As typed. Commas in brackets or quotes separate nothing; ``1e-5..1e-3`` is a
            range, for ``--trials``.

    Raises:
        UsageError: If a word isn't of this form, or nothing varies.
        RecipeError: If the recipe, or a single value in it, is wrong.
    """
    fixed: Values = {}
    axes: dict[str, tuple[str, ...] | Range] = {}
    for word in words:
        key, equals, text = word.partition("=")
        key = key.strip()
        if not equals or not key or not text:
            raise UsageError(f"`{word}` isn't of the form `key=v1,v2`", expected="`key=v1,v2`")
        if key in fixed or key in axes:
            raise UsageError(f"Key `{key}` is named twice", where=f"`{word}`", expected="it once")
        span, values = read_range(text), split_values(text)
        if span is not None:
            axes[key] = span
        elif len(values) == 1:
            fixed[key] = text
        else:
            axes[key] = tuple(values)
        if key in _FIXED and key in axes:
            raise UsageError(
                f"`{key}` can't vary within a sweep",
                where=f"`{word}`",
                expected=f"one value, such as `{key}={values[0]}`",
            )
    if not axes:
        raise UsageError(
            "Nothing varies in this sweep",
            expected="a key with several values, such as `adapter.r=8,16`",
        )
    recipe = read_recipe(path, [f"{key}={value}" for key, value in fixed.items()])
    space = Space(path, fixed, axes, recipe)
    for key, axis in axes.items():  # each value is looked at once, before anything is trained
        for value in _ends(axis):
            read_recipe(path, [*(f"{k}={v}" for k, v in fixed.items()), f"{key}={value}"])
    return space


def _ends(axis: tuple[str, ...] | Range) -> tuple[str, ...]:
    if isinstance(axis, Range):
        return number_text(axis.low, axis), number_text(axis.high, axis)
    return axis


def read_range(text: str) -> Range | None:
    """``1e-5..1e-3`` as a range; ``None`` for anything else.

    Raises:
        UsageError: If it goes downwards.

    Example:
        >>> read_range("4..64")
        Range(low=4.0, high=64.0, is_whole=True)
    """
    found = _RANGE.fullmatch(text.strip())
    if found is None:
        return None
    low, high = float(found[1]), float(found[2])
    if low >= high:
        raise UsageError(f"The range `{text}` goes downwards", expected="the smaller number first")
    return Range(low, high, all(re.fullmatch(r"[+-]?\d+", end) for end in found.groups()))


def split_values(text: str) -> list[str]:
    """The values between commas that stand outside of brackets and quotes.

    Example:
        >>> split_values("[query,value],all-linear,'a,b'")
        ['[query,value]', 'all-linear', "'a,b'"]
    """
    values, depth, quote, start = [], 0, "", 0
    for at, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in "[{":
            depth += 1
        elif character in "]}":
            depth -= 1
        elif character == "," and depth == 0:
            values.append(text[start:at])
            start = at + 1
    return list(dict.fromkeys(value.strip() for value in [*values, text[start:]]))


def number_text(value: float, axis: Range) -> str:
    """A number drawn from a range, as it is typed."""
    return str(int(value)) if axis.is_whole else f"{value:.6g}"
