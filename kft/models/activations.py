"""GELU in one pass, where a checkpoint's class composes it of eight.

Two functions go by the name: ``x * Phi(x)``, which BERT uses, and its approximation
``0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))``, which GPT-2 uses. torch has both as one
operation; transformers writes the second out under several names, one pass over the widest array
of the model for each of its operations.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

_COMPOSED = {
    ("transformers.activations", name) for name in ("NewGELUActivation", "FastGELUActivation")
}
"""By name, since importing them takes seconds and a plan may not need to."""


class FusedGELU(nn.Module):
    """The tanh approximation of GELU in one operation, forwards and backwards.

    Source:
        Hendrycks & Gimpel 2016, "Gaussian Error Linear Units (GELUs)", section 2.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Float of any shape."""
        return functional.gelu(x, approximate="tanh")


def is_composed(module: nn.Module) -> bool:
    """Whether it is a GELU made of several operations."""
    return (type(module).__module__, type(module).__name__) in _COMPOSED


def fuse_activations(model: Any) -> int:
    """Replace composed GELUs of a model by the fused one; in place.

    Only modules that are that function are replaced, so nothing changes but rounding.

    Returns:
        How many were replaced.
    """
    found = [
        (parent, name)
        for parent in model.modules()
        for name, child in parent.named_children()
        if is_composed(child)
    ]
    for parent, name in found:
        setattr(parent, name, FusedGELU())
    return len(found)
