"""What a merged folder says of itself to people, where its files alone would mislead them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kft.models.decoders import is_prefix

_PREFIX = """\
# A prefix model

In this model the tokens of a prompt see each other in both directions, and those of the answer
see what is before them (`kft_attention: prefix` in `config.json`). transformers knows no such
model: loaded plainly, every token sees only its left, and the answers are others than the ones
that were trained and verified. Use it with

    kft generate FOLDER --prompt TEXT
"""


def write_card(model: Any, folder: Path) -> None:
    """Write ``README.md`` into a prefix model's folder; other models load as they are.

    Args:
        model: The model that was saved.
        folder: Where it was saved.
    """
    if is_prefix(model.config):
        (folder / "README.md").write_text(_PREFIX, encoding="utf-8")
