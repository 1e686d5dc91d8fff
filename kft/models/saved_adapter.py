"""Saved adapters: written, and looked at before the base's weights are loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from kft.errors import ModelError
from kft.models.checkpoint_files import check_json, check_tensor_file, is_adapter
from kft.models.loader import weights_sha256
from kft.models.quiet import without_hub_lookups

_KEY = "`adapter.start_from`"


def save_adapter(model: Any, folder: Path, weights: Mapping[str, Tensor] | None = None) -> None:
    """Write what ``PeftModel.from_pretrained`` loads.

    Args:
        model: A PEFT model.
        folder: Where to.
        weights: Its trained weights by the names of the module with its loss, where the model
            itself has parts of them only.
    """
    own = {name.removeprefix("model."): weight for name, weight in (weights or {}).items()}
    with without_hub_lookups():
        model.save_pretrained(str(folder), safe_serialization=True, state_dict=own or None)


def check_saved_adapter(folder: Path, base: str) -> None:
    """See that a saved LoRA can go on being trained on a base.

    Args:
        folder: What ``adapter.start_from`` names.
        base: Folder or hub name of the base.

    Raises:
        ModelError: If there is none, a file is broken, or kft's record beside it says that it
            was trained on other weights.
    """
    if not is_adapter(folder):
        inside = folder / "adapter"
        raise ModelError(
            f"There is no adapter in `{folder}`",
            where=_KEY,
            expected="a folder with `adapter_config.json` and `adapter_model.safetensors`",
            hint=f"`adapter.start_from={inside}` is this run's." if is_adapter(inside) else None,
        )
    check_json(folder, ["adapter_config.json", "kft_base.json"])
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    kind = config.get("peft_type") if isinstance(config, dict) else None
    if kind != "LORA":
        raise ModelError(
            f"The adapter in `{folder}` is of the type `{kind}`", where=_KEY, expected="`LORA`"
        )
    weights = folder / "adapter_model.safetensors"
    if weights.is_file() or not weights.with_suffix(".bin").is_file():
        check_tensor_file(weights)
    check_base(folder, base, where=_KEY)


def base_of_adapter(folder: Path) -> str:
    """``base_model_name_or_path`` of a saved adapter's configuration.

    Raises:
        ModelError: If it does not say.
    """
    check_json(folder, ["adapter_config.json"])
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    base = config.get("base_model_name_or_path") if isinstance(config, dict) else None
    if base is None:
        raise ModelError(
            f"The adapter in `{folder}` does not say which base it belongs to",
            where=str(folder / "adapter_config.json"),
            expected="`base_model_name_or_path` in it",
        )
    return str(base)


def check_base(folder: Path, base: str, *, where: str) -> None:
    """See that a base is the one that kft's record beside an adapter tells of, if there is one.

    Args:
        folder: The adapter's.
        base: Folder or hub name of the base.
        where: For the message.

    Raises:
        ModelError: If it has other weights.
    """
    record = folder / "kft_base.json"
    if not record.is_file():
        return
    trained_on = json.loads(record.read_text(encoding="utf-8"))
    wanted, found = trained_on.get("sha256"), weights_sha256(base)
    if wanted is not None and found is not None and wanted != found:
        raise ModelError(
            f"The adapter in `{folder}` was trained on another base than `{base}`",
            where=where,
            expected=f"weights with the sha256 {wanted[:12]}..., which were in "
            f"`{trained_on.get('name_or_path')}`; got {found[:12]}...",
        )
