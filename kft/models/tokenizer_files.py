"""The files that say what a checkpoint's tokenizer is, from a folder or the hub's cache."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers.utils import cached_file

from kft.models.presets import Preset

_SENTENCEPIECE = ("spiece.model", "tok.model", "tokenizer.model", "tokenizer_78b3253a26.model")
_CONFIGS = ("config.json", "bert_config.json")  # the second is what pre-training code leaves


@dataclass(frozen=True)
class TokenizerFiles:
    """What a checkpoint has beside its weights.

    Args:
        place: Folder or hub name.
        config: Content of ``config.json``; empty when there is none.
        settings: Content of ``tokenizer_config.json``; empty when there is none.
        tokenizer_json: The file of ``tokenizers``, if there is one.
        wordpieces: ``vocab.txt``, if there is one.
        sentencepiece: The sentencepiece model, if there is one.
    """

    place: str
    config: Mapping[str, Any]
    settings: Mapping[str, Any]
    tokenizer_json: Path | None
    wordpieces: Path | None
    sentencepiece: Path | None

    @classmethod
    def of(cls, place: str, revision: str | None = None) -> TokenizerFiles:
        """Look for them; on the hub each is fetched, or taken from the cache.

        Args:
            place: Folder or hub name.
            revision: On the hub.
        """

        def find(*names: str) -> Path | None:
            found = (_find(place, name, revision) for name in names)
            return next((path for path in found if path is not None), None)

        return cls(
            place=place,
            config=_content(find(*_CONFIGS)),
            settings=_content(find("tokenizer_config.json")),
            tokenizer_json=find("tokenizer.json"),
            wordpieces=find("vocab.txt"),
            sentencepiece=find(*_SENTENCEPIECE),
        )

    @property
    def declared_class(self) -> str | None:
        """The class that the files name."""
        name = self.settings.get("tokenizer_class") or self.config.get("tokenizer_class")
        return name if isinstance(name, str) else None

    @property
    def rows(self) -> int | None:
        """Rows of the model's embedding."""
        rows = self.config.get("vocab_size")
        return rows if isinstance(rows, int) else None


@dataclass(frozen=True)
class Loading:
    """A tokenizer on its way from the files to the user.

    Args:
        tokenizer: As loaded; a remedy may change it in place or put another in its stead.
        files: Of its checkpoint.
        preset: Its entry among the presets; ``None`` for a checkpoint that isn't listed.
    """

    tokenizer: Any
    files: TokenizerFiles
    preset: Preset | None


def _find(place: str, name: str, revision: str | None) -> Path | None:
    if Path(place).is_dir():
        path = Path(place) / name
        return path if path.is_file() else None
    try:
        found = cached_file(
            place,
            name,
            revision=revision,
            _raise_exceptions_for_gated_repo=False,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
    except OSError:  # no such repository: loading the tokenizer tells it
        return None
    return None if found is None else Path(found)


def _content(path: Path | None) -> Mapping[str, Any]:
    if path is None:
        return {}
    content = json.loads(path.read_text(encoding="utf-8"))
    return content if isinstance(content, dict) else {}
