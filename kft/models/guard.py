"""The tokenizer guard: does this tokenizer read Korean, and does it fit this model?

It looks at every run's tokenizer before training. A wrong one loads without a word and ruins
the model: every sentence becomes ``[UNK]``, or characters vanish.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kft.errors import Finding, ModelError, Severity, share_of
from kft.models.guard_fit import fit_findings
from kft.models.tokenizer_measures import (
    SENTENCES,
    Measures,
    decomposes_hangul,
    hangul_syllables,
    measure,
    vocabulary_has,
)

UNKNOWN_LIMIT = 0.05
"""Unknown tokens at most. Right tokenizers of Korean checkpoints have 0.0 to 1.7 % on reviews,
articles and dialogue; wrong ones 39 to 79 %."""
UNKNOWN_NOTED = 0.01
"""Unknown tokens from which it is worth knowing which characters they hide."""
RECALL_LIMIT = 0.98
"""Characters that come back at least, where no unknown token marks a loss. Right tokenizers that
drop what they don't know (KoGPT2) keep 99.3 % on reviews."""
MARKED_RECALL_LIMIT = 0.95
"""The same, over all texts: one unknown token may hide a whole word."""
RECALL_NOTED = 0.995
"""Characters that come back below which it is worth knowing which don't."""
BYTE_LIMIT = 0.3
"""Single bytes at most among the tokens: a syllable of three bytes then takes three of them."""
TOKENS_LIMIT = 2.5
"""Tokens per character at most: right tokenizers need 0.5 to 0.8, bytes of UTF-8 three."""
ENOUGH_HANGUL = 200
"""Syllables in the user's texts from which they decide: they are what will be learned. With
fewer the built-in sentences decide."""
MOST_TEXTS = 2000
"""Texts measured at most; a sample at even distances."""
MOST_CHARACTERS = 2000
"""Characters of one text that are measured."""


@dataclass(frozen=True)
class TokenizerReport:
    """What the guard found.

    Args:
        numbers: Name -> value; those of the user's texts begin with ``data.``, those of the
            built-in sentences with ``korean.``.
        findings: Errors first, then warnings and notes.
    """

    numbers: Mapping[str, float]
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that stop a run."""
        return tuple(finding for finding in self.findings if finding.severity == "error")


def examine(
    tokenizer: Any,
    config: Any,
    texts: Sequence[str] = (),
    *,
    declared_class: str | None = None,
    published: str | None = None,
) -> TokenizerReport:
    """Measure a tokenizer on Korean sentences and on the user's texts, and against the model.

    Args:
        tokenizer: A transformers tokenizer.
        config: The model's configuration; ``None`` leaves out what needs it.
        texts: The user's; a sample of them is measured.
        declared_class: The class that the checkpoint's files name.
        published: Hub name of the tokenizer that the checkpoint was published with.
    """
    sample = _sample(texts)
    korean, data = measure(tokenizer, SENTENCES), measure(tokenizer, sample)
    data_decides = hangul_syllables(sample) >= ENOUGH_HANGUL
    hint = _remedy(tokenizer, declared_class, published)
    of_data = _reading(data, "the data", hint, is_decisive=bool(sample))
    of_korean = _reading(korean, "plain Korean sentences", hint, is_decisive=not data_decides)
    findings = [
        *of_data,
        *(of_korean if not (data_decides and of_data) else []),
        *fit_findings(tokenizer, config, declared_class, max(korean.highest_id, data.highest_id)),
    ]
    order = {"error": 0, "warning": 1, "note": 2}
    numbers = {f"korean.{name}": value for name, value in korean.numbers().items()}
    if data.texts:
        numbers |= {f"data.{name}": value for name, value in data.numbers().items()}
        numbers["data.texts"] = data.texts
    return TokenizerReport(numbers, tuple(sorted(findings, key=lambda f: order[f.severity])))


def require(report: TokenizerReport) -> None:
    """Stop at a tokenizer that would ruin the model.

    Raises:
        ModelError: With the first error of the report, and the number of others.
    """
    errors = report.errors
    if not errors:
        return
    first, others = errors[0], len(errors) - 1
    more = f" ({others} more {'error' if others == 1 else 'errors'})" if others else ""
    what, _, expected = first.what.partition("; expected ")
    raise ModelError(
        what + more,
        where=first.where or "`model.tokenizer`",
        expected=expected or "the tokenizer that the checkpoint was trained with",
        hint=first.hint,
    )


def _reading(measures: Measures, what: str, hint: str, *, is_decisive: bool) -> list[Finding]:
    """Whether the tokenizer reads the texts; what is no error by itself is a warning."""
    if not measures.tokens:
        return []
    severity: Severity = "error" if is_decisive else "warning"
    where, lost = "`model.tokenizer`", _lost(measures)
    unknown, recall = measures.unknown_rate, measures.character_recall
    if unknown > UNKNOWN_LIMIT:
        said = f"{unknown:.1%} of the tokens of {what} are unknown{lost}"
        return [Finding(severity, f"{said}; expected at most {UNKNOWN_LIMIT:.0%}", where, hint)]
    if measures.unmarked_recall < RECALL_LIMIT or recall < MARKED_RECALL_LIMIT:
        least = RECALL_LIMIT if measures.unmarked_recall < RECALL_LIMIT else MARKED_RECALL_LIMIT
        kept = min(measures.unmarked_recall, recall)
        said = f"Only {kept:.1%} of the characters of {what} come back from their tokens{lost}"
        return [Finding(severity, f"{said}; expected at least {least:.0%}", where, hint)]
    per_character = measures.tokens / max(measures.characters, 1)
    is_costly = measures.byte_rate > BYTE_LIMIT or per_character > TOKENS_LIMIT
    if is_costly and measures.characters >= ENOUGH_HANGUL:  # a few words have no average
        said = f"{what[0].upper()}{what[1:]} take {per_character:.1f} tokens per character"
        return [Finding("warning", f"{said}: the vocabulary holds little Korean", where)]
    if unknown > UNKNOWN_NOTED or recall < RECALL_NOTED:
        said = f"{share_of(unknown)} of the tokens of {what} are unknown{lost}"
        if recall < 1:
            said = f"{share_of(1 - recall)} of the characters of {what} are lost in their tokens"
            said += lost
        return [Finding("warning" if is_decisive else "note", said, where)]
    return []


def _lost(measures: Measures) -> str:
    """The commonest lost characters, for a message."""
    if not measures.lost:
        return ""
    return ", first of all " + ", ".join(f"`{character}`" for character, _ in measures.lost)


def _remedy(tokenizer: Any, declared_class: str | None, published: str | None) -> str:
    """The likeliest way to mend it."""
    syllables, jamo = vocabulary_has(tokenizer)
    if decomposes_hangul(tokenizer) and syllables > jamo and _lowers(tokenizer):
        return "Write `do_lower_case: false` into its `tokenizer_config.json`."
    named = declared_class or type(tokenizer).__name__
    right = f"`model.tokenizer: {published}` is" if published else "`model.tokenizer` names"
    return (
        f"{right} the one that the checkpoint was published with; this one was saved by the class "
        f"`{named}`."
    )


def _lowers(tokenizer: Any) -> bool:
    return bool(getattr(tokenizer, "do_lower_case", False))


def _sample(texts: Sequence[str]) -> list[str]:
    step = max(1, -(-len(texts) // MOST_TEXTS))
    return [text[:MOST_CHARACTERS] for text in texts[::step]]
