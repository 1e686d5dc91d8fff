"""Korean checkpoints by name: the facts of ``presets.yaml``, read and checked.

Nothing here needs torch: ``kft presets`` answers at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from kft.errors import UsageError, nearest_name

Kind = Literal["encoder", "decoder"]
SpecialToken = Literal["bos", "eos", "unk", "pad", "sep", "cls", "mask"]

FILE = Path(__file__).with_name("presets.yaml")

TASKS: Mapping[Kind, tuple[str, ...]] = {
    "encoder": (
        "sequence_classification",
        "sequence_regression",
        "token_classification",
        "masked_lm",
        "causal_lm",
    ),
    "decoder": ("causal_lm", "sequence_classification", "sequence_regression"),
}
"""What a checkpoint of each kind can be tuned for, the usual one first."""


@dataclass(frozen=True)
class Preset:
    """One checkpoint. A value of ``None`` (or an empty one) is not known.

    Args:
        name: What kft calls it.
        hub: Its name on the hub.
        family: transformers' ``model_type``.
        kind: Whether its tokens see both sides.
        lora_targets: Names of every linear layer of its blocks.
        layers: Blocks.
        hidden: Width D.
        heads: Attention heads.
        kv_heads: Heads of keys and values, where they are fewer.
        intermediate: Width of the feed-forward layer.
        parameters: The publisher's count, or the one in the name.
        vocabulary: Rows V of the embedding.
        context: Tokens that a row may have.
        tied: The head is the embedding.
        licence: Of the weights.
        commercial: Whether it allows commercial use; ``None`` when it isn't known.
        template: What ``data.template`` should be.
        remedies: Names of what kft mends in its tokenizer.
        special_tokens: Role -> token, where its files leave it out.
        stop: Text that ends an answer.
        remote_code: It needs Python code of its own.
        notes: What is worth knowing, a sentence each.
        sources: Where the facts were read.
        unverified: Fields that were not read in a published file.
    """

    name: str
    hub: str
    family: str
    kind: Kind
    lora_targets: tuple[str, ...]
    layers: int | None = None
    hidden: int | None = None
    heads: int | None = None
    kv_heads: int | None = None
    intermediate: int | None = None
    parameters: int | None = None
    vocabulary: int | None = None
    context: int | None = None
    tied: bool = False
    licence: str | None = None
    commercial: bool | None = None
    template: str = "plain"
    remedies: tuple[str, ...] = ()
    special_tokens: Mapping[SpecialToken, str] = field(default_factory=dict)
    stop: tuple[str, ...] = ()
    remote_code: bool = False
    notes: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    unverified: tuple[str, ...] = ()

    @property
    def tasks(self) -> tuple[str, ...]:
        """What it can be tuned for, the usual task first."""
        return TASKS[self.kind]


@cache
def read_presets(path: Path = FILE) -> tuple[Preset, ...]:
    """Every preset, in the file's order.

    Raises:
        ValueError: If the file says something that a preset can't be, or a name twice.
    """
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    entries = yaml.load(path.read_text(encoding="utf-8"), loader)  # noqa: S506 -- a safe loader
    presets = tuple(_preset(entry) for entry in entries)
    for what in ("name", "hub"):
        names = [getattr(preset, what).casefold() for preset in presets]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{path.name}: `{twice[0]}` is there twice")
    return presets


def find_preset(name: str) -> Preset:
    """The preset of a name: kft's own, the hub's, or the last part of the hub's.

    Raises:
        UsageError: If there is none; names the nearest.

    Example:
        >>> find_preset("skt/kogpt2-base-v2").name
        'kogpt2'
    """
    preset = _named(name)
    if preset is not None:
        return preset
    known = {preset.name: preset.name for preset in read_presets()}
    known |= {preset.hub.casefold(): preset.name for preset in read_presets()}
    meant = nearest_name(name.casefold(), known)
    raise UsageError(
        f"Unknown preset `{name}`",
        expected="a name that `kft presets` lists, or any folder or hub name as a model",
        hint=f"Did you mean `{known[meant]}`?" if meant else None,
    )


def recognise(place: str, config: Mapping[str, Any]) -> Preset | None:
    """The preset of a checkpoint, by its name or else by its sizes.

    Args:
        place: Folder or hub name.
        config: Content of its ``config.json``; may be empty.

    Returns:
        ``None`` for a checkpoint that isn't listed. Of several of the same sizes (a base and
        what was tuned from it), the first.
    """
    preset = _named(Path(place).name if Path(place).exists() else place)
    if preset is not None:
        return preset
    given = (
        config.get("model_type"),
        config.get("vocab_size"),
        _first(config, "hidden_size", "n_embd"),
        _first(config, "num_hidden_layers", "n_layer", "num_layers"),
    )
    if None in given:
        return None
    for preset in read_presets():
        if given == (preset.family, preset.vocabulary, preset.hidden, preset.layers):
            return preset
    return None


def _named(name: str) -> Preset | None:
    wanted = name.casefold()
    for preset in read_presets():
        hub = preset.hub.casefold()
        if wanted in {preset.name.casefold(), hub, hub.rpartition("/")[2]}:
            return preset
    return None


def _first(config: Mapping[str, Any], *names: str) -> Any:
    return next((config[name] for name in names if name in config), None)


_FIELDS = {field.name: field for field in fields(Preset)}
_LISTS = ("lora_targets", "remedies", "stop", "notes", "sources", "unverified")
_NUMBERS = ("layers", "hidden", "heads", "kv_heads", "intermediate", "vocabulary", "context")
_TEXTS = ("name", "hub", "family", "kind", "licence", "template")
_FLAGS = ("tied", "remote_code")


def _preset(entry: Any) -> Preset:
    """An entry of the file as a preset; raises ValueError at the first wrong value."""
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise ValueError(f"A preset is a mapping with a name, got {entry!r}")
    name = entry["name"]
    values = dict(entry)
    for key, value in entry.items():
        if key not in _FIELDS:
            raise ValueError(f"`{name}`: unknown field `{key}`")
        if not _is_right(key, value):
            raise ValueError(f"`{name}`: `{key}` can't be {value!r}")
        if key in _LISTS:
            values[key] = tuple(value)
    if "commercial" not in entry:
        raise ValueError(f"`{name}`: `commercial` is missing")
    values["commercial"] = None if entry["commercial"] == "unknown" else entry["commercial"]
    if "parameters" in entry:
        values["parameters"] = _count(entry["parameters"])
    missing = [key for key in ("hub", "family", "kind", "lora_targets") if key not in entry]
    if missing:
        raise ValueError(f"`{name}`: `{missing[0]}` is missing")
    unknown = [key for key in values.get("unverified", ()) if key not in entry]
    if unknown:
        raise ValueError(f"`{name}`: `{unknown[0]}` is unverified and not given")
    return Preset(**values)


def _is_right(key: str, value: Any) -> bool:
    if key in _LISTS:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if key in _NUMBERS:
        return type(value) is int and value > 0
    if key == "kind":
        return value in get_args(Kind)
    if key in _TEXTS:
        return isinstance(value, str) and value != ""
    if key in _FLAGS:
        return isinstance(value, bool)
    if key == "commercial":
        return isinstance(value, bool) or value == "unknown"
    if key == "special_tokens":
        return isinstance(value, dict) and set(value) <= set(get_args(SpecialToken))
    return isinstance(value, str) and value[-1] in _UNITS  # parameters


_UNITS = {"M": 10**6, "B": 10**9}


def _count(text: str) -> int:
    """``125M`` as a number."""
    return round(float(text[:-1]) * _UNITS[text[-1]])
