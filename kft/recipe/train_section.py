"""The recipe's ``train`` section."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from kft.recipe.export_section import Dtype
from kft.recipe.section import Fraction, Positive, Section


class TrainSection(Section):
    """The optimization. Keys are those of `transformers.TrainingArguments`."""

    num_train_epochs: Annotated[float, Field(gt=0, le=10_000)] = Field(
        3.0, description="Passes over the training rows."
    )
    max_steps: Positive | None = Field(
        None, description="Optimizer steps; when given it replaces `num_train_epochs`."
    )
    per_device_train_batch_size: Positive | Literal["auto"] = Field(
        8,
        description="Rows per micro-batch on each process, packed ones where `data.packing` is "
        "on: memory, not arithmetic, depends on it. `auto`: as many as fit, a power of two, at "
        "most 64, and few enough for 100 steps.",
    )
    gradient_accumulation_steps: Positive = Field(
        1, description="Micro-batches per optimizer step; their targets are averaged together."
    )
    learning_rate: Annotated[float, Field(gt=0)] = Field(2e-4, description="Peak learning rate.")
    lr_scheduler_type: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="Shape of the decay to zero after the warm-up."
    )
    warmup_ratio: Fraction = Field(
        0.03, description="Share of the steps over which the learning rate rises from zero."
    )
    weight_decay: Annotated[float, Field(ge=0)] = Field(
        0.0, description="AdamW's decay of matrices; biases and norms have none."
    )
    adam_beta1: Fraction = Field(0.9, description="AdamW's decay of the gradient's mean.")
    adam_beta2: Fraction = Field(0.999, description="AdamW's decay of the gradient's square.")
    max_grad_norm: Annotated[float, Field(ge=0)] = Field(
        1.0, description="Gradients are scaled down to this norm; 0 is off."
    )
    optim: Literal["adamw", "adamw_8bit", "paged_adamw_8bit"] = Field(
        "adamw", description="`adamw_8bit` and `paged_adamw_8bit` are bitsandbytes'."
    )
    gradient_checkpointing: bool | Literal["auto"] = Field(
        "auto",
        description="Recompute activations in the backward pass: less memory, a third more time. "
        "`auto`: on for models above one billion weights on a GPU.",
    )
    activation_offloading: bool = Field(
        False,
        description="On a GPU: what the backward pass needs waits in the CPU's memory. Longer "
        "rows fit, and each step waits for the copies.",
    )
    torch_compile: bool = Field(
        False,
        description="Compile each block with `torch.compile`: the first steps take minutes, for "
        "long runs on a GPU.",
    )
    fast_paths: bool = Field(
        True,
        description="Documents attended to one by one without padding, the language head in "
        "chunks, fused LoRA and GELU: faster and smaller, equal to rounding. `false` is the plain "
        "way, to compare with.",
    )
    precision: Dtype = Field(
        "auto",
        description="Precision of computation. `auto`: bfloat16 where the hardware has it, "
        "float16 on older GPUs, float32 on other CPUs. Trained weights are always float32.",
    )
    seed: Annotated[int, Field(ge=0)] = Field(42, description="Seed of everything that is random.")
    save_steps: Positive | None = Field(
        200, description="Optimizer steps between checkpoints; `null` is none."
    )
    save_total_limit: Positive = Field(
        2, description="Checkpoints kept; the oldest goes when a newer one is complete."
    )
    logging_steps: Positive = Field(10, description="Optimizer steps between plain log lines.")
    metric_for_best_model: str = Field(
        "eval_loss", description="Metric of the evaluations while training that tells the best one."
    )
    early_stopping_patience: Positive | None = Field(
        None,
        description="Stop after so many evaluations in a row without a better one; "
        "needs `evaluate.eval_steps`.",
    )
    load_best_model_at_end: bool | Literal["auto"] = Field(
        "auto",
        description="Save and merge the weights of the best evaluation instead of the last ones. "
        "`auto`: when `early_stopping_patience` is given.",
    )
    report_to: list[Literal["tensorboard", "wandb", "mlflow", "trackio"]] = Field(
        [],
        description="Experiment trackers that get the log as well, each from a package of its "
        "own. TensorBoard's files are in the run folder, under `trackers/`.",
    )
