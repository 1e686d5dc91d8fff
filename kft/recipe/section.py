"""What every part of a recipe is, and the part that names a source of rows."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A part of the recipe: frozen, and strict about its keys."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        protected_namespaces=(),
        defer_build=True,  # built once, with the recipe that it is part of
    )


class SourceSection(Section):
    """Where rows come from, when more than a path is said: a weight, or a hub data set."""

    path: str = Field(
        min_length=1,
        description="File, folder or glob; or `owner/name` of a data set on the Hugging Face hub "
        "where there is nothing of that name here.",
    )
    weight: Annotated[float, Field(gt=0, le=1000)] = Field(
        1.0, description="How often each training row is used: 2 is twice, 0.5 every second one."
    )
    config: str | None = Field(None, description="Configuration of the hub data set.")
    split: str | None = Field(
        None,
        description="Split of the hub data set; `null` is `train` or, for `eval`, `validation`.",
    )
    revision: str | None = Field(
        None, description="Commit, tag or branch on the hub; pin it to repeat a run."
    )
