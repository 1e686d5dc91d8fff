"""The model card: what a folder of weights says of itself to people, written from its run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import ModelCardData

from kft.export.card_loading import Loading, loading_text
from kft.models.licence import Licence

CARD = "README.md"
"""File name of a card."""

_PIPELINES = {
    "causal_lm": "text-generation",
    "sequence_classification": "text-classification",
    "sequence_regression": "text-classification",
    "token_classification": "token-classification",
    "masked_lm": "fill-mask",
}
_LEARNT = {
    "causal_lm": "continue Korean text",
    "sequence_classification": "tell the class of Korean texts",
    "sequence_regression": "give Korean texts a number",
    "token_classification": "tag the words of Korean texts",
    "masked_lm": "find hidden words in Korean text",
}
_CHECKED = (
    "max_logit_difference",
    "limit_logits",
    "kl_nats",
    "limit_kl",
    "top1_agreement",
    "num_rows",
    "num_positions",
    "dtype",
)


@dataclass(frozen=True)
class Base:
    """The checkpoint that was trained from.

    Args:
        name: The hub's, or the last part of a folder's path: no path of a machine is told.
        licence: What is known of it.
        revision: On the hub.
        sha256: Of the weight files, where they lay in a folder.
        quantization: In which it was trained, ``none`` for not.
    """

    name: str
    licence: Licence
    revision: str | None = None
    sha256: str | None = None
    quantization: str = "none"


@dataclass(frozen=True)
class CardFacts:
    """What a card is written from.

    Args:
        title: Name of the run.
        kind: An adapter, or a model with all its weights.
        task: The recipe's.
        method: ``lora``, ``qlora`` or ``full``.
        version: Of kft.
        base: The checkpoint.
        loading: How to load it.
        files: Name and sha256 of each data file.
        rows: What is known of the rows, in words, by name.
        recipe: The recipe's own values as YAML, without paths of a machine.
        result: Content of ``result.json``.
        verification: Content of ``verification.json``; ``None`` when nothing was compared.
    """

    title: str
    kind: Literal["adapter", "model"]
    task: str
    method: str
    version: str
    base: Base
    loading: Loading
    files: Sequence[tuple[str, str]] = ()
    rows: Mapping[str, str] = field(default_factory=dict)
    recipe: str = ""
    result: Mapping[str, Any] = field(default_factory=dict)
    verification: Mapping[str, Any] | None = None


def write_card(facts: CardFacts, folder: Path) -> Path:
    """Write ``README.md`` into a folder of weights; one that is there is replaced.

    Args:
        facts: Of its run.
        folder: Where the weights are.
    """
    path = folder / CARD
    path.write_text(card_text(facts), encoding="utf-8")
    return path


def card_text(facts: CardFacts) -> str:
    """The whole card, its front matter as the hub reads it.

    Example:
        >>> base = Base("skt/kogpt2-base-v2", Licence("CC BY-NC-SA 4.0", "cc-by-nc-sa-4.0", False))
        >>> loading = Loading("AutoModelForCausalLM", "causal_lm", base.name)
        >>> facts = CardFacts("first", "adapter", "causal_lm", "lora", "0.1.0", base, loading)
        >>> print(card_text(facts).splitlines()[1])
        base_model: skt/kogpt2-base-v2
    """
    parts = [
        f"---\n{_front_matter(facts)}\n---",
        f"# {_plain(facts.title)}\n\n{_opening(facts)}",
        *_warnings(facts),
        f"## How to load it\n\n{loading_text(facts.loading)}".rstrip(),
        f"## Base\n\n{_base(facts.base)}",
        _section("Data", _data(facts)),
        _section("Results", _results(facts.result)),
        _section(
            "Verification",
            _verification(facts.verification, facts.loading),
        ),
        _section("Recipe", f"```yaml\n{facts.recipe.strip()}\n```" if facts.recipe else ""),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _section(title: str, text: str) -> str:
    return f"## {title}\n\n{text}" if text else ""


def _front_matter(facts: CardFacts) -> str:
    licence = facts.base.licence
    other = licence.identifier == "other" and licence.name is not None
    method = {"lora": ["lora"], "qlora": ["lora", "qlora"], "full": []}[facts.method]
    # The hub takes a name of its own for a base, and no name of a folder.
    hub = licence.hub or (facts.base.name if "/" in facts.base.name else None)
    relation = "adapter" if facts.kind == "adapter" else "finetune"
    data = ModelCardData(
        language="ko",
        license=licence.identifier,
        license_name=_slug(str(licence.name)) if other else None,
        library_name=_library(facts),
        base_model=hub,
        base_model_relation=relation if hub else None,
        pipeline_tag=_PIPELINES[facts.task],
        tags=["kft", "korean", *method],
    )
    return str(data.to_yaml())


def _library(facts: CardFacts) -> str:
    if facts.loading.graph is not None:
        return "onnx"
    if facts.loading.gguf is not None:
        return "gguf"
    return "peft" if facts.kind == "adapter" else "transformers"


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", name.casefold()).strip("-")


def _opening(facts: CardFacts) -> str:
    what = "An adapter for" if facts.kind == "adapter" else "A model tuned from"
    how = {"lora": "LoRA", "qlora": "QLoRA", "full": "all weights"}[facts.method]
    return (
        f"{what} `{_code(facts.base.name)}`, trained to {_LEARNT[facts.task]} "
        f"(`task: {facts.task}`, {how}) with kft {facts.version}, which wrote this card."
    )


def _warnings(facts: CardFacts) -> list[str]:
    licence, lines = facts.base.licence, []
    if licence.commercial is False:
        lines.append(
            f"> **Not for commercial use**: the base's licence, {_plain(str(licence.name))}, "
            "doesn't allow it, and this is derived from the base."
        )
    elif licence.name is None:
        lines.append("> **The base's licence isn't known to kft.** Look it up before sharing this.")
    elif licence.commercial is None:
        lines.append(
            f"> The base's licence is {_plain(licence.name)}; read it before sharing this."
        )
    if facts.loading.prefix:
        lines.append("> **A prefix model**: loaded plainly it says something else, see below.")
    return lines


def _base(base: Base) -> str:
    licence = base.licence
    known = licence.name is not None
    rows = [
        ("checkpoint", f"`{_code(base.name)}`"),
        ("on the hub", f"`{licence.hub}`" if licence.hub not in (None, base.name) else ""),
        ("revision", f"`{_code(base.revision)}`" if base.revision else ""),
        ("sha256 of its weights", f"`{base.sha256}`" if base.sha256 else ""),
        ("trained in", f"`{base.quantization}`" if base.quantization != "none" else ""),
        ("licence", f"{licence.name} (from {licence.source})" if known else "not known"),
        ("commercial use", {True: "yes", False: "no", None: "not known"}[licence.commercial]),
    ]
    return _table(["", ""], [(name, value) for name, value in rows if value])


def _data(facts: CardFacts) -> str:
    files = [(f"`{_code(name)}`", f"`{sha[:16]}`") for name, sha in facts.files]
    rows = list(facts.rows.items())
    tables = [_table(["file", "sha256"], files) if files else ""]
    tables.append(_table(["", ""], rows) if rows else "")
    text = "\n\n".join(table for table in tables if table)
    return text and text + "\n\nThe licence of the data is not part of this card."


def _results(result: Mapping[str, Any]) -> str:
    base, tuned = result.get("base") or {}, result.get("tuned") or {}
    intervals = result.get("intervals") or {}
    rows = []
    for name, value in tuned.items():
        if not _is_measure(name, value) or not _is_measure(name, base.get(name)):
            continue
        found = intervals.get(name)
        ends = f"{_number(found['low'])} to {_number(found['high'])}" if found else ""
        difference = _number(value - base[name], signed=True)
        rows.append((name, _number(base[name]), _number(value), difference, ends))
    lost = _plain(str((result.get("forgetting") or {}).get("sentence", "")))
    if not rows:
        return lost
    header = ["held-out rows", "base", "tuned", "difference", "95 % interval"]
    headline = (result.get("headline") or {}).get("sentence")
    note = "Losses are in nats per target; intervals are of paired bootstrap resamples."
    told = _plain(str(headline)) if headline else ""
    return "\n\n".join(filter(None, [told, _table(header, rows), note, lost]))


def _is_measure(name: str, value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and not name.startswith(("num_", "majority_"))


def _verification(numbers: Mapping[str, Any] | None, loading: Loading) -> str:
    if not numbers or "passed" not in numbers:
        return ""
    rows = [(f"`{name}`", _value(numbers[name])) for name in _CHECKED if name in numbers]
    who = "one that was trained"
    if loading.graph is not None:
        who = "verified one that it was made from, onnxruntime against torch"
    if loading.gguf is not None:
        who = "verified one that it was made from, on the weights as they were rounded"
    said = (
        f"The saved model, loaded again from disk, was compared with the {who}, on held-out rows: "
        "logits, and nats of KL."
    )
    return f"{said}\n\n{_table(['', ''], rows)}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _value(value: Any) -> str:
    return _number(value) if isinstance(value, int | float) else f"`{_code(str(value))}`"


def _number(value: float, *, signed: bool = False) -> str:
    if isinstance(value, int):
        return f"{value:+,}" if signed else f"{value:,}"
    return f"{value:+.4g}" if signed else f"{value:.4g}"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")


def _plain(text: str) -> str:
    """A text in which Markdown and HTML see nothing of theirs."""
    return re.sub(r"([\\`*_\[\]<>#|])", r"\\\1", " ".join(text.split()))


def _code(text: str) -> str:
    """A text that stays inside its backticks."""
    return " ".join(text.replace("`", "'").split())
