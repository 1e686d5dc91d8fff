"""What a run tells whoever watches it: a terminal, a notebook, a test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from kft.errors import Finding


@dataclass(frozen=True)
class Sample:
    """One held-out prompt with its reference and the answers before and after training.

    Args:
        prompt: The prompt's last user turn (or the beginning of a running text).
        reference: The answer that the data gives.
        base: What the model said before training.
        tuned: What it said afterwards; ``None`` until then.
    """

    prompt: str
    reference: str
    base: str
    tuned: str | None = None


class Observer(Protocol):
    """Receives what happens in a run, in the order in which it happens."""

    def stage(self, title: str) -> None:
        """A phase of the run begins, for example ``reading data``."""

    def finding(self, finding: Finding) -> None:
        """A check noticed something that does not stop the run."""

    def facts(self, facts: Mapping[str, str]) -> None:
        """What `auto` became and other facts worth one line each, in order."""

    def step(self, record: Mapping[str, float], total_steps: int) -> None:
        """An optimizer step was taken.

        ``record`` has ``step``, ``loss`` (nats per target), ``learning_rate``, ``grad_norm``,
        ``num_targets``, ``tokens_per_second`` and ``peak_memory_bytes``.
        """

    def evaluation(self, name: str, result: Mapping[str, Any]) -> None:
        """The held-out rows were measured; ``name`` is ``base``, ``tuned`` or ``step 200``."""

    def samples(self, samples: Sequence[Sample]) -> None:
        """The sample generations before and after training."""

    def close(self) -> None:
        """The run ended, well or badly; take the display down."""


class Silent:
    """An observer that shows nothing."""

    def stage(self, title: str) -> None:
        """Show nothing."""

    def finding(self, finding: Finding) -> None:
        """Show nothing."""

    def facts(self, facts: Mapping[str, str]) -> None:
        """Show nothing."""

    def step(self, record: Mapping[str, float], total_steps: int) -> None:
        """Show nothing."""

    def evaluation(self, name: str, result: Mapping[str, Any]) -> None:
        """Show nothing."""

    def samples(self, samples: Sequence[Sample]) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Show nothing."""
