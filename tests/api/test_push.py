"""Pushing to the hub: what goes, and what is refused; the hub is an object that is passed in."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from huggingface_hub import CommitOperationAdd, HfApi, ModelCard, get_token

import kft
from kft.api.push import Parcel, pack, push
from kft.cli.main import run_words
from kft.errors import ExportError, UsageError

if TYPE_CHECKING:
    from conftest import RecipeFile

WORDS = ["서울의", "가을은", "하늘이", "높고", "바람이"]
ROWS = [{"prompt": WORDS[at % 5], "completion": WORDS[at % 4]} for at in range(20)]


class FakeHub:
    """What of `HfApi` a push asks for; notes what it was given."""

    def __init__(self, *, exists: bool = False, private: bool = True, fails: bool = False) -> None:
        self.exists, self.private, self.fails = exists, private, fails
        self.created: list[tuple[str, bool]] = []
        self.sent: dict[str, bytes] = {}

    def repo_exists(self, repo: str) -> bool:
        assert repo == "me/mine"
        return self.exists

    def repo_info(self, repo: str) -> Any:
        assert self.repo_exists(repo)
        return SimpleNamespace(private=self.private)

    def create_repo(self, repo: str, *, private: bool, exist_ok: bool) -> None:
        assert exist_ok
        self.created.append((repo, private))

    def create_commit(
        self, repo: str, operations: list[CommitOperationAdd], *, commit_message: str
    ) -> Any:
        if self.fails:
            raise OSError("403 Forbidden\nmore")
        for operation in operations:
            with operation.as_file() as file:
                self.sent[operation.path_in_repo] = file.read()
        return SimpleNamespace(commit_url=f"https://hub.example/{repo}/{commit_message}")


@pytest.fixture
def run(tiny_gpt: Path, recipe_file: RecipeFile) -> kft.Run:
    keys = {"train.max_steps": 1, "data.max_length": 48}
    return kft.finetune(recipe_file(tiny_gpt, ROWS, keys))


def test_an_adapter_goes_in_one_commit_with_its_bases_public_name(
    run: kft.Run, tiny_gpt: Path
) -> None:
    place = str(run.folder)
    with pytest.raises(UsageError, match="which nobody else has"):
        push(place, "me/mine", hub=FakeHub())  # type: ignore[arg-type]
    hub = FakeHub()
    address = push(place, "me/mine", base="me/tiny", hub=hub)  # type: ignore[arg-type]
    assert address == "https://hub.example/me/mine/adapter of run"
    assert hub.created == [("me/mine", True)]
    here = {path.name for path in (run.folder / "adapter").iterdir()}
    assert set(hub.sent) == here
    weights = (run.folder / "adapter" / "adapter_model.safetensors").read_bytes()
    assert hub.sent["adapter_model.safetensors"] == weights
    config = json.loads(hub.sent["adapter_config.json"])
    assert config["base_model_name_or_path"] == "me/tiny"
    assert config["r"] == 4
    assert json.loads(hub.sent["kft_base.json"])["name_or_path"] == "me/tiny"
    card = ModelCard(hub.sent["README.md"].decode())
    assert card.data.base_model == "me/tiny"
    assert "    'me/tiny',\n" in card.text
    # No folder of this machine is told.
    for name, content in hub.sent.items():
        if not name.endswith(".safetensors"):
            assert str(tiny_gpt.parent).encode() not in content, name
            assert str(run.folder.parent).encode() not in content, name
    # Here everything stays as it was.
    local = json.loads((run.folder / "adapter" / "adapter_config.json").read_text())
    assert local["base_model_name_or_path"] == str(tiny_gpt)


def test_a_merged_model_needs_no_base_and_what_is_public_is_not_written_to(
    run: kft.Run, tiny_gpt: Path
) -> None:
    place = str(run.folder)
    hub = FakeHub(exists=True)
    push(place, "me/mine", merged=True, hub=hub)  # type: ignore[arg-type]
    assert hub.created == []
    assert {"model.safetensors", "verification.json", "README.md", "config.json"} <= set(hub.sent)
    assert all(str(tiny_gpt).encode() not in content for content in hub.sent.values())
    public = FakeHub(exists=True, private=False)
    with pytest.raises(UsageError, match="everyone can read it"):
        push(place, "me/mine", merged=True, hub=public)  # type: ignore[arg-type]
    assert public.sent == {}
    push(place, "me/mine", merged=True, private=False, hub=public)  # type: ignore[arg-type]
    assert "model.safetensors" in public.sent
    closed = HfApi(token="hf_x", endpoint="http://127.0.0.1:9")  # where nobody listens
    with pytest.raises(ExportError, match="The hub didn't take it") as refused:
        push(place, "me/mine", merged=True, hub=closed)
    assert refused.value.exit_code == 1
    with pytest.raises(ExportError, match="The hub didn't take it: 403 Forbidden\n"):
        push(place, "me/mine", merged=True, hub=FakeHub(fails=True))  # type: ignore[arg-type]
    kept: list[Parcel] = []

    def keep(parcel: Parcel) -> bool:
        kept.append(parcel)
        return False

    untouched = FakeHub()
    assert push(place, "me/mine", merged=True, on_parcel=keep, hub=untouched) is None  # type: ignore[arg-type]
    assert (untouched.created, untouched.sent) == ([], {})
    assert set(kept[0].files) == set(hub.sent)


def test_the_command_shows_what_would_go_and_refuses_without_a_token(
    run: kft.Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["push", str(run.folder), "me/mine", "--base", "me/tiny"]
    assert run_words([*words, "--dry-run"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "to `me/mine`, only its owner sees it:" in err
    assert "adapter_model.safetensors" in err
    lines = {line.split()[0]: line for line in err.splitlines() if line.strip()}
    assert lines["adapter_config.json"].endswith("with the base's name on the hub")
    assert run_words([*words, "--dry-run", "--public"]) == 0
    assert "everyone can read it" in capsys.readouterr().err
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    if get_token() is not None:
        pytest.skip("this machine is logged in at the hub")
    assert run_words(words) == 2
    assert "There is no token for the hub" in capsys.readouterr().err
    assert run_words(["push", str(run.folder), "me/mine/x", "--merged"]) == 2
    assert "is no name on the hub" in capsys.readouterr().err


def test_there_must_be_something_to_send(run: kft.Run) -> None:
    for name in ("verification.json", "config.json"):
        (run.folder / "merged" / name).unlink()
    with pytest.raises(UsageError, match="has no merged model yet"):
        pack(run.folder, "me/mine", merged=True)
