"""Losses, tags and hidden words against numbers worked out by hand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoTokenizer

from kft.data.named_templates import TEMPLATES
from kft.data.templates import TemplateRenderer
from kft.errors import DataError
from kft.evaluation.predictions import tag_rows
from kft.models.decoders import as_decoder
from kft.tasks.masked_lm import MaskedLM, eojeol_ids, hidden_tokens
from kft.tasks.prefix_lm import PrefixLM
from kft.tasks.sequence_classification import SequenceClassification
from kft.tasks.sequence_regression import SequenceRegression
from kft.tasks.task import IGNORE_INDEX, EncodeOptions, Example, Record
from kft.tasks.texts import encode_texts
from kft.tasks.token_classification import TokenClassification, split_words

PLACE = "rows:1"
NONE: Any = None


class Body(nn.Module):
    """Says each token's id as its one number; what is behind it is a row of a table."""

    def forward(self, input_ids: torch.Tensor, **_: Any) -> Any:
        return SimpleNamespace(last_hidden_state=input_ids.unsqueeze(-1).float())


class Spoken(nn.Module):
    """A decoder whose head looks up the logits of the id that it is read off at."""

    base_model_prefix = "body"
    config = SimpleNamespace(model_type="gpt2", is_decoder=False)

    def __init__(self, table: list[list[float]]) -> None:
        super().__init__()
        self.body = Body()
        self.table = nn.Parameter(torch.tensor(table))

    def score(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.table[hidden[..., 0].long()]

    def forward(self, input_ids: torch.Tensor, **_: Any) -> Any:
        return SimpleNamespace(logits=self.score(self.body(input_ids).last_hidden_state))


def example(ids: list[int], **more: Any) -> Example:
    labels = more.pop("labels", [IGNORE_INDEX] * len(ids))
    return Example(ids, labels, PLACE, "", **more)


def test_cross_entropy_is_summed_over_rows_read_off_at_their_last_token() -> None:
    module = SequenceClassification().with_loss(
        Spoken([[0.0, 0.0], [2.0, 0.0], [0.0, 0.0]]), logits_from="everywhere"
    )
    rows = [example([2, 1], label=0), example([0, 1, 2], label=1)]
    loss = module(SequenceClassification().collate(rows, 0))
    # log(e^2 + 1) - 2 and log 2
    assert loss.total.item() == pytest.approx(0.126928 + 0.693147, abs=1e-5)
    assert int(loss.count) == 2


def test_several_classes_are_questions_of_their_own() -> None:
    module = SequenceClassification().with_loss(Spoken([[0.0, 1.0]]), logits_from="everywhere")
    loss = module(SequenceClassification().collate([example([0], label_ids=[1, 0])], 0))
    # (log 2 + log(1 + e)) / 2
    assert loss.total.item() == pytest.approx((0.693147 + 1.313262) / 2, abs=1e-5)


def test_squared_errors_are_summed() -> None:
    module = SequenceRegression().with_loss(Spoken([[1.0], [3.0]]), logits_from="everywhere")
    rows = [example([0], value=2.5), example([0, 1], value=1.0)]
    loss = module(SequenceRegression().collate(rows, 0))
    assert loss.total.item() == pytest.approx(1.5**2 + 2.0**2)
    assert module.row_losses(SequenceRegression().collate(rows, 0)).total.tolist() == [2.25, 4.0]


def test_tags_are_counted_and_the_rest_is_not() -> None:
    module = TokenClassification().with_loss(
        Spoken([[0.0, 0.0], [2.0, 0.0]]), logits_from="everywhere"
    )
    rows = [
        example([0, 1, 1], labels=[IGNORE_INDEX, 0, IGNORE_INDEX]),
        example([1, 0], labels=[0, 1]),
    ]
    batch = TokenClassification().collate(rows, 0)
    loss = module(batch)
    assert int(loss.count) == batch.num_counted == 3
    assert loss.total.item() == pytest.approx(2 * 0.126928 + 0.693147, abs=1e-5)
    assert module.row_outputs(batch)[1] == [[0], [0, 0]]


@pytest.mark.parametrize("is_fast", [True, False])
def test_the_first_sub_word_carries_the_tag(is_fast: bool, tiny_wordpiece: Path) -> None:
    fast = AutoTokenizer.from_pretrained(tiny_wordpiece)

    class Slow:
        """The same tokenizer as one that can't tell words."""

        is_fast = False
        build_inputs_with_special_tokens = staticmethod(lambda ids: [2, *ids, 3])

        def __call__(self, *given: Any, **options: Any) -> Any:
            return fast(*given, **options)

    tokenizer: Any = fast if is_fast else Slow()
    words = ("서울특별시의", "가을은", " ", "뷁")
    ids, numbers = split_words(words, tokenizer)
    assert ids == fast(list(words), is_split_into_words=True).input_ids
    record = Record(PLACE, tokens=words, tags=("B-LC", "O", "O", "I-LC"))
    options = EncodeOptions(64, "truncate", ("O", "B-LC", "I-LC"))
    (one,) = TokenClassification().encode(record, tokenizer, NONE, options)
    assert [label for label in one.labels if label != IGNORE_INDEX] == [1, 0, 2]  # a blank has none
    first = [numbers.index(word) for word in (0, 1, 3)]
    assert [at for at, label in enumerate(one.labels) if label != IGNORE_INDEX] == first
    (cut,) = TokenClassification().encode(
        record, tokenizer, NONE, EncodeOptions(4, "truncate", options.labels)
    )
    assert (len(cut.input_ids), cut.input_ids[-1]) == (4, 3)
    assert cut.was_truncated
    with pytest.raises(DataError, match="Unknown tag `I-LC`"):
        TokenClassification().encode(
            record, tokenizer, NONE, EncodeOptions(64, "truncate", ("O", "B-LC"))
        )


def test_tags_of_characters_are_carried_by_the_sub_words_of_the_text(
    tiny_wordpiece: Path,
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_wordpiece)
    text = "서울의 가을은"
    tags = ("B-LC", "I-LC", "O", "O", "B-TI", "I-TI", "O")
    names = ("O", "B-LC", "I-LC", "B-TI", "I-TI")
    record = Record(PLACE, tokens=tuple(text), tags=tags)
    options = EncodeOptions(64, "truncate", names)
    (one,) = TokenClassification().encode(record, tokenizer, NONE, options)
    assert one.input_ids == tokenizer(text).input_ids
    assert one.label_ids == [1, 2, 0, 3, 4, 0]  # the blank has none
    offsets = tokenizer(text, return_offsets_mapping=True).offset_mapping[1:-1]
    first = [start - (start > 3) for start, _ in offsets]
    assert one.word_ids == [-1, *first, -1]
    assert one.labels[1:-1] == [one.label_ids[at] for at in first]
    right = [one.labels[1:-1]]
    given, true = tag_rows(right, [one], names)
    assert true == [["B-LC", "I-LC", "O", "B-TI", "I-TI", "O"]]
    assert [given[0][at] for at in first] == [true[0][at] for at in first]
    assert len(given[0]) == len(true[0]) == 6
    assert all(
        tag == "O" or tag.startswith("I-") for at, tag in enumerate(given[0]) if at not in first
    )


def test_two_texts_are_told_apart(tiny_wordpiece: Path, tiny_tokenizer: Path) -> None:
    record = Record(PLACE, text="서울의 가을은", text_pair="하늘이 높고", label=1)
    bert, gpt = (AutoTokenizer.from_pretrained(f) for f in (tiny_wordpiece, tiny_tokenizer))
    both = encode_texts(record, bert, EncodeOptions(64))
    assert both is not None
    assert both.token_type_ids is not None
    middle = both.input_ids.index(3)
    assert both.token_type_ids == [0] * (middle + 1) + [1] * (len(both.input_ids) - middle - 1)
    cut = encode_texts(record, bert, EncodeOptions(6))
    assert cut is not None
    assert [cut.input_ids[0], cut.input_ids[-1], cut.input_ids.count(3)] == [2, 3, 2]
    plain = encode_texts(record, gpt, EncodeOptions(200))
    assert plain is not None
    texts = [gpt(text).input_ids for text in ("서울의 가을은", "하늘이 높고")]
    assert plain.input_ids == [*texts[0], gpt.eos_token_id, *texts[1]]
    assert encode_texts(record, bert, EncodeOptions(6, "drop")) is None
    with pytest.raises(DataError, match="Row has"):
        encode_texts(record, bert, EncodeOptions(6, "error"))


def test_whole_eojeols_are_hidden_at_the_rates_of_bert() -> None:
    words = np.repeat(np.arange(20_000), 2)
    ids = np.arange(40_000) % 900 + 100
    shown, labels = hidden_tokens(ids, words, (1, 2), 4, range(5, 1005))
    again = hidden_tokens(ids, words, (1, 2), 4, range(5, 1005))
    other = hidden_tokens(ids, words, (1, 3), 4, range(5, 1005))
    assert np.array_equal(shown, again[0])
    assert not np.array_equal(labels, other[1])
    hidden = labels != IGNORE_INDEX
    assert np.array_equal(hidden[::2], hidden[1::2])
    assert np.array_equal(labels[hidden], ids[hidden])
    assert hidden.mean() == pytest.approx(0.15, abs=0.01)
    assert (shown[hidden] == 4).mean() == pytest.approx(0.8, abs=0.02)
    assert (shown[hidden] == ids[hidden]).mean() == pytest.approx(0.1, abs=0.02)
    assert np.array_equal(shown[~hidden], ids[~hidden])
    one = hidden_tokens(np.array([7]), np.array([0]), (0,), 4, (5,))
    assert one[1].tolist() == [7]  # a row without a target would teach nothing


def test_eojeols_are_what_stands_between_white_space(
    tiny_wordpiece: Path, tiny_tokenizer: Path
) -> None:
    text = " 서울특별시의 가을은, 하늘이  높고 "
    for folder, specials in ((tiny_wordpiece, 1), (tiny_tokenizer, 0)):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        ids, words = eojeol_ids(text, tokenizer)
        inside = [word for word in words if word >= 0]
        assert len(ids) == len(words) == len(inside) + 2 * specials
        assert inside == sorted(inside)
        assert len(set(inside)) == 4
    task = MaskedLM().for_tokenizer(AutoTokenizer.from_pretrained(tiny_wordpiece))
    (one, two) = task.encode(
        Record(PLACE, text="서울의 " * 6), AutoTokenizer.from_pretrained(tiny_wordpiece), NONE,
        EncodeOptions(2 + 3 * len(tokenizer_ids(tiny_wordpiece, "서울의"))),
    )[:2]  # fmt: skip
    assert one.input_ids == two.input_ids
    batch = task.collate([one], 0)
    assert batch.num_counted == int((batch.labels != IGNORE_INDEX).sum()) >= 1
    (redrawn,) = task.window([batch], seed=1, step=1)
    (same,) = task.window([redrawn], seed=1, step=1)
    assert torch.equal(redrawn.input_ids, same.input_ids)


def tokenizer_ids(folder: Path, text: str) -> list[int]:
    return list(AutoTokenizer.from_pretrained(folder)(text, add_special_tokens=False).input_ids)


def test_hiding_does_not_depend_on_how_a_window_is_cut(tiny_wordpiece: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_wordpiece)
    task = MaskedLM().for_tokenizer(tokenizer)
    texts = ["서울의 가을은 하늘이", "높고 바람이", "선선하다"]
    rows = [
        task.encode(Record(PLACE, text=text), tokenizer, NONE, EncodeOptions(64))[0]
        for text in texts
    ]
    (whole,) = task.window([task.collate(rows, 0)], seed=3, step=9)
    parts = task.window([task.collate([row], 0) for row in rows], seed=3, step=9)
    (packed,) = task.window([task.collate(rows, 0, packed=True)], seed=3, step=9)
    assert sum(part.num_counted for part in parts) == whole.num_counted == packed.num_counted
    for row, part in enumerate(parts):
        length = part.input_ids.shape[1]
        assert torch.equal(whole.input_ids[row, :length], part.input_ids[0])
    assert torch.equal(torch.cat([part.input_ids[0] for part in parts]), packed.input_ids[0])


def test_every_answer_of_a_conversation_is_an_example_of_its_own(tiny_wordpiece: Path) -> None:
    tokenizer = as_decoder(AutoTokenizer.from_pretrained(tiny_wordpiece))
    turns = [
        ("user", "서울의"), ("assistant", "가을은"), ("user", "하늘이"), ("assistant", "높고"),
    ]  # fmt: skip
    messages = tuple({"role": role, "content": content} for role, content in turns)
    template = "{{ bos_token }}" + TEMPLATES["plain"]
    renderer = TemplateRenderer(tokenizer, template)
    record = Record(PLACE, messages=messages)
    first, second = PrefixLM().encode(record, tokenizer, renderer, EncodeOptions(64))
    word = {text: tokenizer_ids(tiny_wordpiece, text) for _, text in turns}
    assert first.input_ids == [2, *word["서울의"], *word["가을은"], 3]
    assert first.prompt_length == 1 + len(word["서울의"])
    assert [first.target_text, second.target_text] == ["가을은", "높고"]
    asked = tokenizer_ids(tiny_wordpiece, renderer.prompt(messages[:3]))  # as in generation
    assert second.input_ids == [*asked, *word["높고"], 3]
    assert second.prompt_length == len(asked)
    assert second.labels == [IGNORE_INDEX] * (second.prompt_length or 0) + [*word["높고"], 3]
    batch = PrefixLM().collate([first, second], 0)
    assert batch.attention_mask is not None
    marks = batch.attention_mask.tolist()
    assert marks[1] == [2] * (second.prompt_length or 0) + [1] * (len(word["높고"]) + 1)
    assert marks[0][: len(first.input_ids)].count(2) == first.prompt_length
    assert marks[0][len(first.input_ids) :] == [0] * (len(marks[0]) - len(first.input_ids))
    renderer = TemplateRenderer(tokenizer, template, "last_assistant")
    (last,) = PrefixLM().encode(record, tokenizer, renderer, EncodeOptions(64))
    assert (last.input_ids, last.target_text) == (second.input_ids, "높고")
