"""What ``kft check`` found, as text that reads well in 60 columns, without colour, and piped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click
from rich.cells import cell_len

from kft.cli.messages import finding_text, visible, with_colors
from kft.cli.tables import pairs, value_text
from kft.errors import counted, share_of

if TYPE_CHECKING:
    from kft.api.check import Check
    from kft.api.clean_copy import CleanCopy
    from kft.api.shown_rows import ShownRow

_GAP = "  "
_BARS = "▁▂▃▄▅▆▇█"
_ASCII_BARS = ".:-=+*#@"
_MARKS = ("⟦", "⟧", "┊")
_ASCII_MARKS = ("[", "]", "|")
_MOST_LABELS = 12
_SPREAD = ("lowest", "median", "mean", "highest")
_NARROWEST = 40

Facts = Iterator[tuple[str, str]]


def check_text(
    check: Check, *, width: int = 80, colored: bool = False, ascii_only: bool = False
) -> str:
    """What a check found: facts by section, rows as the model sees them, findings, the verdict.

    Args:
        check: What to show.
        width: Cells of the terminal; lines are broken between words.
        colored: Whether to colour targets and the labels of findings.
        ascii_only: Whether the signs that kft adds must be ASCII.
    """
    parts = [_sections_text(check.sections, width, ascii_only=ascii_only)]
    parts += [row_text(row, colored=colored, ascii_only=ascii_only) for row in check.shown]
    findings = [_broken(finding_text(finding), width) for finding in check.findings]
    parts += [with_colors(text) if colored else text for text in findings]
    return "\n\n".join([*(part for part in parts if part), _verdict(check)])


def row_text(row: ShownRow, *, colored: bool, ascii_only: bool = False) -> str:
    """A row as the model sees it, with the tokens that are targets marked.

    Args:
        row: Its documents' tokens, each with whether it is a target.
        colored: Mark targets by colour; otherwise by the brackets ``⟦`` and ``⟧``.
        ascii_only: The brackets are ``[`` and ``]``.

    Returns:
        The place, then the text; a newline in it is written out and begins a new line, and
        ``┊`` (``|``) stands on a line of its own between packed documents. A label, a number or
        tags to be learned stand behind ``→`` (``->``).
    """
    begin, end, between = _ASCII_MARKS if ascii_only else _MARKS
    lines: list[str] = []
    for number, document in enumerate(row.documents):
        text, was_target = "", False
        for token, is_target in [*document, ("", False)]:
            shown = "\\n\n".join(visible(line) for line in token.split("\n"))
            if colored:
                text += click.style(shown, fg="green", bold=True) if is_target and shown else shown
            else:
                text += {(False, True): begin, (True, False): end}.get((was_target, is_target), "")
                text += shown
            was_target = is_target
        lines += [between] if number else []
        lines += text.rstrip("\n").split("\n")
        if (answer := row.answers[number]) is not None:
            arrow = "->" if ascii_only else "→"
            said = visible(answer)
            lines.append(f"{arrow} {click.style(said, fg='green', bold=True) if colored else said}")
    return "\n".join([visible(row.place), *(f"{_GAP}{line}" for line in lines)])


def copy_text(copy: CleanCopy) -> str:
    """What was written by ``--fix``."""
    facts = {
        "mended copy": copy.folder,
        "rows": f"{copy.num_written:,} of {copy.num_read:,}, {copy.num_changed:,} changed",
        **{f"changed: {name}": counted(count, "text") for name, count in copy.changes.items()},
        **{f"left out: {name}": counted(count, "row") for name, count in copy.dropped.items()},
        "list of changes": copy.changes_file,
        "to use it": " ".join(copy.overrides),
    }
    return pairs(facts)


def _verdict(check: Check) -> str:
    counts = {
        severity: sum(finding.severity == severity for finding in check.findings)
        for severity in ("error", "warning")
    }
    told = [counted(count, severity) for severity, count in counts.items() if count]
    if check.has_errors:
        return f"Not ready to train: {', '.join(told)}."
    return f"Ready to train, with {told[0]}." if told else "Ready to train."


def _sections_text(
    sections: Mapping[str, Mapping[str, Any]], width: int, *, ascii_only: bool
) -> str:
    writers: dict[str, Callable[[Mapping[str, Any]], Facts]] = {
        "model": _model,
        "data": _data,
        "rows": _rows,
        "text": _text,
        "labels": _labels,
        "scores": _scores,
        "tokens": partial(_tokens, bars=_ASCII_BARS if ascii_only else _BARS),
        "tokenizer": _tokenizer,
        "training": _training,
        "memory": _memory,
    }
    parts = []
    for name, write in writers.items():
        if section := sections.get(name):
            parts.append(_lines(write(section), max(width, _NARROWEST), name))
    return "\n".join(parts)


def _model(section: Mapping[str, Any]) -> Facts:
    yield "name", f"{section['name_or_path']} ({section['model_type']})"
    if section["positions"] is not None:
        yield "positions", f"{section['positions']:,}"


def _data(section: Mapping[str, Any]) -> Facts:
    yield "format", section["format"]
    yield "template", section["template"]
    for file in section["files"]:
        yield "file", file["path"] + (f" ({file['encoding']})" if file["encoding"] else "")
    for reason, dropped in section["dropped"].items():
        places = ", ".join(dropped["places"])
        more = ", ..." if dropped["count"] > len(dropped["places"]) else ""
        yield "left out", f"{dropped['count']:,} with {reason}: {places}{more}"


def _rows(section: Mapping[str, Any]) -> Facts:
    yield "used", f"{section['train']:,} to train on, {section['held_out']:,} held out"
    yield "different", f"{counted(section['distinct_texts'], 'text')} to train on"
    for key, name, noun, more in (
        ("repeated", "repeated", "row", ""),
        ("nearly_repeated", "nearly repeated", "row", ", but for case, spaces or signs"),
        ("conflicting_texts", "several labels", "text", ""),
        ("leaked", "leaked", "held-out row", " among the training rows"),
    ):
        if section[key]:
            yield name, counted(section[key], noun) + more


def _text(section: Mapping[str, Any]) -> Facts:
    for column, facts in section.items():
        shares = {name: share for name, share in facts["shares"].items() if share >= 0.0005}
        told = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
        yield column, f"{counted(facts['characters'], 'character')}: {told}"


def _scores(section: Mapping[str, Any]) -> Facts:
    spread = ", ".join(f"{name} {section[name]:.4g}" for name in _SPREAD)
    yield "spread", f"{spread}; {section['distinct']:,} different ones"


def _labels(section: Mapping[str, Any]) -> Facts:
    counts = section["counts"]
    total = section["rows"] or 1
    for name, count in list(counts.items())[:_MOST_LABELS]:
        held_out = section["held_out_counts"][name]
        yield name, f"{count:,} ({share_of(count, total)}), {held_out:,} held out"
    if len(counts) > _MOST_LABELS:
        yield "", f"and {len(counts) - _MOST_LABELS} more"


def _tokens(section: Mapping[str, Any], bars: str) -> Facts:
    yield "total", f"{section['tokens']:,} in {counted(section['rows'], 'row')}"
    yield "targets", f"{section['targets']:,} ({section['target_share']:.0%})"
    drawn = _histogram(section["histogram"]["rows"], bars)
    yield "per row", f"{section['shortest']} {drawn} {section['longest']}"
    yield "", f"{section['median']} (median), {section['p95']} (95%), {section['p99']} (99%)"
    for key, words in (
        ("truncated", "truncated"),
        ("without_end", "without end token"),
        ("without_target", "without target"),
    ):
        if section[key]:
            share = share_of(section[key], section["rows"])
            yield words, f"{counted(section[key], 'row')} ({share})"


def _tokenizer(section: Mapping[str, Any]) -> Facts:
    for name, value in section.items():
        if not isinstance(value, Mapping):
            yield name.replace("_", " "), value_text(value)


def _training(section: Mapping[str, Any]) -> Facts:
    yield "steps", f"{section['total_steps']:,}, {section['steps_per_epoch']:,} an epoch"
    if "packed_rows" in section:
        yield "packed rows", f"{section['packed_rows']:,}, {section['fill_rate']:.1%} filled"
    if "train_seconds" in section:
        speed = f"about {section['tokens_per_second']:,.0f} tokens/s"
        yield "expected", f"{speed}, {_time(section['train_seconds'])} for all steps"


def _time(seconds: float) -> str:
    """A rough time."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def _memory(section: Mapping[str, Any]) -> Facts:
    def gib(key: str) -> str:
        return f"{section[f'{key}_bytes'] / 2**30:.2f}"

    yield "needed", f"{gib('needed')} of {gib('available')} GiB, while {section['phase']}"
    names = ("process", "weights", "adapter", "gradients", "optimizer", "activations", "logits")
    shown = [f"{name} {gib(name)}" for name in (*names, "backward", "allocator")]
    yield "of it", ", ".join(shown)
    most = section["largest_rows"]
    yield "rows", f"{section['rows']} in a micro-batch; the most that fit are {most}"


def _histogram(rows: Sequence[int], bars: str) -> str:
    """A bar for each bin, as high as its rows; an empty bin is a space."""
    highest = max(rows, default=0) or 1
    heights = [-(-count * len(bars) // highest) for count in rows]  # rounded up
    return "".join(bars[height - 1] if height else " " for height in heights)


def _lines(facts: Facts, width: int, title: str | None = None) -> str:
    """A name and its value on each line; long values go on below themselves."""
    rows = [(visible(name), visible(value)) for name, value in facts]
    indent = "" if title is None else _GAP
    labels = max([cell_len(name) for name, _ in rows], default=0)
    lines = [] if title is None else [title]
    for name, value in rows:
        head = f"{indent}{name}{' ' * (labels - cell_len(name))}{_GAP if labels else ''}"
        for number, line in enumerate(_wrapped(value, width - cell_len(head))):
            lines.append((head if number == 0 else " " * cell_len(head)) + line)
    return "\n".join(lines)


def _broken(text: str, width: int) -> str:
    """A finding with its lines broken between words, indented as they are."""
    lines = []
    for line in text.split("\n"):
        indent = len(line) - len(line.lstrip())
        inner = indent + (4 if indent else 2)
        for number, part in enumerate(_wrapped(line.strip(), max(width, _NARROWEST) - inner)):
            lines.append(" " * (indent if number == 0 else inner) + part)
    return "\n".join(lines)


def _wrapped(text: str, width: int) -> list[str]:
    """Lines of at most ``width`` cells; a word that is longer stays whole, to be copied."""
    lines: list[str] = []
    for word in text.split(" "):
        if lines and cell_len(lines[-1]) + 1 + cell_len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines or [""]
