"""What is written, loaded by llama.cpp itself: the same tokens, logits and greedy answers."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import RecipeFile

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
PROMPTS = [{"prompt": "하늘이 " + "높고 " * (at % 3), "completion": "바람이 분다"[: 2 + at % 4]}
           for at in range(20)]  # fmt: skip


@pytest.fixture(scope="module")
def check() -> ModuleType:
    """benchmarks/gguf_check.py, which measures the same for docs/evidence/gguf.md."""
    pytest.importorskip("llama_cpp", reason="llama-cpp-python isn't installed")
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        spec = importlib.util.spec_from_file_location(
            "gguf_check", ROOT / "benchmarks" / "gguf_check.py"
        )
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
    return module


@pytest.fixture(autouse=True)
def from_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_models(check: ModuleType) -> None:
    from transformers import AutoTokenizer

    source, given = check.texts()
    tokenizer = AutoTokenizer.from_pretrained(check.CHECKPOINT)
    assert len(given) == 1000, source
    seen = []
    for name, model in check.models():
        exact, cached, half, coarse = check.check_model(model, tokenizer, given)
        has_gelu = name.startswith("GPT")  # from a table of float16
        for row in (exact, cached, half, coarse):
            assert row["tokens"]["alike"] == 1000, (name, row["tokens"]["first"])
        assert exact["logits"]["largest"] < (1e-2 if has_gelu else 1e-4), name
        assert exact["logits"]["kl_nats"] < (1e-6 if has_gelu else 1e-10), name
        assert exact["logits"]["top1"] > 0.995, name
        assert exact["greedy"]["alike"] == exact["greedy"]["answers"], name
        assert cached["logits"]["largest"] < 0.05, name
        assert half["logits"]["kl_nats"] < 1e-5, name
        assert coarse["logits"]["kl_nats"] < 5e-3, name
        seen.append(name.split(",")[0])
    assert {"Llama", "Mistral", "Qwen2", "Qwen3", "GPT-NeoX"} < set(seen)
    assert len(seen) == 9


def test_vocabularies(check: ModuleType) -> None:
    _, given = check.texts()
    verdicts = {name: check.verdict(make, given) for name, make in check.made_vocabularies(given)}
    taken = [name for name, one in verdicts.items() if "refused" not in one]
    assert len(taken) >= 7, verdicts
    for name in taken:
        one = verdicts[name]
        assert one["tokens"]["alike"] == one["tokens"]["texts"], (name, one["tokens"])
        assert one["odd"]["alike"] == one["odd"]["texts"], (name, one["odd"])
        # NFC is what llama.cpp lacks: with it decomposed texts give other ids, without it the same.
        assert (one["decomposed"]["alike"] == 100) == (not one["composes"]), name


def test_a_tokenizer_that_is_refused_would_have_given_other_tokens(
    check: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twin of the test above: what is refused for its spaces isn't equal when it is let through."""
    from kft.export import gguf_tokenizer

    _, given = check.texts()
    make = dict(check.made_vocabularies(given))[
        "the same, as transformers 5 makes a Llama tokenizer"
    ]
    assert "refused" in check.verdict(make, given)
    steps = gguf_tokenizer._steps

    def pretended(part: Any, key: str) -> list[Any]:
        return gguf_tokenizer._PREFIXED if key == "normalizers" else steps(None, key)

    monkeypatch.setattr(gguf_tokenizer, "_steps", pretended)
    one = check.verdict(make, given)
    assert one["odd"]["alike"] < one["odd"]["texts"]


def test_the_code_in_a_card_runs_as_it_stands(
    check: ModuleType,
    recipe_file: RecipeFile,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import torch

    import kft

    more = {"train.max_steps": 2, "data.max_length": 48, "data.template": "koalpaca"}
    run = kft.finetune(recipe_file(ROOT / check.CHECKPOINT, PROMPTS, more))
    folder = run.export("gguf", dtype="float32")
    card = (folder / "README.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", card, re.DOTALL)
    assert code is not None
    monkeypatch.chdir(folder)
    capsys.readouterr()
    exec(code[1], {})  # noqa: S102 -- the code that people are told to run
    told = capsys.readouterr().out.rstrip("\n")
    # The start token stands once before the turns, as it did in training.
    turns = [{"role": "user", "content": "서울의 가을은 어때요?"}]
    rows = [run.tokenizer.apply_chat_template(turns, add_generation_prompt=True)["input_ids"]]
    assert rows[0][0] == run.tokenizer.bos_token_id
    made = run.model.generate(
        input_ids=torch.tensor(rows),
        attention_mask=torch.ones(1, len(rows[0]), dtype=torch.int64),
        max_new_tokens=64,
        do_sample=False,
        eos_token_id=run.tokenizer.eos_token_id,
        pad_token_id=run.tokenizer.pad_token_id,
    )[0, len(rows[0]) :]
    assert told == run.tokenizer.decode(made, skip_special_tokens=True)
