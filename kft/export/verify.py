"""The saved model, loaded again from disk, against base + adapter: logit by logit.

The limits are fixed before the merged model is looked at, so a wrong merge can't raise them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig

from kft.errors import ExportError, counted
from kft.export.differences import (
    LogitRowsOf,
    as_reference,
    measure,
    next_tokens,
    worst_layer,
)
from kft.export.places import VERIFICATION
from kft.export.rounding import Limits
from kft.models.decoders import model_class
from kft.tasks.task import Batch


@dataclass(frozen=True)
class Verification:
    """What the comparison found; written to ``verification.json``.

    Args:
        max_logit_difference: Largest absolute difference over positions and vocabulary, or over
            rows and classes; of a regression the largest difference of its numbers.
        mean_logit_difference: Mean absolute difference.
        kl_nats: Mean over positions of KL(reference || merged).
        top1_agreement: Share of positions where both name the same likeliest token.
        reference_loss: Nats per target of base + adapter.
        merged_loss: Nats per target of the merged model.
        loss_difference: ``merged_loss - reference_loss``.
        num_rows: Rows compared.
        num_positions: Positions (or rows, where they are what is classified) compared; padding
            is not among them.
        limit_logits: What ``max_logit_difference`` may be.
        limit_kl: What ``kl_nats`` may be.
        limits_from: Where the limits come from.
        dtype: Precision of the saved weights.
        passed: Both differences are within their limits.
        worst_layer: The layer whose output differs most, named only when not ``passed``.
        worst_layer_difference: Its ||difference|| / ||output||.
    """

    max_logit_difference: float
    mean_logit_difference: float
    kl_nats: float
    top1_agreement: float
    reference_loss: float
    merged_loss: float
    loss_difference: float
    num_rows: int
    num_positions: int
    limit_logits: float
    limit_kl: float
    limits_from: str
    dtype: str
    passed: bool
    worst_layer: str | None = None
    worst_layer_difference: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; a number that isn't finite becomes ``None``."""
        return {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in asdict(self).items()
        }


def verify_folder(
    reference: nn.Module,
    folder: Path,
    auto_class: str,
    batches: Sequence[Batch],
    limits: Limits,
    logit_rows: LogitRowsOf = next_tokens,
) -> Verification:
    """Load a saved model from disk with transformers and compare it with the trained one.

    Args:
        reference: The trained form: the base as it was trained (4-bit included) with its
            adapter, or a fully trained model. :func:`as_reference` is applied to it.
        folder: The saved model.
        auto_class: Name of the transformers class that loads it.
        batches: Held-out rows.
        limits: From :func:`rounding_limits`.
        logit_rows: How the task reads a row's logits.

    Raises:
        ExportError: If the folder does not hold exactly the model's weights.
    """
    factory = model_class(AutoConfig.from_pretrained(str(folder)), auto_class)
    merged, loading = factory.from_pretrained(
        str(folder), dtype=torch.float32, local_files_only=True, output_loading_info=True
    )
    odd = [
        str(key)
        for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")
        for key in loading[kind]
    ]
    if odd:
        raise ExportError(
            f"The saved model lacks or adds {counted(len(odd), 'weight')}, first `{min(odd)}`",
            where=str(folder),
            expected=f"exactly the weights of `{type(merged).__name__}`",
        )
    return compare(as_reference(reference), merged, batches, limits, logit_rows)


def compare(
    reference: nn.Module,
    merged: nn.Module,
    batches: Sequence[Batch],
    limits: Limits,
    logit_rows: LogitRowsOf = next_tokens,
) -> Verification:
    """Compare two models on real positions; when they differ too much, find the layer.

    Args:
        reference: The model that was trained.
        merged: The model that is to say the same.
        batches: Held-out rows; padding is cut off.
        limits: Fixed beforehand.
        logit_rows: How the task reads a row's logits.

    Raises:
        ExportError: If ``batches`` holds no position.
    """
    seen = measure(reference, merged, batches, logit_rows)
    num_targets = max(seen.num_targets, 1)
    largest = float(seen.largest)
    # Not `>`: a NaN must fail.
    passed = largest <= limits.logits and seen.kl_nats <= limits.kl_nats
    name, difference = (None, None) if passed else worst_layer(reference, merged, batches[0])
    return Verification(
        max_logit_difference=largest,
        mean_logit_difference=seen.absolute / seen.num_logits,
        kl_nats=seen.kl_nats,
        top1_agreement=seen.agreeing / seen.num_positions,
        reference_loss=seen.reference_loss / num_targets,
        merged_loss=seen.merged_loss / num_targets,
        loss_difference=(seen.merged_loss - seen.reference_loss) / num_targets,
        num_rows=seen.num_rows,
        num_positions=seen.num_positions,
        limit_logits=limits.logits,
        limit_kl=limits.kl_nats,
        limits_from=limits.origin,
        dtype=limits.dtype,
        passed=passed,
        worst_layer=name,
        worst_layer_difference=difference,
    )


def save_verification(verification: Verification, folder: Path) -> Path:
    """Write ``verification.json`` into a saved model's folder."""
    path = folder / VERIFICATION
    text = json.dumps(verification.as_dict(), indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
    return path


def require(verification: Verification, folder: Path) -> None:
    """Refuse a merged model that does not agree with the trained one.

    Args:
        verification: What the comparison found.
        folder: Where the model was to stand, for the message.

    Raises:
        ExportError: If the verification did not pass.
    """
    if verification.passed:
        return
    error = ExportError(
        f"The merged model for `{folder}` doesn't agree with the trained one",
        where=f"layer `{verification.worst_layer}`: largest difference of logits "
        f"{verification.max_logit_difference:.2g}, KL {verification.kl_nats:.2g} nats",
        expected=f"at most {verification.limit_logits:.2g} and {verification.limit_kl:.2g} nats "
        f"for {verification.dtype}",
    )
    error.numbers = verification.as_dict()
    raise error
