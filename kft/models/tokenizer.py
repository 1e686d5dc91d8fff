"""A checkpoint's tokenizer: loaded, mended where its files are known to mislead, and told so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from kft.errors import Finding, ModelError
from kft.models.checkpoint_files import check_json
from kft.models.hub import find_hub
from kft.models.loader import check_name, unreadable
from kft.models.presets import Preset, recognise
from kft.models.remedies import build_instead, mend
from kft.models.tokenizer_files import Loading, TokenizerFiles
from kft.recipe.schema import ModelSection

_NAMES = ("tokenizer.json", "vocab.txt", "vocab.json")


@dataclass(frozen=True)
class OpenedTokenizer:
    """A tokenizer with what is known of it.

    Args:
        tokenizer: The transformers tokenizer.
        declared_class: The class that its files name, or ``None``.
        preset: The checkpoint's entry among the presets, or ``None``.
        findings: What was mended, a note each.
    """

    tokenizer: Any
    declared_class: str | None
    preset: Preset | None
    findings: tuple[Finding, ...]

    @property
    def published(self) -> str | None:
        """Hub name of the tokenizer that a checkpoint of these sizes was published with."""
        return self.preset.hub if self.preset is not None else None


def load_tokenizer(section: ModelSection) -> Any:
    """The tokenizer alone; as :func:`open_tokenizer`, for callers that have told its findings.

    Raises:
        ModelError: If there is no tokenizer, or it has no end token.
    """
    return open_tokenizer(section).tokenizer


def open_tokenizer(section: ModelSection) -> OpenedTokenizer:
    """The checkpoint's tokenizer, with its special tokens set and known traps mended.

    A padding token is set where there is none: padding is masked by position, never by id, so
    an end token that also pads still is a target.

    Args:
        section: The recipe's; ``tokenizer`` wins over ``name_or_path``.

    Raises:
        ModelError: If there is no tokenizer, or it has no end token.
    """
    place = section.tokenizer or section.name_or_path
    where = "`model.tokenizer`" if section.tokenizer else "`model.name_or_path`"
    check_name(place, where)
    folder = Path(place)
    if folder.is_dir() and not has_tokenizer(folder):
        raise ModelError(
            f"The checkpoint `{place}` has no tokenizer",
            where=where,
            expected="a `tokenizer.json`, a `vocab.txt` or a sentencepiece model in the folder",
            hint="`model.tokenizer` names a folder that has one.",
        )
    if not folder.is_dir():
        find_hub()
    revision = section.revision if section.tokenizer is None else None
    check_json(folder, ["config.json", "tokenizer_config.json"])
    files = TokenizerFiles.of(place, revision)
    preset = recognise(place, files.config)
    built = build_instead(files)
    if built is not None:
        tokenizer, findings = built
    else:
        tokenizer, findings = _load_as_declared(section, place, revision), []
    tokenizer, mended = mend(Loading(tokenizer, files, preset))
    if tokenizer.eos_token_id is None:
        raise ModelError(
            f"The tokenizer of `{place}` has no end token, so an answer could never end",
            where=where,
            expected="an `eos_token` in `tokenizer_config.json`",
        )
    told = _placed([*findings, *mended], place)
    return OpenedTokenizer(tokenizer, files.declared_class, preset, told)


def has_tokenizer(folder: Path) -> bool:
    """Whether the files of a tokenizer lie in the folder."""
    return (
        any((folder / name).is_file() for name in _NAMES)
        or any(folder.glob("*.model"))
        or any(folder.glob("tokenization_*.py"))
    )


def _load_as_declared(section: ModelSection, place: str, revision: str | None) -> Any:
    try:
        return AutoTokenizer.from_pretrained(
            place, revision=revision, trust_remote_code=section.trust_remote_code
        )
    except Exception as cause:  # tokenizers raises the bare class
        names = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"]
        check_json(Path(place), names)
        raise unreadable(section, "tokenizer", cause) from cause


def _placed(findings: Sequence[Finding], place: str) -> tuple[Finding, ...]:
    return tuple(Finding("note", finding.what, where=place) for finding in findings)
