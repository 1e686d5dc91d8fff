"""The text of a recipe for ``kft init``: complete, with a comment where a value was chosen."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.cells import cell_len

from kft.errors import counted
from kft.recipe.core_yaml import CORE_TYPES

if TYPE_CHECKING:
    from kft.api.init import Choice
    from kft.data.label_balance import LikelyTypo

_PLAIN = re.compile(r"[\w/~][\w ./~-]*(?<! )|\.{1,2}/[\w ./~-]*(?<! )")
_COMMENT_COLUMN = 40
_EPOCHS = 3
_STEP_ROWS = 8
_EVALUATIONS = 5
"""While training; each reads a twentieth of the rows, and only forwards."""

Line = tuple[str, str] | str
"""A line of YAML, or one with its comment."""


def recipe_text(choice: Choice, path: Path) -> str:
    """The recipe as YAML with comments.

    Args:
        choice: What it says.
        path: The file that it will be; its head shows the command.
    """
    blocks: list[list[Line]] = [
        [_head(choice, path)],
        [f"task: {choice.task}"],
        _model(choice),
        _adapter(choice),
        _data(choice),
        _train(choice),
        _evaluate(choice),
        [f"output_dir: {_scalar(choice.output)}"],
    ]
    return "\n".join(_line(line) for block in blocks for line in block) + "\n"


def _eval_steps(choice: Choice) -> int | None:
    """Steps between evaluations; ``None`` where steps are few, or packing hides their number."""
    sample = choice.sample
    steps = math.ceil(sample.num_rows * (1 - sample.eval_fraction) / _STEP_ROWS) * _EPOCHS
    if sample.layout.format == "text" or steps <= _EVALUATIONS:
        return None
    return math.ceil(steps / _EVALUATIONS)  # rounded down, the last two would be close together


def _evaluate(choice: Choice) -> list[Line]:
    lines: list[Line] = []
    every = _eval_steps(choice)
    if every is not None:
        comment = "held-out loss on the way, to tell over- from underfitting"
        lines.append((f"  eval_steps: {every}", comment))
    if _writes_answers(choice):
        lines.append(("  generate: 3", "answers shown before and after"))
    return ["evaluate:", *lines] if lines else []


def _writes_answers(choice: Choice) -> bool:
    return choice.task == "causal_lm"


def _head(choice: Choice, path: Path) -> str:
    name = shlex.quote(str(path))
    preset = choice.wanted.preset
    about = [
        f"# {choice.wanted.model} on {Path(choice.wanted.data).name}",
        "#",
        f"#   kft check {name}",
        f"#   kft finetune {name}",
    ]
    if preset is not None:
        allowed = {True: "allowed", False: "not allowed", None: "not known"}[preset.commercial]
        doubt = " (unverified)" if {"licence", "commercial"} & set(preset.unverified) else ""
        licence = preset.licence or "not known"
        about += ["#", f"# Licence of the weights: {licence}; commercial use: {allowed}{doubt}."]
    return "\n".join(about) + "\n"


def _model(choice: Choice) -> list[Line]:
    lines: list[Line] = ["model:", f"  name_or_path: {_scalar(choice.wanted.model)}"]
    preset = choice.wanted.preset
    if preset is not None and preset.remote_code:
        lines.append(("  # trust_remote_code: true", "its code is its own; also pin `revision`"))
    return lines


def _adapter(choice: Choice) -> list[Line]:
    lines: list[Line] = ["adapter:", (f"  method: {choice.method}", choice.method_reason)]
    if choice.method == "full":
        return lines
    preset = choice.wanted.preset
    lines += ["  r: 8", ("  lora_alpha: 16", "the update is multiplied by lora_alpha / r")]
    if preset is not None and "lora_targets" not in preset.unverified:
        names = ", ".join(preset.lora_targets)
        lines.append((f"  target_modules: [{names}]", "every linear layer of the blocks"))
    else:
        lines.append(("  target_modules: auto", "every linear layer of the blocks"))
    return lines


def _data(choice: Choice) -> list[Line]:
    sample, layout = choice.sample, choice.sample.layout
    lines: list[Line] = [
        "data:",
        (f"  train: {_scalar(choice.wanted.data)}", counted(sample.num_rows, "row")),
        (f"  eval_fraction: {sample.eval_fraction}", "held out, to compare before and after"),
        (f"  format: {layout.format}", layout.note.partition(": ")[2].replace("\n", " ")),
    ]
    if sample.named:
        roles = ", ".join(f"{role}: {_scalar(name)}" for role, name in sample.named.items())
        lines.append(f"  columns: {{{roles}}}")
    lines += _labels(choice)
    if layout.format != "text" and _writes_answers(choice):
        lines.append(_template(choice))
    most = f"; the model takes {choice.context:,}" if choice.context else ""
    lines.append((f"  max_length: {choice.max_length}", f"tokens per row{most}"))
    if choice.task in ("causal_lm", "masked_lm"):
        fills = layout.format == "text"
        comment = "several short rows fill one" if fills else "a step is a number of rows"
        lines.append((f"  packing: {str(fills).lower()}", comment))
    cuts_answers = layout.format != "text" and _writes_answers(choice)
    if sample.may_pass(choice.max_length) and cuts_answers:
        lines.append(("  on_too_long: drop", "`truncate` would cut the answer of such rows"))
    return lines


def _labels(choice: Choice) -> list[Line]:
    """Their names: in one line, or below each other where one of them may be a typo."""
    sample = choice.sample
    names = list(choice.wanted.labels) or list(sample.labels)
    comments = {typo.label: _typo_comment(typo) for typo in sample.typos}
    if comments:
        return [
            "  labels:",
            *((f"    - {_scalar(name)}", comments.get(name, "")) for name in names),
        ]
    comment = "in the order of their numbers" if sample.labels_are_numbers else ""
    if sample.labels_are_numbers and not choice.wanted.labels:
        comment = "give them names, such as 부정 and 긍정: the name is the answer"
    return [(f"  labels: {_list(names)}", comment)] if names else []


def _typo_comment(typo: LikelyTypo) -> str:
    seen = f"in {counted(typo.count, 'row')} ({typo.place})"
    meant = f"`{typo.meant}`, which is in {typo.meant_count:,}"
    return " ".join(f"{seen}: a typo of {meant}?".split())  # a comment ends with its line


def _template(choice: Choice) -> Line:
    preset, layout = choice.wanted.preset, choice.sample.layout.format
    if preset is None or "template" in preset.unverified:
        return ("  template: auto", "the checkpoint's own, else `koalpaca` or `plain`")
    if preset.template == "checkpoint":
        return ("  template: checkpoint", "its own chat template")
    if layout in {"instruction", "messages"}:
        return (f"  template: {preset.template}", f"as {preset.name} is usually prompted")
    return ("  template: plain", "no words around prompt and answer")


def _train(choice: Choice) -> list[Line]:
    rates = ("5e-4", "1e-3") if choice.is_small else ("2e-5", "2e-4")
    rate = rates[0] if choice.method == "full" else rates[1]
    lines: list[Line] = [
        "train:",
        f"  num_train_epochs: {_EPOCHS}",
        (
            f"  per_device_train_batch_size: {choice.rows}",
            "halve it and double the next when memory is short"
            if choice.rows > 1
            else "the memory asks for it",
        ),
        f"  gradient_accumulation_steps: {_STEP_ROWS // choice.rows}",
        f"  learning_rate: {rate}",
        "  seed: 42",
    ]
    if _eval_steps(choice) is not None and choice.method != "full":
        keep = ("  load_best_model_at_end: true", "of all evaluations, instead of the last one")
        lines.append(keep)
    return lines


def _line(line: Line) -> str:
    if isinstance(line, str):
        return line
    text, comment = line
    room = " " * (_COMMENT_COLUMN - cell_len(text))  # Hangul takes two cells
    return f"{text}{room} # {comment}" if comment else text


def _list(names: Sequence[str]) -> str:
    return "[" + ", ".join(_scalar(name) for name in names) + "]"


def _scalar(text: str) -> str:
    """Text as a YAML scalar that reads as text again."""
    means_more = any(pattern.match(text) for _, pattern in CORE_TYPES)
    if _PLAIN.fullmatch(text) and not means_more:
        return text
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(part if part.isprintable() else _escaped(part) for part in quoted)


def _escaped(character: str) -> str:
    r"""What can't be seen, such as a space without width, as YAML writes it: ``\u200b``."""
    number = ord(character)
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
