"""``kft push``: a run's adapter or model to the Hugging Face hub, after saying what goes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, HfApi, ModelCard, get_token
from huggingface_hub.errors import HfHubHTTPError

from kft.api.export import verified_folder
from kft.api.opened import run_recipe, trained_part
from kft.errors import ExportError, Finding, UsageError
from kft.export.card import CARD
from kft.models.licence import licence_findings, licence_of
from kft.recipe.schema import Recipe

_REPO = re.compile(r"\w[\w.-]*/\w[\w.-]*")
# The first of the hub's own errors' parents is that of the HTTP library it is built on, which has
# changed from version to version.
_REFUSED: tuple[type[Exception], ...] = (HfHubHTTPError.__bases__[0], OSError)
_RECORDS = {"adapter_config.json": "base_model_name_or_path", "kft_base.json": "name_or_path"}
"""Files of an adapter that name its base, and under which key."""


@dataclass(frozen=True)
class Parcel:
    """What is sent.

    Args:
        repo: Name on the hub, ``owner/name``.
        folder: Where the files are.
        files: Path inside of ``folder`` -> size in bytes, of what is sent.
        changed: Path -> content, of files that are sent otherwise than they are here: those
            that name the base by a folder of this machine.
        private: Whether only its owner sees it.
        findings: What to know before it goes.
    """

    repo: str
    folder: Path
    files: dict[str, int]
    changed: dict[str, bytes]
    private: bool
    findings: tuple[Finding, ...] = ()


def push(
    run: str,
    repo: str,
    *,
    merged: bool = False,
    private: bool = True,
    base: str | None = None,
    on_parcel: Callable[[Parcel], bool] | None = None,
    hub: HfApi | None = None,
) -> str | None:
    """Send a run's adapter, or its verified model, to the hub in one commit.

    Args:
        run: The run folder.
        repo: ``owner/name``; made when it isn't there.
        merged: Send the merged model; of a run without an adapter its model is sent anyway.
        private: Whether only its owner sees a new repository. One that is public already is
            not written to unless this is false.
        base: The hub's name of an adapter's base, where that is a folder here.
        on_parcel: Told what would go; nothing does unless it returns true.
        hub: Who sends it; ``None`` is the hub, with the token of ``hf auth login``.

    Returns:
        Address of the commit; ``None`` when ``on_parcel`` kept it here.

    Raises:
        UsageError: If there is nothing to send, no token, or an adapter's base has no name that
            others know.
        ExportError: If the hub refuses or can't be reached.
    """
    parcel = pack(Path(run), repo, merged=merged, private=private, base=base)
    if on_parcel is not None and not on_parcel(parcel):
        return None
    hub = hub or _hub()
    operations = [
        CommitOperationAdd(name, parcel.changed.get(name) or str(parcel.folder / name))
        for name in parcel.files
    ]
    try:
        if hub.repo_exists(repo):
            _require_hidden(hub, parcel)
        else:
            hub.create_repo(repo, private=private, exist_ok=True)
        done = hub.create_commit(
            repo, operations, commit_message=f"{parcel.folder.name} of {Path(run).absolute().name}"
        )
    except _REFUSED as cause:
        raise ExportError(
            f"The hub didn't take it: {str(cause).strip().splitlines()[0]}",
            where=repo,
            expected="a network, and a token that may write there",
        ) from cause
    return str(done.commit_url)


def pack(
    run: Path, repo: str, *, merged: bool = False, private: bool = True, base: str | None = None
) -> Parcel:
    """Gather what :func:`push` would send; nothing is sent.

    Raises:
        UsageError: As :func:`push`.
    """
    recipe = run_recipe(run)
    if not _REPO.fullmatch(repo):
        raise UsageError(f"`{repo}` is no name on the hub", expected="`owner/name`")
    is_adapter = not merged and recipe.adapter.method != "full"
    folder = trained_part(run, "adapter") if is_adapter else verified_folder(run, recipe)
    files = {
        str(path.relative_to(folder)): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }
    changed = _renamed(folder, recipe, _public_base(recipe, base)) if is_adapter else {}
    files |= {name: len(content) for name, content in changed.items()}
    return Parcel(
        repo, folder, files, changed, private, tuple(licence_findings(recipe.model.name_or_path))
    )


def _public_base(recipe: Recipe, base: str | None) -> str:
    """The name by which others find the adapter's base."""
    place = recipe.model.name_or_path
    known = base or (licence_of(place).hub if Path(place).exists() else place)
    if known is None:
        raise UsageError(
            f"The adapter's base is the folder `{place}`, which nobody else has",
            expected="a base on the hub",
            hint="`--base owner/name` says where it is there, `--merged` sends the whole model.",
        )
    return known


def _renamed(folder: Path, recipe: Recipe, base: str) -> dict[str, bytes]:
    """The files that name the base by its folder here, with its public name instead."""
    place = recipe.model.name_or_path
    changed = {}
    for name, key in _RECORDS.items():
        path = folder / name
        if not path.is_file():
            continue
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.get(key) != base:
            content[key] = base
            changed[name] = _json(content)
    card = folder / CARD
    if Path(place).exists() and card.is_file():
        text = card.read_text(encoding="utf-8")
        written = ModelCard(text.replace(f"{Path(place).name!r},\n", f"{base!r},\n"))
        written.data["base_model"] = base
        if str(written) != text:
            changed[CARD] = str(written).encode()
    return changed


def _json(content: Any) -> bytes:
    return (json.dumps(content, ensure_ascii=False, indent=2) + "\n").encode()


def _hub() -> HfApi:
    token = get_token()
    if token is None:
        raise UsageError(
            "There is no token for the hub",
            expected="`HF_TOKEN` in the environment, or to be logged in",
            hint="`hf auth login`",
        )
    return HfApi(token=token)


def _require_hidden(hub: HfApi, parcel: Parcel) -> None:
    """Refuse to make public by the way what was to be private."""
    if parcel.private and not hub.repo_info(parcel.repo).private:
        raise UsageError(
            f"`{parcel.repo}` is there already, and everyone can read it",
            expected="a private repository, or a new one",
            hint="`--public` sends it all the same.",
        )
