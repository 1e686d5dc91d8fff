"""What a model with labels, a number or tags says of texts, in the words of its data."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias
from unicodedata import normalize

import torch
from torch import Tensor

from kft.api.opened import Opened
from kft.errors import UsageError
from kft.evaluation.metrics.entities import find_entities
from kft.evaluation.predictions import tag_rows
from kft.models.architecture import num_positions
from kft.models.heads import MULTI_LABEL
from kft.ops.losses import IGNORE_INDEX
from kft.recipe.evaluate_section import EvaluateSection
from kft.tasks.inputs import plain_model
from kft.tasks.registry import TASKS
from kft.tasks.task import EncodeOptions, Example, Record
from kft.tasks.token_classification import split_words

Text: TypeAlias = str | tuple[str, str]
"""A text, or the two of a pair."""

_LIKELY = 0.5


@dataclass(frozen=True)
class Entity:
    """A part of a text that was given a name.

    Args:
        name: Its type, such as ``LC``.
        text: The part.
        start: Its first character in the text.
        end: The character behind its last.
        score: Mean probability of its tags.
    """

    name: str
    text: str
    start: int
    end: int
    score: float


@dataclass(frozen=True)
class Prediction:
    """What was said of one text.

    Args:
        label: The likeliest label; a list of those above one half where several may hold, the
            likeliest first; a number for a regression; a list of tags, one for each word (or
            character that isn't blank), for tags.
        score: Probability of the label, or of each of them; ``None`` for a number.
        scores: Probability of every label, the likeliest first; empty for numbers and tags.
        entities: What the tags name, in the text's order.
        was_cut: The text was longer than the model takes; of its end nothing was seen.
    """

    label: str | list[str] | float
    score: float | list[float] | None = None
    scores: dict[str, float] | None = None
    entities: list[Entity] | None = None
    was_cut: bool = False


class Predictor:
    """A loaded model that labels texts: classes, a number, or tags.

    Args:
        opened: The model; of a task that labels.
    """

    writes_text: Literal[False] = False

    def __init__(self, opened: Opened) -> None:
        config = plain_model(opened.model).config
        self.opened = opened
        self.labels = tuple(name for _, name in sorted(config.id2label.items()))
        self.reads: str | None = getattr(config, "kft_reads", None)
        # As transformers' pipeline: one class alone is a question of its own.
        self._is_several = config.problem_type == MULTI_LABEL or len(self.labels) == 1
        self._options = EncodeOptions(_max_length(opened, config), "truncate", self.labels)
        self._task = TASKS[opened.task]
        self._module: Any = self._task.with_loss(opened.model, logits_from="hidden")
        recipe = opened.recipe
        self._form = recipe.data.normalization if recipe else "NFC"
        section = recipe.evaluate if recipe else EvaluateSection()
        self._rows_per_batch = section.per_device_eval_batch_size

    @property
    def takes_pairs(self) -> bool:
        """It was trained on pairs of texts, or may have been."""
        return self.reads in (None, "pair") and self.opened.task != "token_classification"

    def predict(self, texts: Sequence[Text], first: int = 1) -> list[Prediction]:
        """What the model says of each text, by plain forward passes side by side.

        A text is brought into the Unicode form of the rows that were trained on, and cut where
        it is longer than they could be.

        Args:
            texts: Each a text, or a pair of them for a model that was trained on pairs. Where
                that isn't known (a checkpoint that comes from no run) both are taken.
            first: Number of the first text, for messages.

        Raises:
            UsageError: If a text is empty, or one of a pair is lacking or too many.
        """
        records = [self._record(text, f"text {at}") for at, text in enumerate(texts, first)]
        examples = [self._example(record) for record in records]
        logits = self._logits(examples)
        return [self._said(*row) for row in zip(records, examples, logits, strict=True)]

    def _record(self, text: Text, place: str) -> Record:
        first, second = (text, None) if isinstance(text, str) else text
        if not first.strip() or (second is not None and not second.strip()):
            raise UsageError("The text is empty", where=place, expected="a text to label")
        if self.reads == "pair" and second is None:
            raise UsageError(
                "One text was given, and the model was trained on pairs of them",
                where=place,
                expected="two texts, with a tab between them",
                hint="In bash `$'...\\t...'` writes a tab; in Python a pair is a tuple.",
            )
        if second is not None and not self.takes_pairs:
            raise UsageError(
                "Two texts were given, and the model was trained on single ones",
                where=place,
                expected="one text",
            )
        if self._form == "NFC":
            first = normalize("NFC", first)
            second = None if second is None else normalize("NFC", second)
        # The label is not looked at: an example has one.
        several = (0,) if self._is_several else None
        return Record(place, text=first, text_pair=second, label=0, label_ids=several, value=0.0)

    def _example(self, record: Record) -> Example:
        tokenizer, options = self.opened.tokenizer, self._options
        if self.opened.task == "token_classification":
            words = tuple(record.text or "") if self.reads == "characters" else _words(record)
            tags = (self.labels[0],) * len(words)
            record = Record(record.place, tokens=words, tags=tags)
        return self._task.encode(record, tokenizer, _NO_TEMPLATE, options)[0]

    def _logits(self, examples: Sequence[Example]) -> list[Tensor]:
        """Each text's logits, float32 (C,), or (W, C) of its tags; the longest first."""
        order = sorted(range(len(examples)), key=lambda row: -len(examples[row].input_ids))
        found: list[Tensor] = [torch.empty(0)] * len(order)
        device, dtype = self.opened.model.device, self.opened.dtype
        autocast = torch.autocast(device.type, dtype, enabled=dtype != torch.float32)
        with torch.no_grad(), autocast:
            for start in range(0, len(order), self._rows_per_batch):
                part = order[start : start + self._rows_per_batch]
                rows = [examples[row] for row in part]
                batch = self._task.collate(rows, self.opened.tokenizer.pad_token_id).to(device)
                for row, logits in zip(part, self._module.logits(batch), strict=True):
                    found[row] = logits.float().cpu()
        return found

    def _said(self, record: Record, example: Example, logits: Tensor) -> Prediction:
        cut = example.was_truncated
        if self.opened.task == "sequence_regression":
            return Prediction(float(logits[0]), was_cut=cut)
        if self.opened.task == "token_classification":
            return self._tags(record, example, logits)
        shares = logits.sigmoid() if self._is_several else logits.softmax(-1)
        pairs = zip(self.labels, shares.tolist(), strict=True)
        scores = dict(sorted(pairs, key=lambda pair: -pair[1]))
        if self._is_several:
            names = [name for name, share in scores.items() if share > _LIKELY]
            return Prediction(names, [scores[name] for name in names], scores, was_cut=cut)
        best = next(iter(scores))
        return Prediction(best, scores[best], scores, was_cut=cut)

    def _tags(self, record: Record, example: Example, logits: Tensor) -> Prediction:
        """Tags of the words that were asked for; others are outside of every entity."""
        shares, given = logits.softmax(-1).max(-1)
        text = record.text or ""
        pattern = r"\S" if self.reads == "characters" else r"\S+"
        spans = [found.span() for found in re.finditer(pattern, text)]
        tags, scores = ["O"] * len(spans), [0.0] * len(spans)
        said = tag_rows([given.tolist()], [example], self.labels)[0][0]
        for at, tag, share in zip(
            self._asked(text, example, len(spans)), said, _spread(shares, example), strict=True
        ):
            tags[at], scores[at] = tag, share
        entities = [
            Entity(
                name,
                text[spans[start][0] : spans[stop - 1][1]],
                spans[start][0],
                spans[stop - 1][1],
                sum(scores[start:stop]) / (stop - start),
            )
            for name, start, stop in find_entities(tags)
        ]
        return Prediction(tags, scores, entities=entities, was_cut=example.was_truncated)

    def _asked(self, text: str, example: Example, num_words: int) -> Sequence[int]:
        """Numbers of the words, or of the characters that aren't blank, that have a tag."""
        places = [at for at, label in enumerate(example.labels) if label != IGNORE_INDEX]
        if example.word_ids is not None:
            starts = [example.word_ids[at] for at in places]
            return range(starts[0], starts[-1] + 1 if example.was_truncated else num_words)
        words = list(text) if self.reads == "characters" else text.split()
        _, numbers = split_words(words, self.opened.tokenizer)
        asked = [numbers[at] for at in places]
        if self.reads == "characters":  # a slow tokenizer's, which were counted with blanks
            solid = [at for at, character in enumerate(words) if not character.isspace()]
            return [solid.index(at) for at in asked]
        return asked


def labels_none(opened: Opened) -> UsageError:
    """The error for a model that labels nothing and was asked for labels."""
    return UsageError(
        f"The model of `task: {opened.task}` gives no labels",
        where=opened.name,
        expected="a model of a task that labels texts",
        hint="`run.generate(prompts)` asks a model of `task: causal_lm`.",
    )


_NO_TEMPLATE: Any = None  # tasks that label never ask for one


def _words(record: Record) -> tuple[str, ...]:
    return tuple((record.text or "").split())


def _spread(shares: Tensor, example: Example) -> list[float]:
    """A probability for each word, or for each character of the sub-words that have one."""
    numbers: list[float] = shares.tolist()
    if example.word_ids is None or example.label_ids is None:
        return numbers
    places = [at for at, label in enumerate(example.labels) if label != IGNORE_INDEX]
    starts = [example.word_ids[at] for at in places]
    end = starts[-1] + 1 if example.was_truncated else len(example.label_ids)
    lengths = [stop - start for start, stop in zip(starts, [*starts[1:], end], strict=True)]
    return [share for share, length in zip(numbers, lengths, strict=True) for _ in range(length)]


def _max_length(opened: Opened, config: Any) -> int:
    """Tokens of a text at most: as trained, else what the model has positions for."""
    if opened.recipe is not None:
        return opened.recipe.data.max_length
    positions = num_positions(config)
    most = int(opened.tokenizer.model_max_length)
    return most if positions is None else min(positions, most)
