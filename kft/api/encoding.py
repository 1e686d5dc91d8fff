"""Records -> examples: in memory while they are few, else in a file that is kept."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from kft.data.cache import cached, digest
from kft.data.few import are_few, parts
from kft.data.left_out import LeftOut
from kft.data.record_store import identity
from kft.data.table import Table, choose
from kft.data.templates import TemplateRenderer
from kft.data.written_beside import write_beside
from kft.errors import Finding
from kft.tasks.task import EncodeOptions, Example, Message, Record, Task

_EXAMPLES, _KEPT, _TOO_LONG = "examples.arrow", "kept.npy", "too_long.json"
_PROBE = 32
_LIBRARIES = ("transformers", "tokenizers", "jinja2", "sentencepiece")


@dataclass(frozen=True)
class Encoded:
    """Records as examples.

    Args:
        examples: In the records' order; running text may make several of one record.
        records: Those that were not left out.
        too_long: The rows left out.
        findings: A note when the examples can't be kept for the next run.
    """

    examples: Sequence[Example]
    records: Sequence[Record]
    too_long: LeftOut
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Encoding:
    """How records become examples.

    Args:
        task: The recipe's task.
        tokenizer: The model's.
        renderer: The template in use.
        options: What the recipe's ``data`` section says of lengths and labels.
        answer: Replaces each record's last answer, where it is given.
    """

    task: Task
    tokenizer: Any
    renderer: TemplateRenderer
    options: EncodeOptions
    answer: str | None = None

    def encode(self, records: Sequence[Record]) -> Encoded:
        """Encode records, or find what was encoded of them before.

        Raises:
            DataError: If a row can't be rendered, or has nothing to learn.
        """
        if are_few(records):
            examples: list[Example] = []
            kept: list[int] = []
            too_long = LeftOut()
            for made in self._parts(records, kept, too_long):
                examples += made
            return Encoded(examples, choose(list(records), kept), too_long)
        entry = cached("examples", self._depends_on(records), lambda to: self._write(records, to))
        examples_of = Table(entry.path / _EXAMPLES, Example)
        left_out = json.loads((entry.path / _TOO_LONG).read_text(encoding="utf-8"))
        rows = np.load(entry.path / _KEPT)
        records = choose(records, rows) if len(rows) < len(records) else records
        return Encoded(examples_of, records, LeftOut(**left_out), entry.findings)

    def _write(self, records: Sequence[Record], folder: Path) -> None:
        too_long, kept = LeftOut(), list[int]()
        write_beside(folder / _EXAMPLES, self._parts(records, kept, too_long), Example)
        np.save(folder / _KEPT, np.array(kept, dtype=np.int64))
        (folder / _TOO_LONG).write_text(json.dumps(asdict(too_long)), encoding="utf-8")

    def _parts(
        self, records: Sequence[Record], kept: list[int], too_long: LeftOut
    ) -> Iterator[list[Example]]:
        """The examples of a few thousand records at a time; notes which gave some."""
        row = 0
        for part in parts(records):
            examples: list[Example] = []
            for record, made in zip(part, self._encode_part(part), strict=True):
                if made:
                    kept.append(row)
                    examples += made
                else:
                    too_long.add(record.place)
                row += 1
            yield examples

    def _encode_part(self, part: Sequence[Record]) -> list[list[Example]]:
        if self.answer is not None:
            part = [with_answer(record, self.answer) for record in part]
        return self.task.encode_many(part, self.tokenizer, self.renderer, self.options)

    def _depends_on(self, records: Sequence[Record]) -> dict[str, Any] | None:
        known = identity(records)
        if known is None:
            return None
        # Whatever a tokenizer does that its own description doesn't say.
        probe = [[asdict(one) for one in made] for made in self._encode_part(records[:_PROBE])]
        return {
            "records": known,
            "task": [self.task.name, type(self.task).__qualname__],
            "tokenizer": self._tokenizer_sha256,
            "template": [self.renderer.chat_template, self.renderer.train_on],
            "options": asdict(self.options),
            "answer": self.answer,
            "libraries": {name: version(name) for name in _LIBRARIES},
            "probe": digest(probe),
        }

    @cached_property  # of a frozen instance, which has a place for it all the same
    def _tokenizer_sha256(self) -> str:
        tokenizer = self.tokenizer
        fast = getattr(tokenizer, "backend_tokenizer", None)
        return digest(
            {
                "class": type(tokenizer).__qualname__,
                "backend": fast.to_str() if fast is not None else None,
                "vocabulary": tokenizer.get_vocab() if fast is None else len(tokenizer),
                "special": {k: str(v) for k, v in tokenizer.special_tokens_map.items()},
            }
        )


def with_answer(record: Record, answer: str) -> Record:
    """The record with another last answer."""
    turns = record.messages or ()
    last: Message = {"role": "assistant", "content": answer}
    return replace(record, messages=(*turns[:-1], last))


def joined_findings(*parts: Sequence[Finding]) -> tuple[Finding, ...]:
    """What was noticed, each once."""
    return tuple(dict.fromkeys(finding for part in parts for finding in part))
