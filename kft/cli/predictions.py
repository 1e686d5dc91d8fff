"""Labels, numbers and tags asked for: of one text, of each line of stdin, or at a terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from kft.cli.chat import COMMAND, answer_typed
from kft.cli.messages import json_line, show_finding, visible
from kft.cli.piped import stdin_lines
from kft.errors import Finding, UsageError

if TYPE_CHECKING:
    from kft.api.predict import Prediction, Predictor

_LINES = 256
"""Lines of stdin that are read before their answers are printed."""

_NOTHING = "-"


def ask_for_labels(
    predictor: Predictor,
    prompt: str | None,
    told: tuple[str | None, int | None],
    *,
    wants_json: bool,
) -> None:
    """Print what the model says of a prompt, of each line of stdin, or of what is typed.

    Args:
        predictor: The model.
        prompt: A text; ``None`` is stdin.
        told: ``--system`` and ``--max-new-tokens``, which only models that write text take.
        wants_json: A JSON object for each text.

    Raises:
        UsageError: If an option or a text doesn't fit the model.
    """
    for name, value in zip(("--system", "--max-new-tokens"), told, strict=True):
        if value is not None:
            raise UsageError(
                f"`{name}` is for models that write text",
                where=predictor.opened.name,
                expected=f"no such option: the model of `task: {predictor.opened.task}` labels",
            )
    if prompt is not None:
        _print(predictor, [prompt], 0, wants_json=wants_json)
    elif sys.stdin.isatty():
        _converse(predictor, wants_json=wants_json)
    else:
        predict_lines(predictor, stdin_lines(), wants_json=wants_json)


def predict_lines(predictor: Predictor, lines: Iterable[str], *, wants_json: bool = False) -> None:
    """Print a line for each line that isn't empty, many of them computed at once."""
    texts = (line.rstrip("\r\n") for line in lines if line.strip())
    number = 0
    while True:
        part, fault = _next_texts(texts)
        if part:
            _print(predictor, part, number, wants_json=wants_json)
        number += len(part)
        if fault is not None:
            raise fault
        if not part:
            return


def _next_texts(texts: Iterator[str]) -> tuple[list[str], UsageError | None]:
    """Texts to compute at once, and what is wrong with the one after them."""
    part: list[str] = []
    try:
        for text in islice(texts, _LINES):
            part.append(text)
    except UsageError as error:
        return part, error
    return part, None


def prediction_text(prediction: Prediction) -> str:
    r"""A prediction on one line, its parts separated by tabs.

    Args:
        prediction: What was said of a text.

    Returns:
        ``label``, its probability, the next label, its probability and so on, the likeliest
        first; where several may hold, those above one half; a number; or each entity after its
        type. ``-`` where no label holds and nothing is an entity.

    Example:
        >>> from kft.api.predict import Prediction
        >>> prediction_text(Prediction("긍정", 0.9312, {"긍정": 0.9312, "부정": 0.0688}))
        '긍정\t0.93\t부정\t0.07'
        >>> prediction_text(Prediction([], [], {"분노": 0.3, "슬픔": 0.2}))
        '-'
        >>> prediction_text(Prediction(3.14159))
        '3.1416'
    """
    if prediction.entities is not None:
        parts = [f"{one.name} {_plain(one.text)}" for one in prediction.entities]
    elif isinstance(prediction.label, str):
        parts = _scored(prediction.scores or {})
    elif isinstance(prediction.label, list):
        scores = prediction.scores or {}
        parts = _scored({name: scores[name] for name in prediction.label})
    else:
        parts = [f"{prediction.label:.4f}"]
    return "\t".join(parts) or _NOTHING


def _scored(scores: Mapping[str, float]) -> list[str]:
    return [part for name, share in scores.items() for part in (_plain(name), f"{share:.2f}")]


def _plain(text: str) -> str:
    return text.replace("\t", " ").replace("\n", " ")


def _as_dict(prediction: Prediction) -> dict[str, Any]:
    """What the prediction has, without what its task lacks."""
    return {name: value for name, value in asdict(prediction).items() if value is not None}


def _print(predictor: Predictor, lines: list[str], before: int, *, wants_json: bool) -> None:
    texts = [_texts(predictor, line) for line in lines]
    with contextlib.redirect_stdout(sys.stderr):
        predictions = predictor.predict(texts, first=before + 1)
    for number, prediction in enumerate(predictions, before + 1):
        text = json_line(_as_dict(prediction)) if wants_json else prediction_text(prediction)
        click.echo(visible(text, "\t") if sys.stdout.isatty() else text)
        if prediction.was_cut:
            what = "The text is longer than the model takes: its end was cut off"
            show_finding(Finding("warning", what, where=f"text {number}"))


def _texts(predictor: Predictor, line: str) -> str | tuple[str, str]:
    """A line as a text, or as the two of a pair where the model may have been trained on them."""
    if "\t" not in line or not predictor.takes_pairs:
        return line
    first, _, second = line.partition("\t")
    return first, second


def _converse(predictor: Predictor, *, wants_json: bool) -> None:
    """Answer each line at a terminal, without what was typed before."""

    def answer(line: str, word: str) -> None:
        if COMMAND.match(word):
            raise UsageError(
                f"A model that labels texts knows no `{word}`",
                expected="a text, or `/quit`: nothing that was said is kept",
            )
        _print(predictor, [line], 0, wants_json=wants_json)

    answer_typed("Each line is a text of its own; `/quit` ends.", answer)
