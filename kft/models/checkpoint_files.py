"""The files of a local checkpoint: are they there, and whole? No weight is read."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError

from safetensors import SafetensorError, safe_open

from kft.errors import ModelError

_WEIGHTS = (  # in the order in which transformers prefers them
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_CALLED = re.compile(r"GLOBAL (\S+)")


def check_config_file(folder: Path, where: str) -> None:
    """See that the folder is a checkpoint's.

    Args:
        folder: A local folder.
        where: The recipe's key, for the message.

    Raises:
        ModelError: If there is no ``config.json``, or it is not JSON.
    """
    if not (folder / "config.json").is_file():
        adapter = next(
            (path for path in (folder, folder / "adapter") if is_adapter(path)),
            None,
        )
        raise ModelError(
            f"There is no `config.json` in `{folder}`",
            where=where,
            expected="a checkpoint's folder",
            hint=f"`adapter.start_from: {adapter}` goes on training that adapter; "
            "`model.name_or_path` names its base."
            if adapter
            else None,
        )
    check_json(folder, ["config.json"])


def is_adapter(folder: Path) -> bool:
    """Whether a saved adapter lies in the folder."""
    return (folder / "adapter_config.json").is_file()


def weight_file_bytes(folder: Path) -> int:
    """Bytes of a local checkpoint's weight files; 0 for the hub's, which aren't here yet."""
    files = list(folder.glob("*.safetensors")) or list(folder.glob("pytorch_model*.bin"))
    return sum(path.stat().st_size for path in files)


def check_json(folder: Path, names: Sequence[str]) -> None:
    """Parse those of the files that are there.

    Raises:
        ModelError: If one is not JSON.
    """
    for path in [folder / name for name in names if (folder / name).is_file()]:
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as cause:
            raise ModelError(
                f"`{path.name}` is not JSON: {cause.msg}",
                where=f"{path}:{cause.lineno}",
                expected="the file as it was saved; this one may be cut off",
            ) from cause
        except UnicodeDecodeError as cause:
            raise ModelError(
                f"`{path.name}` is not text", where=str(path), expected="JSON in UTF-8"
            ) from cause


def check_weight_files(folder: Path) -> None:
    """See that the weights are there and whole, from the beginning of each file.

    Raises:
        ModelError: If a file is missing, cut off or damaged, or a git-lfs pointer.
    """
    main = next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)
    if main is None:
        raise ModelError(
            f"There are no weights in `{folder}`",
            where="`model.name_or_path`",
            expected="`model.safetensors` or `pytorch_model.bin` beside `config.json`",
        )
    for path in [main] if main.suffix != ".json" else _parts(main):
        check_tensor_file(path)


def check_tensor_file(path: Path) -> None:
    """See that one file of weights is there and whole.

    Raises:
        ModelError: If not.
    """
    if not path.is_file():
        raise ModelError("A file of the weights is missing", where=str(path))
    with path.open("rb") as file:
        head = file.read(len(b"version https://git-lfs"))
    if head == b"version https://git-lfs":
        raise ModelError(
            "The weights were not fetched: the file is a git-lfs pointer",
            where=str(path),
            expected="the weights themselves",
            hint=f"`git -C {path.parent} lfs pull` fetches them.",
        )
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt"):
                pass
        except SafetensorError as cause:
            raise _damaged(path, str(cause)) from cause
    elif not head or (head.startswith(b"PK") and not zipfile.is_zipfile(path)):
        raise _damaged(path, "its end is missing")


def is_pickled(folder: Path) -> bool:
    """Whether the weights of a local folder are read from a pickle (``weights_only=True``)."""
    return any(folder.glob("pytorch_model*.bin")) and not any(folder.glob("*.safetensors"))


def _damaged(path: Path, why: str) -> ModelError:
    return ModelError(
        f"The file of weights is damaged: {why}",
        where=str(path),
        expected="the whole file; this one may be cut off",
        hint="Copy or download it again.",
    )


def refused_pickle(folder: str, cause: UnpicklingError) -> ModelError:
    """The error for a ``.bin`` file that torch won't read as tensors alone."""
    called = _CALLED.search(str(cause))
    return ModelError(
        f"The weights in `{folder}` would call `{called[1]}` when they are read"
        if called
        else f"The weights in `{folder}` are damaged, or not tensors alone",
        where=folder,
        expected="a `.bin` file of tensors alone, or safetensors; kft runs nothing that a "
        "checkpoint brings",
    )


def _parts(index: Path) -> list[Path]:
    check_json(index.parent, [index.name])
    content = json.loads(index.read_text(encoding="utf-8"))
    names = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(names, dict) or not names:
        raise ModelError("The index of the weights names no file", where=str(index))
    return [index.parent / str(name) for name in sorted(set(names.values()))]
