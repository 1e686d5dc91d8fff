"""What the export tests share: held-out batches, and a trained adapter with its base."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_models import SENTENCES


@pytest.fixture(scope="session")
def held_out(tiny_tokenizer: Path) -> list[Any]:
    """Two batches of four Korean rows of different lengths, padded."""
    from transformers import AutoTokenizer

    from kft.tasks.causal_lm import CausalLM
    from kft.tasks.task import Example

    tokenizer = AutoTokenizer.from_pretrained(tiny_tokenizer)
    examples = []
    for number, line in enumerate(SENTENCES.read_text(encoding="utf-8").splitlines()[:8]):
        ids = tokenizer(line).input_ids[: 20 + 5 * number]
        examples.append(Example(ids, ids, f"sentences.txt:{number + 1}", line))
    return [CausalLM().collate(examples[start : start + 4], 3) for start in (0, 4)]


@pytest.fixture
def trained(tmp_path: Path) -> Callable[..., Any]:
    """`trained(checkpoint, adapter={}, model={}, dtype="float32", new_tokens=())`.

    Gives a namespace: `section`, `tokenizer`, `folder` (of the saved adapter), `reference` (the
    trained form, loaded from that folder onto `base`) and `base`, the second of its kind,
    without an adapter. Training is imitated: whatever can be trained is moved at random.
    """
    from types import SimpleNamespace

    import torch
    from transformers import AutoTokenizer

    from kft.models.adapters import add_adapter, attach_adapter
    from kft.models.loader import load_model
    from kft.models.vocabulary import fit_vocabulary
    from kft.recipe.schema import AdapterSection, ModelSection

    def make(
        checkpoint: Path,
        adapter: dict[str, Any] | None = None,
        model: dict[str, Any] | None = None,
        dtype: str = "float32",
        new_tokens: tuple[str, ...] = (),
    ) -> Any:
        section = ModelSection(name_or_path=str(checkpoint), **(model or {}))
        tokenizer = AutoTokenizer.from_pretrained(checkpoint)
        tokenizer.add_tokens(list(new_tokens))

        def base() -> tuple[Any, list[int]]:
            loaded = load_model(
                section,
                auto_class="AutoModelForCausalLM",
                dtype=getattr(torch, dtype),
                device=torch.device("cpu"),
            )
            return loaded, fit_vocabulary(loaded, tokenizer)

        folder = tmp_path / "adapter"
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")  # PEFT's remarks on tied and resized embeddings
            torch.manual_seed(7)
            learner, new_ids = base()
            learner = add_adapter(
                learner, AdapterSection(r=4, **(adapter or {})), "causal_lm", new_ids
            )
            generator = torch.Generator().manual_seed(7)
            for parameter in learner.parameters():
                if parameter.requires_grad:
                    noise = torch.randn(parameter.shape, generator=generator)
                    parameter.data.add_((0.05 * noise).to(parameter.dtype))
            learner.save_pretrained(str(folder))
            reference = attach_adapter(base()[0], folder)
        return SimpleNamespace(
            section=section,
            tokenizer=tokenizer,
            folder=folder,
            reference=reference,
            base=base()[0],
        )

    return make
