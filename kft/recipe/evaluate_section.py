"""What a recipe says of measuring."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from kft.recipe.section import Positive, Section


class EvaluateSection(Section):
    """What is measured on the held-out rows, before training and after."""

    eval_steps: Positive | None = Field(
        None, description="Optimizer steps between evaluations while training; `null` is none."
    )
    max_rows: Positive | None = Field(
        None, description="Held-out rows used at most, the first ones after the seeded shuffle."
    )
    per_device_eval_batch_size: Positive = Field(16, description="Rows per evaluation batch.")
    metrics: Literal["auto"] | list[str] = Field(
        "auto",
        description="What is measured beside the loss, by name; the first is the headline. "
        "`auto`: the task's own.",
    )
    generate: Annotated[int, Field(ge=0)] = Field(
        3, description="Sample generations before and after; 0 is none."
    )
    scored_generations: Annotated[int, Field(ge=0)] = Field(
        32,
        description="Held-out rows whose answers are generated and measured (chrF, ROUGE, ends, "
        "repetition), before and after; 0 is none.",
    )
    general_text: Literal["auto"] | str | None = Field(
        "auto",
        description="Text that has nothing to do with the task, to see what training makes the "
        "model forget: bits per character before and after (`masked_lm`: nats per hidden token). "
        "`auto`: 64 Korean passages of kft's own; a file of running text: its first 256 rows; "
        "`null`: none.",
    )
    max_new_tokens: Positive = Field(64, description="Tokens per generated answer at most.")
