"""What a recipe may say: every key with its type, default, limits and meaning.

Names are PEFT's and transformers' own where they have one. A section is frozen, inherits
nothing and rejects keys it does not know. ``kft schema`` and the reference page are made
from this file.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from kft.recipe.evaluate_section import EvaluateSection
from kft.recipe.export_section import Dtype, ExportSection
from kft.recipe.section import Fraction, Positive, Section, SourceSection
from kft.recipe.train_section import TrainSection

TaskName = Literal[
    "causal_lm",
    "sequence_classification",
    "sequence_regression",
    "token_classification",
    "masked_lm",
]
Method = Literal["lora", "qlora", "full"]
Quantization = Literal["none", "nf4", "fp4", "int8"]
Format = Literal[
    "auto",
    "text",
    "prompt_completion",
    "instruction",
    "messages",
    "classification",
    "pairs",
    "tokens",
]
Role = Literal[
    "text",
    "text_pair",
    "label",
    "prompt",
    "completion",
    "system",
    "instruction",
    "input",
    "output",
    "messages",
    "tokens",
    "tags",
]


class ModelSection(Section):
    """The pretrained checkpoint and how it is loaded."""

    name_or_path: str = Field(
        min_length=1, description="Folder of a checkpoint, or its name on the Hugging Face hub."
    )
    revision: str | None = Field(
        None, description="Commit, tag or branch on the hub; pin it to repeat a run."
    )
    tokenizer: str | None = Field(
        None,
        description="Folder or hub name of the tokenizer when it is not the checkpoint's; "
        "`train` makes a byte-level BPE of the config's `vocab_size` from the training rows "
        "(only with `init: random`).",
    )
    dtype: Dtype = Field(
        "auto",
        description="Precision in which frozen weights are held. `auto`: the precision of "
        "computation. `adapter.method: full` always trains float32 weights.",
    )
    quantization: Quantization = Field(
        "none", description="Hold the frozen weights in 4 or 8 bits through bitsandbytes."
    )
    double_quant: bool = Field(
        True,
        description="Quantize the quantization constants too "
        "(4 bit only; saves 0.4 bit per weight).",
    )
    init: Literal["pretrained", "random"] = Field(
        "pretrained",
        description="`random` reads only the checkpoint's `config.json` and starts from random "
        "weights (pre-training; needs `adapter.method: full`).",
    )
    dropout: Fraction = Field(
        0.0, description="Dropout of the checkpoint's own layers; replaces what its config says."
    )
    attention: Literal["causal", "prefix"] = Field(
        "causal",
        description="What tokens see with `task: causal_lm`. `causal`: those before them; "
        "`prefix`: the prompt sees itself both ways, an answer only its left "
        "(checkpoints of encoders: BERT, RoBERTa, ELECTRA).",
    )
    trust_remote_code: bool = Field(
        False, description="Run Python code from the checkpoint; needs a pinned `revision`."
    )
    attn_implementation: Literal["auto", "eager", "sdpa"] = Field(
        "auto", description="Attention kernel in transformers; `auto` is its own choice."
    )


class AdapterSection(Section):
    """What is trained: LoRA, QLoRA or all weights. Keys are those of `peft.LoraConfig`."""

    method: Method = Field(
        "lora",
        description="`lora`; `qlora` (LoRA on a base in 4 bit: sets `model.quantization: nf4` "
        "unless said otherwise); `full` (every weight, no adapter).",
    )
    r: Positive = Field(8, description="Rank of the update matrices.")
    lora_alpha: Positive = Field(
        16, description="Scale of the update: it is multiplied by `lora_alpha / r`."
    )
    lora_dropout: Fraction = Field(0.0, description="Dropout on the adapter's input.")
    target_modules: str | list[str] = Field(
        "auto",
        description="`auto`: every linear layer of the blocks; `all-linear`: PEFT's own choice; "
        "a list of module names (their ends), or one regular expression.",
    )
    modules_to_save: list[str] = Field(
        default_factory=list, description="Modules trained in full and saved with the adapter."
    )
    use_rslora: bool = Field(
        False, description="Scale by `lora_alpha / sqrt(r)` (Kalajdzievski 2023)."
    )
    use_dora: bool = Field(
        False, description="Split weights into magnitude and direction (Liu et al. 2024)."
    )
    init_lora_weights: bool | Literal["gaussian", "orthogonal", "olora", "pissa"] = Field(
        True,
        description="`true`: B is zero, so training starts at the base model; "
        "else as PEFT names it.",
    )
    bias: Literal["none", "all", "lora_only"] = Field(
        "none", description="Which biases are trained as well."
    )
    layers_to_transform: list[int] | None = Field(
        None, description="Only these blocks get an adapter, counted from 0; `null` is all."
    )
    start_from: str | None = Field(
        None, description="Folder of a saved adapter to go on training, with its own shape."
    )


class DataSection(Section):
    """The rows, how they become text, and which of it is learned."""

    train: str | SourceSection | list[str | SourceSection] = Field(
        description="File, folder, glob or a list of them (jsonl, json, csv, tsv, txt, parquet, "
        "arrow; also gz, zst, zip), or a mapping: a `path` with a `weight`, or a hub data set."
    )
    eval: str | SourceSection | list[str | SourceSection] | None = Field(
        None,
        description="Held-out rows, as `train` but without weights. Without it, `eval_fraction` "
        "of the training rows is held out.",
    )
    eval_fraction: Fraction = Field(
        0.05, description="Share of the training rows held out when `eval` is not given; 0 is none."
    )
    format: Format = Field(
        "auto",
        description="Layout of a row. `text`: running text; `prompt_completion`; `instruction`: "
        "`instruction`, `input`, `output`; `messages`: a conversation; `classification`: a text "
        "whose label's name is the answer; `pairs`: two texts with a label or a score; `tokens`: "
        "tokens with a tag each. `auto` looks at the column names and says its choice.",
    )
    columns: dict[Role, str | list[str]] = Field(
        default_factory=dict,
        description="Role: column name, where the file names it otherwise; `a.b` is `b` inside "
        "`a`. `label` also takes a list of columns that hold 0 or 1, one for each label.",
    )
    labels: list[str] = Field(
        default_factory=list,
        description="Names of the labels in the order of their numbers (`classification`, "
        "`pairs`, `tokens`).",
    )
    template: str = Field(
        "auto",
        description="How a row becomes text: `plain`, `koalpaca`, `kullm`, `alpaca`, `chatml`, "
        "`checkpoint` (its own chat template), or a jinja file. `auto`: the checkpoint's own if "
        "it has one, else `plain` for `prompt_completion` and `classification`, else `koalpaca`.",
    )
    train_on: Literal["assistant", "last_assistant", "all"] = Field(
        "assistant",
        description="Whose tokens are targets: every answer, only the last one, or everything.",
    )
    max_length: Annotated[int, Field(ge=2)] = Field(512, description="Tokens per row at most.")
    on_too_long: Literal["truncate", "drop", "error"] = Field(
        "truncate",
        description="`truncate` cuts the end off (such a row has no end token; running text goes "
        "on in a further row instead); `drop` leaves it out; `error` stops.",
    )
    packing: bool | Literal["auto"] = Field(
        "auto",
        description="Fill rows of `max_length` tokens with several short ones that don't see "
        "each other; `train.per_device_train_batch_size` then counts filled rows. `auto`: on for "
        "`causal_lm` and `masked_lm`, off where each row has one label or rows are streamed.",
    )
    normalization: Literal["NFC", "none"] = Field(
        "NFC", description="Unicode form of the text; decomposed Hangul ruins most vocabularies."
    )
    streaming: bool = Field(
        False,
        description="Read only as many training rows as `train.max_steps` takes, from the files in "
        "turn, a row from each: for corpora that are too long to be read to their end. Without "
        "it every row is read once before training; memory holds few of them either way.",
    )


class Recipe(Section):
    """One fine-tuning run.

    Example:
        >>> model, data = {"name_or_path": "skt/kogpt2-base-v2"}, {"train": "data.csv"}
        >>> recipe = Recipe(model=model, data=data, output_dir="runs/mine")
        >>> recipe.adapter.method, recipe.adapter.r
        ('lora', 8)
    """

    model_config = ConfigDict(json_schema_extra={"description": "One fine-tuning run."})

    task: TaskName = Field(
        "causal_lm",
        description="What is learned. `causal_lm`: text from left to right; "
        "`sequence_classification`: the class of a text or pair; `sequence_regression`: its "
        "number; `token_classification`: a tag for each word; `masked_lm`: hidden words.",
    )
    model: ModelSection = Field(description="The checkpoint.")
    adapter: AdapterSection = Field(
        default_factory=AdapterSection, description="What of it is trained."
    )
    data: DataSection = Field(description="The rows.")
    train: TrainSection = Field(default_factory=TrainSection, description="The optimization.")
    evaluate: EvaluateSection = Field(
        default_factory=EvaluateSection, description="What is measured."
    )
    export: ExportSection = Field(default_factory=ExportSection, description="The merged model.")
    output_dir: str = Field(
        min_length=1, description="The run folder; must not exist, or be empty."
    )

    def resolved(self) -> dict[str, Any]:
        """Every key with its value, as plain types, in the schema's order.

        Example:
            >>> recipe = {"model": {"name_or_path": "m"}, "data": {"train": "d"}, "output_dir": "o"}
            >>> list(Recipe.model_validate(recipe).resolved())[:3]
            ['task', 'model', 'adapter']
        """
        return self.model_dump(mode="json")
