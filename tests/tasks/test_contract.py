"""What every task must hold: one battery, on tiny encoders and decoders."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from kft.data.named_templates import TEMPLATES
from kft.data.templates import TemplateRenderer
from kft.export.merge import fold_adapter, load_adapter, plain_base, save_merged
from kft.export.rounding import rounding_limits
from kft.export.verify import verify_folder
from kft.models.adapters import add_adapter
from kft.models.attention import use_document_attention
from kft.models.decoders import as_decoder, is_encoder
from kft.models.heads import HeadOptions, new_modules, trained_in_full
from kft.models.loader import clean_generation_config, load_model_with_head
from kft.models.logits import logits_from
from kft.recipe.schema import AdapterSection, ModelSection, TaskName
from kft.tasks import inputs
from kft.tasks.inputs import plain_model
from kft.tasks.registry import TASKS, choose_task
from kft.tasks.task import Batch, EncodeOptions, Example, Record, Task

SENTENCES = (Path(__file__).parents[1] / "assets" / "sentences.txt").read_text("utf-8")
LINES = SENTENCES.splitlines()

CASES = [
    ("causal_lm", "tiny_gpt", "causal"),
    ("causal_lm", "tiny_bert", "causal"),
    ("causal_lm", "tiny_bert", "prefix"),
    ("causal_lm", "tiny_roberta", "prefix"),
    ("causal_lm", "tiny_electra", "prefix"),
    ("sequence_classification", "tiny_bert", "causal"),
    ("sequence_classification", "tiny_roberta", "causal"),
    ("sequence_classification", "tiny_electra", "causal"),
    ("sequence_classification", "tiny_gpt", "causal"),
    ("sequence_classification", "tiny_llama", "causal"),
    ("several classes", "tiny_bert", "causal"),
    ("sequence_regression", "tiny_bert", "causal"),
    ("sequence_regression", "tiny_neox", "causal"),
    ("token_classification", "tiny_bert", "causal"),
    ("token_classification", "tiny_roberta", "causal"),
    ("masked_lm", "tiny_bert", "causal"),
    ("masked_lm", "tiny_electra", "causal"),
    ("masked_lm", "tiny_roberta", "causal"),
]
LABELS = {
    "sequence_classification": ("부정", "긍정", "모름"),
    "several classes": ("욕설", "차별", "비꼼"),
    "token_classification": ("O", "B-PS", "I-PS"),
}


def record(kind: str, number: int) -> Record:
    words = LINES[number].split()[: 2 + 2 * (number % 4)]
    place, text = f"rows:{number + 1}", " ".join(words)
    if kind == "causal_lm":
        turns = [("user", words[0]), ("assistant", text), ("user", "왜"), ("assistant", words[-1])]
        return Record(place, messages=tuple({"role": a, "content": b} for a, b in turns))
    if kind == "token_classification":
        tags = tuple(LABELS[kind][at % 3] for at in range(len(words)))
        return Record(place, tokens=tuple(words), tags=tags)
    if kind == "several classes":
        return Record(place, text=text, label_ids=(number % 3, 2) if number % 2 else ())
    if kind == "sequence_regression":
        return Record(place, text=text, text_pair=LINES[number + 1], value=number / 3)
    pair = LINES[number + 1] if kind == "sequence_classification" else None
    return Record(place, text=text, text_pair=pair, label=number % 3)


class Case:
    """A task with a model that can do it, and eight rows of different lengths."""

    def __init__(self, kind: str, folder: Path, attention: str) -> None:
        self.kind = kind
        self.name = "sequence_classification" if kind == "several classes" else kind
        self.section = ModelSection(name_or_path=str(folder), attention=attention)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        labels = LABELS.get(kind, ())
        task = TASKS[self.name]
        self.head = HeadOptions(task.head, labels, kind == "several classes", 7)
        self.model, self.new, _ = self.load()
        if is_encoder(self.model.config) and task.answers_in_text:
            as_decoder(self.tokenizer)
        clean_generation_config(self.model, self.tokenizer)
        self.task: Task = choose_task(self.name, attention, self.tokenizer)
        renderer = TemplateRenderer(self.tokenizer, TEMPLATES["plain"])
        options = EncodeOptions(100, "truncate", labels)
        self.examples: list[Example] = [
            example
            for number in range(8)
            for example in self.task.encode(record(kind, number), self.tokenizer, renderer, options)
        ]

    def load(self) -> tuple[Any, list[str], Any]:
        return load_model_with_head(
            self.section,
            auto_class=TASKS[self.name].auto_class,
            dtype=torch.float32,
            device=torch.device("cpu"),
            head=self.head,
        )

    def collate(self, examples: Sequence[Example]) -> Batch:
        return self.task.collate(examples, self.tokenizer.pad_token_id)

    def module(self, model: Any | None = None) -> Any:
        model = model or self.model
        return self.task.with_loss(model, logits_from=logits_from(model))


@pytest.fixture(params=CASES, ids=["-".join(case) for case in CASES])
def case(request: pytest.FixtureRequest) -> Case:
    kind, checkpoint, attention = request.param
    return Case(kind, request.getfixturevalue(checkpoint), attention)


def test_every_task_of_the_schema_is_here() -> None:
    names = set(TaskName.__args__)  # type: ignore[attr-defined]
    assert names == set(TASKS)
    assert names <= {name for name, _, _ in CASES}


def test_a_loss_goes_forward_and_back(case: Case) -> None:
    module = case.module()
    module.train()
    module.requires_grad_(True)
    batch = case.collate(case.examples)
    loss = module(batch)
    assert loss.total.dtype == torch.float32
    assert int(loss.count) == batch.num_counted > 0
    loss.total.backward()
    heads = [p for name, p in module.named_parameters() if "bias" not in name]
    assert sum(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in heads) > 10


def test_the_parts_of_a_window_add_up_to_the_whole(case: Case) -> None:
    module = case.module().eval()
    with torch.no_grad():
        whole = module(case.collate(case.examples))
        parts = [module(case.collate([example])) for example in case.examples]
        rows = module.row_losses(case.collate(case.examples))
    assert int(whole.count) == sum(int(part.count) for part in parts)
    total = sum(float(part.total) for part in parts)
    assert float(whole.total) == pytest.approx(total, rel=1e-5)
    assert [float(part.total) for part in parts] == pytest.approx(rows.total.tolist(), rel=1e-4)
    assert [int(part.count) for part in parts] == rows.count.tolist()


def test_padding_on_the_left_says_the_same(case: Case) -> None:
    if case.name == "causal_lm":
        pytest.skip("its batches are padded on the right, and its prompts by generation")
    batch = case.collate(case.examples)
    assert batch.attention_mask is not None
    lengths = batch.attention_mask.sum(1).tolist()

    def to_the_left(values: torch.Tensor | None) -> torch.Tensor | None:
        if values is None or values.shape != batch.input_ids.shape:
            return values
        rows = [row.roll(len(row) - length) for row, length in zip(values, lengths, strict=True)]
        return torch.stack(rows)

    labels = to_the_left(batch.labels)
    mask, ids = to_the_left(batch.attention_mask), to_the_left(batch.input_ids)
    assert labels is not None
    assert ids is not None
    other = replace(
        batch,
        input_ids=ids,
        labels=labels,
        attention_mask=mask,
        token_type_ids=to_the_left(batch.token_type_ids),
    )
    module = case.module().eval()
    with torch.no_grad():
        right, left = module.row_losses(batch), module.row_losses(other)
    torch.testing.assert_close(left.total, right.total, atol=1e-5, rtol=1e-4)
    assert torch.equal(left.count, right.count)


def test_documents_in_one_row_say_the_same_as_padded_ones(case: Case) -> None:
    packed = case.task.collate(case.examples, 0, packed=True)
    assert packed.input_ids.shape == (1, packed.num_tokens)
    module = case.module().eval()
    with torch.no_grad():
        padded = module.row_losses(case.collate(case.examples))
        together = module.row_losses(packed)
        assert packed.num_counted == int(module(packed).count)
    torch.testing.assert_close(together.total, padded.total, atol=1e-5, rtol=1e-4)
    assert torch.equal(together.count, padded.count)


@pytest.mark.parametrize("by_document", [True, False])
def test_a_row_that_is_filled_up_says_and_teaches_the_same(
    case: Case, by_document: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by_document and not use_document_attention(case.model):
        pytest.skip("it attends with a mask")
    packed = case.task.collate(case.examples, 0, packed=True)
    module = case.module().eval()
    module.requires_grad_(True)
    plain, slopes = said_and_taught(module, packed)
    monkeypatch.setattr(inputs, "_is_half_on_cpu", lambda *_: True)
    monkeypatch.setattr(inputs, "filled", lambda number: number + 5)
    shape = inputs.model_inputs(plain_model(case.model), packed)["input_ids"].shape
    assert shape == (1, packed.num_tokens + 5)
    again, slopes_again = said_and_taught(module, packed)
    torch.testing.assert_close(again, plain, atol=1e-5, rtol=1e-4)
    for one, other in zip(slopes_again, slopes, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


def said_and_taught(module: Any, batch: Batch) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Each row's loss, and the gradients of the whole."""
    module.zero_grad()
    module(batch).total.backward()
    with torch.no_grad():
        rows = module.row_losses(batch).total
    return rows, [p.grad.clone() for p in module.parameters() if p.grad is not None]


def test_base_and_adapter_survive_merging_and_a_fault_in_the_head_is_caught(
    case: Case, tmp_path: Path
) -> None:
    whole = trained_in_full(case.model, case.head, new_modules(case.model, case.new))
    section = AdapterSection(r=2, target_modules="all-linear")
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # PEFT's remarks on the modules it saves
        torch.manual_seed(3)
        learner = add_adapter(case.model, section, case.name, head=whole)
        trained = [p for p in learner.parameters() if p.requires_grad]
        for parameter in trained:
            parameter.data.add_(0.05 * torch.randn_like(parameter))
        learner.save_pretrained(str(tmp_path / "adapter"))
    batches = [case.collate(case.examples[:4]), case.collate(case.examples[4:])]
    auto_class, rows = case.task.auto_class, case.task.logit_rows
    plain = plain_base(case.section, auto_class, head=case.head)
    clean_generation_config(plain, case.tokenizer)
    adapted = load_adapter(plain, tmp_path / "adapter")
    limits = rounding_limits(adapted, batches, torch.float32, logit_rows=rows)
    merged = fold_adapter(adapted)
    part = save_merged(merged, case.tokenizer, tmp_path / "merged", torch.float32, "1GB")
    found = verify_folder(learner, part, auto_class, batches, limits, rows)
    assert found.passed, found
    assert found.max_logit_difference < 1e-4
    assert found.num_rows == len(case.examples)
    if case.head.kind == "language":
        return
    last = [p for name, p in merged.named_parameters() if name.startswith(tuple(whole))][-1]
    with torch.no_grad():
        last += 0.1 * torch.arange(last.numel()).add(1).view_as(last)
    part = save_merged(merged, case.tokenizer, tmp_path / "merged", torch.float32, "1GB")
    found = verify_folder(learner, part, auto_class, batches, limits, rows)
    assert not found.passed
    assert (found.worst_layer or "").startswith(("classifier", "score"))
