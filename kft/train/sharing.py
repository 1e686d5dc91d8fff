"""What of a run's state each rank holds a part of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sharing:
    """What ranks share; false where each holds everything.

    Args:
        name: Of the strategy, for people.
        weights: Each holds a part of the weights, and gathers a block's as it runs.
        gradients: A part of their gradients.
        optimizer: A part of the optimizer's averages.
        is_zero: DeepSpeed does it: its optimizer steps with a copy of its part of the weights, and
            sees no layers.
        bucket: Gradients that it sums at once, for which it has buffers of float32.

    Example:
        >>> bool(Sharing()), bool(Sharing("FSDP2", weights=True, gradients=True, optimizer=True))
        (False, True)
    """

    name: str = ""
    weights: bool = False
    gradients: bool = False
    optimizer: bool = False
    is_zero: bool = False
    bucket: int = 0

    def __bool__(self) -> bool:
        return self.optimizer


UNSHARED = Sharing()

ZERO_BUCKET = 2**25
"""Numbers that DeepSpeed sums, gathers and fetches ahead at once: 128 MiB of float32."""
