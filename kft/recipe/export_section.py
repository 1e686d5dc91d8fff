"""What a recipe says of the merged model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from kft.recipe.section import Section

Dtype = Literal["auto", "float32", "bfloat16", "float16"]


class ExportSection(Section):
    """The merged model."""

    merge: bool | Literal["auto"] = Field(
        "auto", description="Write the merged model. `auto`: when disk and memory suffice."
    )
    base: Literal["dequantized", "original"] = Field(
        "dequantized",
        description="What a 4-bit adapter is merged into: the weights it was trained against, or "
        "the checkpoint's own (the usual way; costs accuracy, and verification says how much).",
    )
    dtype: Dtype = Field(
        "auto", description="Precision of the merged weights; `auto` is the checkpoint's own."
    )
    max_shard_size: str = Field("5GB", description="Size of one safetensors file at most.")
