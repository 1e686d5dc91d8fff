"""A task model of an encoder as ONNX, compared with the model that it was made from.

torch's own exporter writes the graph; onnxruntime runs it on held-out rows, one by one and padded
side by side, since a graph can have frozen what it saw when it was traced.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from kft.errors import ExportError
from kft.export.differences import LogitRowsOf
from kft.export.rounding import FLOAT32_KL_NATS, FLOAT32_LOGITS, Limits
from kft.export.verify import Verification, compare
from kft.tasks.inputs import model_inputs
from kft.tasks.task import Batch

ONNX = "model.onnx"
"""File name of the graph."""

LIMITS = Limits(FLOAT32_LOGITS, FLOAT32_KL_NATS, "float32", "fixed for float32")
"""How far onnxruntime may be from torch: what a merged float32 model may be."""

_REGISTRATION = "torch.onnx._internal.exporter._registration"


class _Logits(nn.Module):
    """The model with tensors in their order as arguments, and its logits as what it returns."""

    def __init__(self, model: Any, names: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.names = list(names)

    def forward(self, *tensors: Tensor) -> Tensor:
        """Logits (B, T, V) or (B, classes)."""
        logits: Tensor = self.model(**dict(zip(self.names, tensors, strict=True))).logits
        return logits


class OnnxModel(nn.Module):
    """A graph in onnxruntime, to be asked like the model it was made from.

    Args:
        session: An ``onnxruntime.InferenceSession``.
        config: Of that model.
    """

    def __init__(self, session: Any, config: Any) -> None:
        super().__init__()
        self.session = session
        self.config = config
        self.place = nn.Parameter(torch.zeros(0))  # tells on which device it is
        self.names = [one.name for one in session.get_inputs()]

    def forward(self, **inputs: Tensor) -> Any:
        """What transformers' models return, with ``logits`` alone."""
        found = self.session.run(None, {name: inputs[name].numpy() for name in self.names})
        return SimpleNamespace(logits=torch.from_numpy(found[0]))


def write_onnx(model: Any, batch: Batch, path: Path) -> None:
    """Write a model's graph and weights into one file.

    Args:
        model: A transformers model of a task, float32, on the CPU, in eval mode.
        batch: Padded rows, which the exporter traces.
        path: The file.

    Raises:
        ExportError: If the exporter can't.
    """
    inputs = onnx_inputs(model, batch)
    shapes = tuple({0: "rows", 1: "tokens"} for _ in inputs)
    # What the exporter says of itself is no matter here; what it wrote is compared.
    logging.getLogger(_REGISTRATION).setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                _Logits(model, list(inputs)).eval(),
                tuple(inputs.values()),
                str(path),
                input_names=list(inputs),
                output_names=["logits"],
                dynamic_shapes=(shapes,),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        except (torch.onnx.errors.OnnxExporterError, RuntimeError, ValueError) as cause:
            raise ExportError(
                f"torch can't write `{type(model).__name__}` as ONNX: "
                f"{str(cause).strip().splitlines()[0]}",
                where=str(path),
            ) from cause


def onnx_inputs(model: Any, batch: Batch) -> dict[str, Tensor]:
    """The arguments of a forward, the mask always among them."""
    inputs: dict[str, Tensor] = model_inputs(model, batch)
    inputs.setdefault("attention_mask", torch.ones_like(batch.input_ids))
    if getattr(model.config, "type_vocab_size", 0) > 1:
        inputs.setdefault("token_type_ids", torch.zeros_like(batch.input_ids))
    return inputs


def open_onnx(path: Path, config: Any, runtime: Any) -> OnnxModel:
    """Load a graph.

    Args:
        path: The file.
        config: Of the model that it was made from.
        runtime: The module ``onnxruntime``.
    """
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return OnnxModel(session, config)


def verify_onnx(
    model: Any, graph: OnnxModel, batches: Sequence[Batch], logit_rows: LogitRowsOf
) -> Verification:
    """Compare a graph with its model on held-out rows.

    Args:
        model: The transformers model, float32.
        graph: What was written, loaded again.
        batches: Held-out rows, padded.
        logit_rows: How the task reads a row's logits.

    Raises:
        ExportError: If they differ by more than :data:`LIMITS`, or where rows are padded.
    """
    whole = [_complete(model, batch) for batch in batches]
    found = compare(model, graph, whole, LIMITS, logit_rows)
    padded = padded_difference(model, graph, whole)
    if not found.passed or not padded <= LIMITS.logits:
        raise ExportError(
            "The ONNX model doesn't agree with the one it was made from",
            where=f"largest difference of logits {found.max_logit_difference:.2g}, "
            f"{padded:.2g} where rows are padded, KL {found.kl_nats:.2g} nats",
            expected=f"at most {LIMITS.logits:g} and {LIMITS.kl_nats:g} nats",
        )
    return found


def _complete(model: Any, batch: Batch) -> Batch:
    """The batch with every tensor that the graph takes."""
    inputs = onnx_inputs(model, batch)
    return replace(
        batch,
        attention_mask=inputs["attention_mask"],
        token_type_ids=inputs.get("token_type_ids"),
    )


@torch.no_grad()
def padded_difference(model: Any, graph: OnnxModel, batches: Sequence[Batch]) -> float:
    """Largest difference of logits on whole batches, at positions that aren't padding."""
    largest = torch.zeros(())
    for batch in batches:
        inputs = onnx_inputs(model, batch)
        difference = (model(**inputs).logits - graph(**inputs).logits).abs()
        if difference.dim() == 3:
            difference = difference[inputs["attention_mask"] > 0]
        largest = torch.maximum(largest, difference.max())
    return float(largest)
