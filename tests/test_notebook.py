"""The notebook runs from its first cell to its last."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]


Printed = tuple[str, set[str]]


def executed(name: str) -> Printed:
    """What a notebook's cells printed, and the kinds of what they showed."""
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    resources = {"metadata": {"path": str(ROOT)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    data = [output.get("data", {}) for output in outputs]
    texts = [output.get("text", "") for output in outputs]
    texts += [one.get("text/plain", "") for one in data]
    return "\n".join(texts), {kind for one in data for kind in one}


# jupyter's own: the kernel's client warns about event loops and folders of older versions.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.mark.slow
def test_the_quickstart_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KFT_NOTEBOOK_RUN", str(tmp_path / "run"))
    monkeypatch.setenv("KFT_NOTEBOOK_STEPS", "20")
    printed, kinds = executed("quickstart")
    assert "step   20  loss" in printed
    assert "image/png" in kinds
    assert (tmp_path / "run" / "merged" / "verification.json").is_file()


@pytest.mark.slow
def test_the_classification_notebook_runs(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tiny_bert: Path,
    korean_rows: list[dict[str, str]],
) -> None:
    texts = [row[side] for row in korean_rows for side in ("prompt", "completion")]
    rows = "\n".join(f"{number}\t{text}\t{number % 2}" for number, text in enumerate(texts))
    for name in ("ratings_train.txt", "ratings_test.txt"):
        (tmp_path / name).write_text(f"id\tdocument\tlabel\n{rows}\n", encoding="utf-8")
    monkeypatch.setenv("KFT_NOTEBOOK_BASE", str(tiny_bert))
    monkeypatch.setenv("KFT_NOTEBOOK_NSMC", str(tmp_path))
    monkeypatch.setenv("KFT_NOTEBOOK_RUN", str(tmp_path / "run"))
    monkeypatch.setenv("KFT_NOTEBOOK_STEPS", "3")
    printed, kinds = executed("classification")
    assert "'label': '" in printed
    assert "image/png" in kinds


@pytest.mark.slow
def test_the_qlora_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KFT_NOTEBOOK_RUN", str(tmp_path / "run"))
    monkeypatch.setenv("KFT_NOTEBOOK_STEPS", "6")
    printed, _ = executed("qlora_instructions")
    assert "'passed': True" in printed
    assert "doesn't agree with the trained one" in printed


@pytest.mark.slow
def test_the_comparison_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KFT_NOTEBOOK_RUN", str(tmp_path / "runs"))
    monkeypatch.setenv("KFT_NOTEBOOK_STEPS", "4")
    _, kinds = executed("comparing_runs")
    assert {"image/png", "text/html"} <= kinds
    assert (tmp_path / "runs" / "comparison.html").is_file()
