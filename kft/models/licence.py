"""The licence of a checkpoint's weights: from its own card, or from the presets."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import metadata_load, try_to_load_from_cache

from kft.errors import Finding
from kft.models.presets import Preset, read_presets

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")

# Identifiers of the hub whose licences allow commercial use of weights without further conditions
# on who may use them. A licence that is neither here nor has `nc` in it is left to be read.
_COMMERCIAL = frozenset(
    {
        *("apache-2.0", "mit", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-3.0"),
        *("cc-by-sa-3.0", "bsd-2-clause", "bsd-3-clause", "unlicense", "isc", "wtfpl"),
    }
)


@dataclass(frozen=True)
class Licence:
    """What is known of a checkpoint's licence; no legal advice.

    Args:
        name: As its source writes it; ``None`` when nothing says.
        identifier: The hub's word for it (``apache-2.0``), or ``other``.
        commercial: Whether commercial use is allowed; ``None`` when that isn't known.
        source: Where it was read.
        hub: The checkpoint's name on the hub, where it is known.
    """

    name: str | None = None
    identifier: str | None = None
    commercial: bool | None = None
    source: str | None = None
    hub: str | None = None

    @property
    def finding(self) -> Finding | None:
        """What to tell before anything is trained or exported; ``None`` when nothing."""
        if self.commercial is not False:
            return None
        return Finding(
            "warning",
            f"The base's licence, {self.name}, doesn't allow commercial use; that holds for what "
            "is trained from it too",
            where=f"`{self.hub}`" if self.hub else self.source,
        )


def licence_findings(place: str) -> list[Finding]:
    """What a checkpoint's licence forbids; empty when nothing is known to be forbidden."""
    finding = licence_of(place).finding
    return [] if finding is None else [finding]


def licence_of(place: str) -> Licence:
    """The licence of a checkpoint.

    Its own card comes first (``README.md`` in its folder, or in the hub's cache: nothing is
    fetched), then the preset of its name. A preset of the same sizes is not asked: what was
    tuned from a checkpoint may have another licence.

    Args:
        place: A folder or a hub name.

    Example:
        >>> licence_of("skt/kogpt2-base-v2").commercial
        False
    """
    own = _card(place)
    named = _preset(place)
    preset = named or _preset(_text(own.get("base_model")) or "")
    hub = place if not Path(place).exists() and _HUB_NAME.fullmatch(place) else None
    hub = hub or (named.hub if named else None)
    identifier = _text(own.get("license"))
    if identifier is not None:
        name = _text(own.get("license_name")) or identifier
        commercial = commercial_use(identifier, name)
        if commercial is None and preset is not None:
            commercial = preset.commercial
        return Licence(name, identifier, commercial, "its own card", hub)
    if preset is not None and preset.licence is not None:
        source = f"kft's preset `{preset.name}`"
        return Licence(
            preset.licence, identifier_of(preset.licence), preset.commercial, source, hub
        )
    return Licence(hub=hub)


def identifier_of(name: str) -> str:
    """The hub's word for a licence's name.

    Example:
        >>> identifier_of("CC BY-NC-SA 4.0"), identifier_of("EXAONE 1.1 NC")
        ('cc-by-nc-sa-4.0', 'other')
    """
    word = re.sub(r"[^a-z0-9.]+", "-", name.casefold()).strip("-")
    is_known = word in _COMMERCIAL or re.fullmatch(r"cc-by(-nc)?(-nd|-sa)?-[0-9.]+", word)
    return word if is_known else "other"


def commercial_use(identifier: str, name: str) -> bool | None:
    """Whether a licence allows commercial use, as far as its words tell.

    Example:
        >>> [commercial_use(word, word) for word in ("mit", "cc-by-nc-4.0", "other")]
        [True, False, None]
    """
    if identifier in _COMMERCIAL:
        return True
    words = re.split(r"[^a-z0-9]+", f"{identifier} {name}".casefold())
    return False if "nc" in words or "noncommercial" in words else None


def _preset(place: str) -> Preset | None:
    """The preset of this very name; of a folder the name's last part counts."""
    wanted = (Path(place).name if Path(place).exists() else place).casefold()
    for preset in read_presets():
        hub = preset.hub.casefold()
        if wanted in {hub, hub.rpartition("/")[2]}:
            return preset
    return None


def _card(place: str) -> dict[str, Any]:
    """The front matter of a checkpoint's card; empty where there is none to read."""
    path: Any = Path(place) / "README.md"
    if not Path(place).is_dir():
        if not _HUB_NAME.fullmatch(place):
            return {}
        path = try_to_load_from_cache(place, "README.md")
        if not isinstance(path, str):
            return {}
    try:
        content = metadata_load(path) if Path(path).is_file() else None
    except (OSError, ValueError, yaml.YAMLError):  # people write these by hand
        return {}
    return content or {}


def _text(value: Any) -> str | None:
    """A text, or the first of a list of texts."""
    value = value[0] if isinstance(value, list) and value else value
    return value if isinstance(value, str) and value.strip() else None
