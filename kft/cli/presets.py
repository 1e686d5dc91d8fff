"""The presets as text: a table of all, or one in full."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from kft.cli.messages import as_json
from kft.cli.tables import table

_COLUMNS = {
    "family": 80,
    "size": 0,
    "context": 66,
    "LoRA": 0,
    "QLoRA": 0,
    "commercial": 46,
}
"""Column -> cells that the terminal must have for it."""

_LEGEND = (
    "LoRA and QLoRA: GiB of device memory at rank 8 and 8 rows of 512 tokens, an estimate; "
    "`+`: at least, only the weights could be counted. commercial: whether the licence allows "
    "commercial use. `?`: not read in a published file. `-`: not known."
)


def show(name: str | None, *, wants_json: bool, width: int) -> str:
    """One preset, or all, as text or JSON.

    Args:
        name: A preset's name; ``None`` is all.
        wants_json: Instead of text.
        width: Cells of the terminal.

    Raises:
        UsageError: If there is no such preset.
    """
    from kft.api.presets import describe, find_preset, list_presets

    if name is None:
        known = list_presets()
        return as_json(known) if wants_json else presets_table(known, width)
    preset = describe(find_preset(name))
    return as_json(preset) if wants_json else preset_text(preset, width)


def presets_table(presets: Sequence[Mapping[str, Any]], width: int) -> str:
    """All presets, encoders and decoders apart.

    Args:
        presets: As ``kft.api.presets.list_presets`` returns them.
        width: Cells of the terminal; narrower ones get fewer columns.
    """
    columns = [name for name, needed in _COLUMNS.items() if width >= needed]
    rows = [[preset["name"], *(_cell(preset, name) for name in columns)] for preset in presets]
    header = ["", *columns]
    lines = table(header, rows, width).split("\n")
    num_encoders = sum(preset["kind"] == "encoder" for preset in presets)
    parts = [*lines[: 1 + num_encoders], "", *lines[1 + num_encoders :]]
    legend = textwrap.wrap(_LEGEND, width)
    return "\n".join([*parts, "", *legend, "", "`kft presets NAME` shows one in full."])


def preset_text(preset: Mapping[str, Any], width: int) -> str:
    """One preset in full.

    Args:
        preset: As ``kft.api.presets.describe`` returns it.
        width: Cells of the terminal.
    """
    facts = {
        "hub": preset["hub"],
        "family": f"{preset['family']}, {_article(preset['kind'])}",
        "size": _sizes(preset),
        "parameters": _plain(preset["parameters"]),
        "vocabulary": _plain(preset["vocabulary"]),
        "context": _plain(preset["context"]),
        "licence": preset["licence"] or "not known",
        "commercial": {True: "allowed", False: "not allowed", None: "not known"}[
            preset["commercial"]
        ],
        "tasks": ", ".join(preset["tasks"]),
        "template": preset["template"],
        "lora_targets": ", ".join(preset["lora_targets"]),
        "LoRA needs": _memory(preset["lora_bytes"]),
        "QLoRA needs": _memory(preset["qlora_bytes"]),
        "remedies": ", ".join(preset["remedies"]),
        "special_tokens": ", ".join(f"{k} {v}" for k, v in preset["special_tokens"].items()),
        "stop": " ".join(preset["stop"]),
        "remote_code": "yes: `model.trust_remote_code` with a pinned revision"
        if preset["remote_code"]
        else "",
    }
    unverified = set(preset["unverified"])
    lines = [preset["name"]]
    labels = max(map(len, facts))
    for name, value in facts.items():
        if value:
            mark = "  (unverified)" if name in unverified else ""
            lines += _wrapped(f"  {name:{labels}}  ", value + mark, width)
    if unverified - set(facts):
        named = ", ".join(name for name in preset["unverified"] if name not in facts)
        lines += _wrapped(f"  {'unverified':{labels}}  ", named, width)
    for title, told in (("notes", preset["notes"]), ("read in", preset["sources"])):
        if told:
            lines += ["", f"  {title}"]
            for sentence in told:
                lines += _wrapped("  - ", sentence, width)
    return "\n".join(lines)


def _cell(preset: Mapping[str, Any], column: str) -> str:
    match column:
        case "size":
            count = preset["parameters"]
            return "-" if count is None else _short(count)
        case "LoRA" | "QLoRA":
            need = preset[f"{column.lower()}_bytes"]
            if need is None:
                return "-"
            return f"{need['total'] / 2**30:.1f}" + ("" if need["is_whole"] else "+")
        case "commercial":
            allowed = preset["commercial"]
            text = {True: "yes", False: "no", None: "-"}[allowed]
        case _:
            text = str(preset[column]) if preset[column] is not None else "-"
    return text + ("?" if column in preset["unverified"] else "")


def _short(count: int) -> str:
    """A number of parameters in millions or billions."""
    return f"{count / 1e9:.1f}B" if count >= 1e9 else f"{count / 1e6:.0f}M"


def _sizes(preset: Mapping[str, Any]) -> str:
    if preset["layers"] is None:
        return "not known"
    heads = f"{preset['heads']} heads"
    if preset["kv_heads"]:
        heads += f" ({preset['kv_heads']} of keys and values)"
    return f"{preset['layers']} layers, {preset['hidden']} wide, {heads}"


def _plain(number: int | None) -> str:
    return "not known" if number is None else f"{number:,}"


def _article(kind: str) -> str:
    return f"an {kind}" if kind == "encoder" else f"a {kind}"


def _memory(need: Mapping[str, Any] | None) -> str:
    if need is None:
        return "not known"
    total = f"{need['total'] / 2**30:.1f} GiB"
    if not need["is_whole"]:
        return f"at least {total}, for the weights"
    parts = ", ".join(
        f"{name} {need[name] / 2**30:.1f}" for name in ("weights", "adapter", "activations")
    )
    return f"about {total}: {parts}"


def _wrapped(start: str, text: str, width: int) -> list[str]:
    return textwrap.wrap(
        text,
        max(width, 30),
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_on_hyphens=False,
    )
