"""Reading a recipe: every message as it is printed, and nothing but recipes and messages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from kft.errors import RecipeError
from kft.recipe.keys import keys
from kft.recipe.reader import find_problems, override_recipe, read_recipe, write_recipe
from kft.recipe.schema import Recipe
from kft.recipe.section import SourceSection

HEAD = """\
model:
  name_or_path: skt/kogpt2-base-v2
data:
  train: data/train.jsonl
output_dir: runs/a
"""
FEW = settings(
    max_examples=50,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],  # explaining takes minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(text: str | bytes, overrides: Any = None) -> Recipe:
    content = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    Path("ko.yaml").write_bytes(content)
    return read_recipe("ko.yaml", overrides)


def message(text: str | bytes, overrides: Any = None) -> str:
    with pytest.raises(RecipeError) as caught:
        read(text, overrides)
    return str(caught.value)


def section(name: str, *lines: str) -> str:
    """The smallest recipe with more lines in one section."""
    body = "".join(f"  {line}\n" for line in lines)
    if f"{name}:\n" in HEAD:
        start, rest = HEAD.split(f"{name}:\n")
        first, _, rest = rest.partition("\n")
        return f"{start}{name}:\n{first}\n{body}{rest}"
    return f"{HEAD}{name}:\n{body}"


MODEL_KEYS = "`name_or_path`, `revision`, `tokenizer`, `dtype`, `quantization`, ..."
ADAPTER_KEYS = "`method`, `r`, `lora_alpha`, `lora_dropout`, `target_modules`, ..."
TRAIN_KEYS = (
    "`num_train_epochs`, `max_steps`, `per_device_train_batch_size`, "
    "`gradient_accumulation_steps`, `learning_rate`, ..."
)
TOP_KEYS = "`task`, `model`, `adapter`, `data`, `train`, ..."
ROLES = (
    "`text`, `text_pair`, `label`, `prompt`, `completion`, `system`, `instruction`, `input`, "
    "`output`, `messages`, `tokens`, `tags`"
)
_SOURCE_KEYS = "`path`, `weight`, `config`, `split`, `revision`"
SOURCES = f"text, or a mapping of {_SOURCE_KEYS}, or a list of text, or mappings of {_SOURCE_KEYS}"

KEY_MESSAGES = {
    "another toolkit's word": (
        section("adapter", "lora_rank: 8"),
        f"""\
        error: Unknown key `adapter.lora_rank`
          --> ko.yaml:7
          expected: one of {ADAPTER_KEYS}

        hint: Did you mean `r`?""",
    ),
    "another toolkit's switch": (
        HEAD + "load_in_4bit: true\n",
        f"""\
        error: Unknown key `load_in_4bit`
          --> ko.yaml:6
          expected: one of {TOP_KEYS}

        hint: Did you mean `model.quantization: nf4`?""",
    ),
    "a key of another section": (
        HEAD + "learning_rate: 2e-4\n",
        f"""\
        error: Unknown key `learning_rate`
          --> ko.yaml:6
          expected: one of {TOP_KEYS}

        hint: Did you mean `train.learning_rate`?""",
    ),
    "a section in a section": (
        section("model", "adapter: {r: 4}"),
        f"""\
        error: Unknown key `model.adapter`
          --> ko.yaml:3
          expected: one of {MODEL_KEYS}

        hint: Did you mean `adapter` at the top level?""",
    ),
    "two misspelt keys": (
        section("train", "lr: 2e-4", "num_train_epoch: 3"),
        f"""\
        error: Unknown key `train.lr` (1 more in this recipe)
          --> ko.yaml:7
          expected: one of {TRAIN_KEYS}

        hint: Did you mean `learning_rate`?""",
    ),
    "a misspelling in the wrong section": (
        HEAD + "lora_alhpa: 3\n",
        f"""\
        error: Unknown key `lora_alhpa`
          --> ko.yaml:6
          expected: one of {TOP_KEYS}

        hint: Did you mean `adapter.lora_alpha`?""",
    ),
    "nothing like it": (
        HEAD + "<<: {a: 1}\n",
        f"""\
        error: Unknown key `<<`
          --> ko.yaml:6
          expected: one of {TOP_KEYS}""",
    ),
    "an override's spelling in a file": (
        HEAD + "adapter.r: 4\n",
        f"""\
        error: Unknown key `adapter.r`
          --> ko.yaml:6
          expected: one of {TOP_KEYS}

        hint: Write `r` on a line of its own under `adapter:`.""",
    ),
    "a terminal's control codes": (
        HEAD + '"\\e[31m": 4\n',
        f"""\
        error: Unknown key `\\x1b[31m`
          --> ko.yaml:6
          expected: one of {TOP_KEYS}""",
    ),
    "missing sections": (
        "output_dir: runs/a\n",
        """\
        error: Missing key `model` (1 more in this recipe)
          --> ko.yaml
          expected: a section with at least `name_or_path`

        hint: `kft schema` prints every key with its meaning and default.""",
    ),
    "a missing key": (
        HEAD.replace("train: data/train.jsonl", "max_length: 8"),
        """\
        error: Missing key `data.train`
          --> ko.yaml:3
          expected: File, folder, glob or a list of them (jsonl, json, csv, tsv, txt, parquet, \
arrow; also gz, zst, zip), or a mapping: a `path` with a `weight`, or a hub data set.

        hint: `kft schema` prints every key with its meaning and default.""",
    ),
    "a section that needs one key": (
        HEAD.replace("\n  name_or_path:", ""),
        f"""\
        error: `model` is a section, got `skt/kogpt2-base-v2`
          --> ko.yaml:1
          expected: keys under it: {MODEL_KEYS}

        hint: Write `name_or_path: skt/kogpt2-base-v2` under `model:`.""",
    ),
    "a section by a value of one of its keys": (
        HEAD + "adapter: qlora\n",
        f"""\
        error: `adapter` is a section, got `qlora`
          --> ko.yaml:6
          expected: keys under it: {ADAPTER_KEYS}

        hint: Write `method: qlora` under `adapter:`.""",
    ),
    "a section as a list": (
        HEAD + "adapter: [r, 8]\n",
        f"""\
        error: `adapter` is a section, got `[r, 8]`
          --> ko.yaml:6
          expected: keys under it: {ADAPTER_KEYS}""",
    ),
}

VALUE_MESSAGES = {
    "a limit": (
        section("adapter", "r: 0"),
        """\
        error: Invalid value for `adapter.r`, got `0`
          --> ko.yaml:7
          expected: a whole number, at least 1""",
    ),
    "two limits and a percentage": (
        section("data", "eval_fraction: 5"),
        """\
        error: Invalid value for `data.eval_fraction`, got `5`
          --> ko.yaml:5
          expected: a number, at least 0 and below 1

        hint: It is a share: 5 % is `0.05`.""",
    ),
    "a float for a whole number": (
        section("data", "max_length: 512.0"),
        """\
        error: Invalid value for `data.max_length`, got `512.0`
          --> ko.yaml:5
          expected: a whole number, at least 2

        hint: Write `512`.""",
    ),
    "a float as it was typed": (
        section("train", "max_steps: 1e3"),
        """\
        error: Invalid value for `train.max_steps`, got `1e3`
          --> ko.yaml:7
          expected: a whole number, at least 1, or `null`

        hint: Write `1000`.""",
    ),
    "digits in groups": (
        section("train", "max_steps: 1_000"),
        """\
        error: Invalid value for `train.max_steps`, got `1_000`
          --> ko.yaml:7
          expected: a whole number, at least 1, or `null`

        hint: Write `1000`, without quotes.""",
    ),
    "a number in quotes": (
        section("train", "learning_rate: '2e-4'"),
        """\
        error: Invalid value for `train.learning_rate`, got `"2e-4"`
          --> ko.yaml:7
          expected: a number, above 0

        hint: Write `2e-4`, without quotes.""",
    ),
    "a hash that reads as a number": (
        section("model", "revision: 12e4567"),
        """\
        error: Invalid value for `model.revision`, got `12e4567`
          --> ko.yaml:3
          expected: text, or `null`

        hint: Put it in quotes: `"12e4567"`.""",
    ),
    "labels that are no text": (
        section("data", "labels:", "- no", "- 1", "- true"),
        """\
        error: Invalid value in `data.labels`, got `1` (1 more in this recipe)
          --> ko.yaml:7
          expected: a list of text

        hint: Put it in quotes: `"1"`.""",
    ),
    "one name for a list": (
        section("adapter", "modules_to_save: lm_head"),
        """\
        error: Invalid value for `adapter.modules_to_save`, got `lm_head`
          --> ko.yaml:7
          expected: a list of text

        hint: Write `[lm_head]`.""",
    ),
    "a mapping without a path": (
        section("data", "eval: {split: test}"),
        f"""\
        error: Invalid value for `data.eval`, got `{{split: test}}`
          --> ko.yaml:5
          expected: {SOURCES}, or `null`""",
    ),
    "an unknown key of a source": (
        section("data", "eval:", "  - a.jsonl", "  - path: b.jsonl", "    wieght: 2"),
        """\
        error: Unknown key `wieght` in `data.eval`
          --> ko.yaml:8
          expected: one of `path`, `weight`, `config`, `split`, `revision`

        hint: Did you mean `weight`?""",
    ),
    "a weight below zero": (
        HEAD.replace("data/train.jsonl", "[a.jsonl, {path: b.jsonl, weight: -1}]"),
        """\
        error: Invalid value for `data.train.weight`, got `-1`
          --> ko.yaml:4
          expected: a number, above 0 and at most 1000""",
    ),
    "a number among the sources": (
        HEAD.replace("data/train.jsonl", "[a.jsonl, 7]"),
        f"""\
        error: Invalid value in `data.train`, got `7`
          --> ko.yaml:4
          expected: {SOURCES}

        hint: Put it in quotes: `"7"`.""",
    ),
    "a weight of held-out rows": (
        section("data", "eval: [{path: a.jsonl, weight: 2}]"),
        """\
        error: `weight: 2` has no meaning in `data.eval`
          --> ko.yaml:5
          expected: every held-out row once, so that two runs can be compared

        hint: Leave `weight` out.""",
    ),
    "a stream without an end": (
        section("data", "streaming: true"),
        """\
        error: `data.streaming: true` needs `train.max_steps`, got none
          --> ko.yaml:5
          expected: the number of optimizer steps: it says how many rows are read

        hint: Write `train.max_steps`, or leave `data.streaming` out to read every row.""",
    ),
    "a stream of packed rows": (
        section("data", "streaming: true\n  packing: true") + "train:\n  max_steps: 5\n",
        """\
        error: `data.packing: true` doesn't go with `data.streaming: true`
          --> ko.yaml:6
          expected: `auto` or `false`: how many rows fill packed ones shows only when they are read

        hint: Leave `data.packing` out; without `data.streaming` every row is read, and packed.""",
    ),
    "a stream into batches of any size": (
        section("data", "streaming: true")
        + "train: {max_steps: 5, per_device_train_batch_size: auto}\n",
        """\
        error: `auto` doesn't go with `data.streaming: true`
          --> ko.yaml:7
          expected: a number: it says how many rows are read""",
    ),
    "several columns of text": (
        section("data", "columns: {text: [a, b], label: [c, d]}"),
        """\
        error: Invalid value for `data.columns.text`, got `[a, b]`
          --> ko.yaml:5
          expected: a column's name""",
    ),
    "a list of one label column": (
        section("data", "columns: {label: [c]}"),
        """\
        error: Invalid value for `data.columns.label`, got `[c]`
          --> ko.yaml:5
          expected: a name, or at least two of them""",
    ),
    "nothing for a number": (
        section("adapter", "r:"),
        """\
        error: Invalid value for `adapter.r`, got ``
          --> ko.yaml:7
          expected: a whole number, at least 1""",
    ),
    "nothing for a name": (
        HEAD.replace("runs/a", "''"),
        """\
        error: Invalid value for `output_dir`, got `""`
          --> ko.yaml:5
          expected: text, not empty""",
    ),
    "a choice misspelt": (
        section("train", "lr_scheduler_type: cosin"),
        """\
        error: Invalid value for `train.lr_scheduler_type`, got `cosin`
          --> ko.yaml:7
          expected: one of `cosine`, `linear`, `constant`

        hint: Did you mean `cosine`?""",
    ),
    "a choice of another toolkit": (
        section("train", "precision: bf16"),
        """\
        error: Invalid value for `train.precision`, got `bf16`
          --> ko.yaml:7
          expected: one of `auto`, `float32`, `bfloat16`, `float16`

        hint: Did you mean `bfloat16`?""",
    ),
    "null for a choice": (
        section("model", "quantization: null"),
        """\
        error: Invalid value for `model.quantization`, got `null`
          --> ko.yaml:3
          expected: one of `none`, `nf4`, `fp4`, `int8`

        hint: Did you mean `none`?""",
    ),
    "YAML 1.1's yes": (
        section("adapter", "use_dora: yes"),
        """\
        error: Invalid value for `adapter.use_dora`, got `yes`
          --> ko.yaml:7
          expected: one of `true`, `false`

        hint: Write `true`.""",
    ),
    "a switch with names": (
        section("adapter", "init_lora_weights: piza"),
        """\
        error: Invalid value for `adapter.init_lora_weights`, got `piza`
          --> ko.yaml:7
          expected: one of `true`, `false`, `gaussian`, `orthogonal`, `olora`, `pissa`

        hint: Did you mean `pissa`?""",
    ),
    "an unknown role": (
        section("data", "columns: {txt: a, text: 3}"),
        f"""\
        error: Unknown role `txt` in `data.columns` (1 more in this recipe)
          --> ko.yaml:5
          expected: one of {ROLES}

        hint: Did you mean `text`?""",
    ),
    "a column by its number": (
        section("data", "columns:", "  text: 3"),
        """\
        error: Invalid value for `data.columns.text`, got `3`
          --> ko.yaml:6
          expected: text, or a list of text

        hint: Put it in quotes: `"3"`.""",
    ),
    "a value on two lines": (
        section("train", "seed: |", "  첫째 줄", "  둘째 줄"),
        """\
        error: Invalid value for `train.seed`, got `첫째 줄\\n둘째 줄\\n`
          --> ko.yaml:7
          expected: a whole number, at least 0""",
    ),
    "a long value": (
        section("train", f"seed: {'가나다라마' * 100}"),
        f"""\
        error: Invalid value for `train.seed`, got `{"가나다라마" * 11}가나...`
          --> ko.yaml:7
          expected: a whole number, at least 0""",
    ),
    "infinity": (
        section("train", "learning_rate: .inf"),
        """\
        error: Invalid value for `train.learning_rate`, got `.inf`
          --> ko.yaml:7
          expected: a number, above 0, and finite""",
    ),
}

FILE_MESSAGES = {
    "written twice": (
        section("train", "seed: 1", "seed: 2"),
        """\
        error: Key `train.seed` is written twice
          --> ko.yaml:8
          expected: it once; the first is on line 7""",
    ),
    "empty": (
        "# nothing yet\n",
        f"""\
        error: The recipe is empty
          --> ko.yaml
          expected: a mapping with the keys {TOP_KEYS}

        hint: `kft schema` prints every key with its meaning and default.""",
    ),
    "a list": (
        "- a\n",
        f"""\
        error: The recipe is a list
          --> ko.yaml:1
          expected: a mapping with the keys {TOP_KEYS}""",
    ),
    "a word": (
        "gpt\n",
        f"""\
        error: The recipe is a single value
          --> ko.yaml:1
          expected: a mapping with the keys {TOP_KEYS}""",
    ),
    "a tab": (
        HEAD + "train:\n\tseed: 1\n",
        """\
        error: A tab stands where YAML wants spaces
          --> ko.yaml:7
          expected: spaces""",
    ),
    "a colon": (
        "model: a: b\n",
        """\
        error: This isn't YAML: mapping values are not allowed here
          --> ko.yaml:1

        hint: Put a value that has `: ` in it in quotes.""",
    ),
    "an at sign": (
        "model: @a\n",
        """\
        error: This isn't YAML: found character '@' that cannot start any token
          --> ko.yaml:1

        hint: Put text that begins with `@` in quotes.""",
    ),
    "a space of another script": (
        section("adapter", "r:\u00a08", "lora_alpha: 1"),
        """\
        error: This isn't YAML: mapping values are not allowed here
          --> ko.yaml:8

        hint: Line 7 has a non-breaking space; write a plain space.""",
    ),
    "an open quote": (
        HEAD + "train: 'x\n\n",
        """\
        error: The quote that opens here is never closed
          --> ko.yaml:6""",
    ),
    "an open bracket": (
        HEAD + "train: [x\n\n",
        """\
        error: The bracket that opens here is never closed
          --> ko.yaml:6""",
    ),
    "an anchor": (
        HEAD.replace("runs/a", "&x runs/a"),
        """\
        error: Anchors and aliases (`&name`, `*name`) aren't part of a recipe
          --> ko.yaml:5
          expected: every value written where it is used

        hint: Put text that begins with `*` or `&` in quotes.""",
    ),
    "a glob": (
        HEAD.replace("data/train", "*"),
        """\
        error: This isn't YAML: expected alphabetic or numeric character, but found '.'
          --> ko.yaml:4

        hint: Put text that begins with `*` or `&` in quotes.""",
    ),
    "a tag": (
        HEAD + "train: !!python/object/apply:os.system [ls]\n",
        """\
        error: Tag `!!python/object/apply:os.system` isn't part of a recipe
          --> ko.yaml:6
          expected: plain values

        hint: Leave the tag out, or put text that begins with `!` in quotes.""",
    ),
    "a core tag that doesn't fit": (
        HEAD + "task: !!int x\n",
        """\
        error: `x` doesn't fit its tag `!!int`
          --> ko.yaml:6

        hint: Leave the tag out.""",
    ),
    "two documents": (
        HEAD + "---\na: 1\n",
        """\
        error: A second document begins (`---`)
          --> ko.yaml:6
          expected: one recipe in a file""",
    ),
    "a key that is a list": (
        HEAD + "? [a]\n: 1\n",
        """\
        error: A key is a list or a mapping
          --> ko.yaml:6
          expected: a name""",
    ),
    "a control character": (
        HEAD + "a: \x07\n",
        """\
        error: The recipe has a control character (U+0007)
          --> ko.yaml:6""",
    ),
    "an impossible escape": (
        HEAD + 'a: "\\UFFFFFFFF"\n',
        """\
        error: The recipe has an escape that is no character
          --> ko.yaml""",
    ),
    "half a character": (
        HEAD + 'a: "\\ud800"\n',
        """\
        error: Text has half a surrogate pair (`\\ud800`)
          --> ko.yaml:6""",
    ),
    "thousands of digits": (
        HEAD + f"a: {'9' * 5000}\n",
        """\
        error: A number has too many digits
          --> ko.yaml:6""",
    ),
    "thousands of brackets": (
        "[" * 5000,
        """\
        error: The recipe is nested too deeply
          --> ko.yaml:1
          expected: at most 20 levels""",
    ),
    "a megabyte": (
        "#" * 1_000_001,
        """\
        error: The file is too large for a recipe
          --> ko.yaml
          expected: at most 1 MB""",
    ),
    "a Korean encoding": (
        (HEAD + "# 한국어 설정\n").encode("cp949"),
        """\
        error: The recipe isn't UTF-8 text
          --> ko.yaml:6
          expected: UTF-8

        hint: Convert it: `iconv -f CP949 -t UTF-8 ko.yaml > utf8.yaml`.""",
    ),
    "no text at all": (
        b"\xff\xfe\x00",
        """\
        error: The recipe isn't UTF-8 text
          --> ko.yaml:1
          expected: UTF-8""",
    ),
}

RULE_MESSAGES = {
    "full and quantized": (
        section("model", "quantization: nf4") + "adapter: {method: full}\n",
        """\
        error: `model.quantization: nf4` can't be trained with `adapter.method: full`
          --> ko.yaml:3
          expected: `none`, because quantized weights have no gradient

        hint: `adapter.method: qlora` trains LoRA on a 4-bit base.""",
    ),
    "qlora and not quantized": (
        section("model", "quantization: none") + "adapter: {method: qlora}\n",
        """\
        error: `adapter.method: qlora` needs a quantized base, got `model.quantization: none`
          --> ko.yaml:3
          expected: one of `nf4`, `fp4`, `int8`

        hint: Leave `model.quantization` out, or write `adapter.method: lora`.""",
    ),
    "random weights": (
        section("model", "init: random"),
        """\
        error: `model.init: random` can't be trained with `adapter.method: lora`
          --> ko.yaml:3
          expected: `adapter.method: full`, because an adapter leaves the random weights as they are

        hint: Write `adapter.method: full`.""",
    ),
    "a new tokenizer": (
        section("model", "tokenizer: train"),
        """\
        error: `model.tokenizer: train` doesn't fit a pretrained checkpoint
          --> ko.yaml:3
          expected: `model.init: random`, because pretrained embeddings belong to their own \
tokenizer

        hint: Leave `model.tokenizer` out to use the checkpoint's, or `./train` for a folder.""",
    ),
    "remote code": (
        section("model", "trust_remote_code: true", "revision: main"),
        """\
        error: `model.trust_remote_code: true` needs a pinned revision, got `model.revision: main`
          --> ko.yaml:3
          expected: the full hash of a commit (40 digits), because a branch or tag can \
change its code

        hint: Write `model.revision` with the hash of the commit whose code you have read.""",
    ),
    "a role that the format lacks": (
        section("data", "format: text", "columns: {label: 별점}"),
        """\
        error: Role `label` isn't used by `data.format: text`
          --> ko.yaml:6
          expected: `text`

        hint: Did you mean `data.format: classification`?""",
    ),
    "roles that no format has": (
        section("data", "columns: {label: a, prompt: b}"),
        """\
        error: No format of the rows has all of the roles `label`, `prompt`
          --> ko.yaml:5
          expected: the roles of one format, for example `prompt`, `completion`, `system` for \
`prompt_completion`""",
    ),
    "labels without classes": (
        section("data", "format: messages", "labels: [a, b]"),
        """\
        error: `data.labels` isn't used by `data.format: messages`
          --> ko.yaml:6
          expected: `data.format` `classification`, `pairs`, `tokens`

        hint: Leave `data.labels` out.""",
    ),
    "a label twice": (
        section("data", "labels: [긍정, 부정, 긍정]"),
        """\
        error: `data.labels` has `긍정` twice
          --> ko.yaml:5
          expected: every label once""",
    ),
    "one label": (
        section("data", "labels: [긍정]"),
        """\
        error: `data.labels` has only `긍정`
          --> ko.yaml:5
          expected: at least two labels""",
    ),
    "an adapter for all weights": (
        section("adapter", "method: full", "start_from: runs/b/adapter"),
        """\
        error: `adapter.start_from` has no meaning with `adapter.method: full`
          --> ko.yaml:8
          expected: `adapter.method` `lora` or `qlora`

        hint: Merge the adapter first, and write the merged model's folder as \
`model.name_or_path`.""",
    ),
    "evaluation without rows": (
        section("data", "eval_fraction: 0") + "evaluate: {eval_steps: 10}\n",
        """\
        error: `evaluate.eval_steps` needs held-out rows, got `data.eval_fraction: 0`
          --> ko.yaml:7
          expected: `data.eval`, or `data.eval_fraction` above 0""",
    ),
    "a misspelt metric": (
        section("data", "eval_fraction: 0.1") + "evaluate: {metrics: [perplexity, chfr]}\n",
        """\
        error: Unknown metric in `evaluate.metrics`, got `chfr`
          --> ko.yaml:7
          expected: one of `eval_loss`, `perplexity`, `bits_per_character`, `bits_per_byte`, \
`accuracy`, `macro_f1`, `micro_f1`, `weighted_f1`, ...

        hint: Did you mean `chrf`?""",
    ),
    "a metric of another task": (
        section("data", "eval_fraction: 0.1") + "evaluate: {metrics: [r2]}\n",
        """\
        error: `evaluate.metrics` can't be `r2` with `task: causal_lm`
          --> ko.yaml:7
          expected: one of `eval_loss`, `perplexity`, `bits_per_character`, `bits_per_byte`, \
`accuracy`, `macro_f1`, `micro_f1`, `weighted_f1`, ...""",
    ),
    "a best model told by generated answers": (
        section("train", "metric_for_best_model: chrf"),
        """\
        error: `train.metric_for_best_model` can't be `chrf` with `task: causal_lm`
          --> ko.yaml:7
          expected: one of `eval_loss`, `perplexity`, `bits_per_character`, `bits_per_byte`, \
`accuracy`, `macro_f1`, `micro_f1`, `weighted_f1`, ...""",
    ),
    "stopping early without looking": (
        section("train", "early_stopping_patience: 3"),
        """\
        error: `train.early_stopping_patience` needs evaluations while training, got \
`evaluate.eval_steps: null`
          --> ko.yaml:7
          expected: `evaluate.eval_steps` with a number of optimizer steps""",
    ),
    "pissa on four bits": (
        section("adapter", "method: qlora", "init_lora_weights: pissa"),
        """\
        error: `adapter.init_lora_weights: pissa` can't start from `model.quantization: nf4`
          --> ko.yaml:8
          expected: `model.quantization: none`, because PEFT decomposes the unquantized weights""",
    ),
    "an odd rank": (
        section("adapter", "r: 3", "init_lora_weights: orthogonal"),
        """\
        error: `adapter.init_lora_weights: orthogonal` can't be used with `adapter.r: 3`
          --> ko.yaml:8
          expected: an even `adapter.r`

        hint: Write `adapter.r: 4`.""",
    ),
    "names with commas": (
        section("adapter", "target_modules: q_proj,v_proj"),
        """\
        error: Invalid value for `adapter.target_modules`, got `q_proj,v_proj`
          --> ko.yaml:7
          expected: `auto`, `all-linear`, a list of module names, or a regular expression

        hint: Write `[q_proj, v_proj]`.""",
    ),
    "another toolkit's all": (
        section("adapter", "target_modules: all"),
        """\
        error: Invalid value for `adapter.target_modules`, got `all`
          --> ko.yaml:7
          expected: `auto`, `all-linear`, a list of module names, or a regular expression

        hint: Did you mean `all-linear`?""",
    ),
    "half an expression": (
        section("adapter", "target_modules: 'h.[0'"),
        """\
        error: Invalid value for `adapter.target_modules`, got `h.[0`
          --> ko.yaml:7
          expected: `auto`, `all-linear`, a list of module names, or a regular expression; \
as an expression: unterminated character set at position 2""",
    ),
    "no rows": (
        HEAD.replace("data/train.jsonl", "[]"),
        f"""\
        error: `data.train` is empty, got `[]`
          --> ko.yaml:4
          expected: {SOURCES}""",
    ),
    "a layer before the first": (
        section("adapter", "layers_to_transform: [0, -1]"),
        """\
        error: Invalid value in `adapter.layers_to_transform`, got `-1`
          --> ko.yaml:7
          expected: whole numbers, at least 0""",
    ),
    "a size without a unit": (
        section("export", "max_shard_size: 5 gigabytes"),
        """\
        error: Invalid value for `export.max_shard_size`, got `5 gigabytes`
          --> ko.yaml:7
          expected: a number with `KB`, `MB`, `GB` or `TB`, like `5GB`""",
    ),
}

ALL_MESSAGES = KEY_MESSAGES | VALUE_MESSAGES | FILE_MESSAGES | RULE_MESSAGES


@pytest.mark.parametrize("name", ALL_MESSAGES)
def test_message(name: str) -> None:
    text, expected = ALL_MESSAGES[name]
    assert message(text) == dedent(expected)


OVERRIDE_MESSAGES: dict[str, tuple[Any, str]] = {
    "an unknown key": (
        ["adapter.rr=16"],
        f"""\
        error: Unknown key `adapter.rr`
          --> override `adapter.rr=16`
          expected: one of {ADAPTER_KEYS}

        hint: Did you mean `r`?""",
    ),
    "a key below a key": (
        ["adapter.r.x=16"],
        f"""\
        error: Unknown key `adapter.r.x`
          --> override `adapter.r.x=16`
          expected: one of {ADAPTER_KEYS}""",
    ),
    "another toolkit's word": (
        {"lr": 0.1},
        f"""\
        error: Unknown key `lr`
          --> override `lr=0.1`
          expected: one of {TOP_KEYS}

        hint: Did you mean `train.learning_rate`?""",
    ),
    "no value": (
        ["adapter.r"],
        """\
        error: The override isn't of the form `key=value`
          --> override `adapter.r`
          expected: `key=value`""",
    ),
    "a limit": (
        ["adapter.r=0"],
        """\
        error: Invalid value for `adapter.r`, got `0`
          --> override `adapter.r=0`
          expected: a whole number, at least 1""",
    ),
    "text for a number": (
        {"adapter.r": "16"},
        """\
        error: Invalid value for `adapter.r`, got `"16"`
          --> override `adapter.r="16"`
          expected: a whole number, at least 1

        hint: Write `16`, without quotes.""",
    ),
    "twice": (
        ["adapter.r=4", "adapter.r=8"],
        """\
        error: Key `adapter.r` is overridden twice
          --> override `adapter.r=8`
          expected: it once""",
    ),
    "a key in a section": (
        {"adapter": {"r": 4, "rr": 5}},
        f"""\
        error: Unknown key `adapter.rr`
          --> override `adapter={{r: 4, rr: 5}}`
          expected: one of {ADAPTER_KEYS}

        hint: Did you mean `r`?""",
    ),
    "a role": (
        ["data.columns.txt=document"],
        f"""\
        error: Unknown role `txt` in `data.columns`
          --> override `data.columns.txt=document`
          expected: one of {ROLES}

        hint: Did you mean `text`?""",
    ),
    "an item of a list": (
        ["data.labels=[1, a]"],
        """\
        error: Invalid value in `data.labels`, got `1`
          --> override `data.labels=[1, a]`
          expected: a list of text

        hint: Put it in quotes: `"1"`.""",
    ),
    "no YAML": (
        ["data.labels=[1"],
        """\
        error: The bracket that opens here is never closed
          --> override `data.labels=[1`""",
    ),
    "a rule": (
        ["adapter.method=qlora", "model.quantization=none"],
        """\
        error: `adapter.method: qlora` needs a quantized base, got `model.quantization: none`
          --> override `model.quantization=none`
          expected: one of `nf4`, `fp4`, `int8`

        hint: Leave `model.quantization` out, or write `adapter.method: lora`.""",
    ),
}


@pytest.mark.parametrize("name", OVERRIDE_MESSAGES)
def test_message_of_an_override(name: str) -> None:
    overrides, expected = OVERRIDE_MESSAGES[name]
    assert message(HEAD, overrides) == dedent(expected)


def test_the_file_comes_before_the_overrides() -> None:
    assert message(HEAD + "lr: 1\n", ["adapter.rr=1"]).startswith(
        "error: Unknown key `lr` (1 more in this recipe)\n  --> ko.yaml:6\n"
    )


def test_every_problem_can_be_had() -> None:
    Path("ko.yaml").write_text(section("train", "lr: 1", "seed: -1", "seeds: 1"))
    assert [error.what for error in find_problems("ko.yaml")] == [
        "Unknown key `train.lr`",
        "Invalid value for `train.seed`, got `-1`",
        "Unknown key `train.seeds`",
    ]
    assert [error.where for error in find_problems("no.yaml")] == ["no.yaml"]
    Path("ko.yaml").write_text(HEAD)
    assert find_problems("ko.yaml") == []


def test_a_missing_file_and_a_folder() -> None:
    Path("ko_gpt.yaml").write_text(HEAD)
    with pytest.raises(RecipeError) as caught:
        read_recipe("ko-gpt.yaml")
    assert str(caught.value) == dedent("""\
        error: There is no file `ko-gpt.yaml`
          --> ko-gpt.yaml
          expected: a recipe in YAML

        hint: Did you mean `ko_gpt.yaml`?""")
    run = Path("runs/a")
    run.mkdir(parents=True)
    (run / "recipe.yaml").write_text(HEAD)
    with pytest.raises(RecipeError) as caught:
        read_recipe(run)
    assert str(caught.value) == dedent("""\
        error: `runs/a` is a folder
          --> runs/a
          expected: a recipe in YAML

        hint: Did you mean `runs/a/recipe.yaml`?""")
    with pytest.raises(RecipeError, match="can't be read: embedded null byte"):
        read_recipe("a\0b")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2e-4", 0.0002),
        ("1E-5", 0.00001),
        ("5.e-3", 0.005),
        (".5", 0.5),
        ("3", 3.0),
        ("0x10", 16.0),
    ],
)
def test_numbers_are_yaml_1_2(text: str, value: float) -> None:
    assert read(section("train", f"learning_rate: {text}")).train.learning_rate == value


def test_words_stay_words() -> None:
    recipe = read(section("data", "labels: [no, yes, on, off, 2024-01-01, 1:30, n, 1_0]"))
    assert recipe.data.labels == ["no", "yes", "on", "off", "2024-01-01", "1:30", "n", "1_0"]


def test_a_leading_zero_is_decimal() -> None:
    assert read(section("train", "seed: 012")).train.seed == 12


def test_a_byte_order_mark_and_an_empty_section_are_fine() -> None:
    assert read(b"\xef\xbb\xbf" + HEAD.encode() + b"adapter:\n  # r: 4\n").adapter.r == 8


def test_json_is_yaml() -> None:
    text = '{"model": {"name_or_path": "m"}, "data": {"train": ["a"]}, "output_dir": "o"}'
    assert read(text).data.train == ["a"]


def test_overrides_are_read_as_yaml() -> None:
    recipe = read(
        HEAD,
        [
            "adapter.r=16",
            "train.learning_rate=1e-4",
            "data.train=*.jsonl",
            "data.columns.text=문서",
            "data.labels=[]",
            "model.revision='1'",
            "train.max_steps=",
            "evaluate={generate: 0}",
        ],
    )
    assert recipe.adapter.r == 16
    assert recipe.train.learning_rate == 0.0001
    assert recipe.data.train == "*.jsonl"
    assert recipe.data.columns == {"text": "문서"}
    assert recipe.model.revision == "1"
    assert recipe.train.max_steps is None
    assert recipe.evaluate.generate == 0
    assert recipe.evaluate.max_new_tokens == 64


def test_overrides_as_python_has_them() -> None:
    overrides = {"adapter": {"r": 4}, "output_dir": Path("runs/b"), "data.train": ("a", Path("b"))}
    recipe = read(section("adapter", "lora_alpha: 3"), overrides)
    assert (recipe.adapter.r, recipe.adapter.lora_alpha) == (4, 3)
    assert recipe.output_dir == str(Path("runs/b"))
    assert recipe.data.train == ["a", "b"]
    assert read(HEAD, "adapter.r=4").adapter.r == 4


def test_overrides_mend_a_recipe() -> None:
    assert read("adapter: {r: 0}\n", ["adapter.r=2", *minimal_overrides()]).adapter.r == 2


def minimal_overrides() -> list[str]:
    return ["model.name_or_path=m", "data.train=d", "output_dir=o"]


@pytest.mark.parametrize(
    ("quantization", "resolved"), [(None, "nf4"), ("fp4", "fp4"), ("int8", "int8")]
)
def test_qlora_is_spelled_out(quantization: str | None, resolved: str) -> None:
    overrides = {"adapter.method": "qlora"}
    if quantization is not None:
        overrides["model.quantization"] = quantization
    recipe = read(HEAD, overrides)
    assert recipe.adapter.method == "qlora"
    assert recipe.model.quantization == resolved


def test_no_evaluation_is_allowed() -> None:
    assert read(section("data", "eval_fraction: 0")).data.eval is None


def test_pinned_remote_code_is_allowed() -> None:
    text = section("model", "trust_remote_code: true", f"revision: {'a1' * 20}")
    assert read(text).model.trust_remote_code


@pytest.mark.parametrize(
    "target", ["auto", "all-linear", "[c_attn]", "'.*[.]c_attn'", "'[[a]|b'", "h[.]0[.].*"]
)
def test_target_modules_that_are_fine(target: str) -> None:
    read(section("adapter", f"target_modules: {target}"))


def test_a_recipe_can_be_overridden() -> None:
    recipe = read(section("adapter", "r: 4"))
    changed = override_recipe(recipe, {"adapter.method": "qlora"})
    assert (changed.adapter.r, changed.model.quantization) == (4, "nf4")
    assert (recipe.adapter.method, recipe.model.quantization) == ("lora", "none")
    with pytest.raises(RecipeError) as caught:
        override_recipe(recipe, {"model.quantization": "nf4", "adapter.method": "full"})
    assert caught.value.where == "override `model.quantization=nf4`"


FULL_TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
WRITTEN_TEXT = FULL_TEXT | st.sampled_from(["2e-4", "yes", "null", "~", "0x1", " a", "*", "a\n b"])


@FEW
@given(
    texts=st.lists(WRITTEN_TEXT, max_size=3, unique=True),
    template=WRITTEN_TEXT,
    rate=st.floats(min_value=1e-300, max_value=1e300),
    epochs=st.integers(1, 10_000),
    method=st.sampled_from(["lora", "qlora", "full"]),
    columns=st.dictionaries(st.sampled_from(["text", "label"]), WRITTEN_TEXT),
)
def test_the_resolved_recipe_reads_back(
    texts: list[str],
    template: str,
    rate: float,
    epochs: int,
    method: str,
    columns: dict[str, str],
) -> None:
    recipe = read(
        HEAD,
        {
            "adapter.method": method,
            "adapter.modules_to_save": texts,
            "data.template": template,
            "data.columns": columns,
            "train.learning_rate": rate,
            "train.num_train_epochs": epochs,
        },
    )
    write_recipe(recipe, Path("resolved.yaml"))
    assert read_recipe("resolved.yaml") == recipe
    assert read_recipe("resolved.yaml").resolved() == recipe.resolved()


def test_the_resolved_recipe_is_in_the_schema_s_order_and_readable() -> None:
    recipe = read(section("data", "labels: [부정, 긍정, no]"), {"adapter.method": "qlora"})
    write_recipe(recipe, Path("resolved.yaml"))
    text = Path("resolved.yaml").read_text(encoding="utf-8")
    assert "  labels:\n  - 부정\n  - 긍정\n  - no\n" in text
    assert "  quantization: nf4\n" in text
    assert "  learning_rate: 0.0002\n" in text
    assert list(yaml.safe_load(text)) == list(Recipe.model_fields)
    written = yaml.safe_load(text)
    assert {
        f"{name}.{key}"
        for name, value in written.items()
        if isinstance(value, dict)
        for key in value
    } == {path for path in keys() if "." in path}


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | FULL_TEXT
    | st.sampled_from(["lora", "full", "qlora", "auto", "none", "nf4", "text", "train", "random"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*keys(), "text", "r"]) | FULL_TEXT, inner, max_size=3)
    ),
    max_leaves=4,
)
PATHS = st.sampled_from([*keys(), "adapter", "data", "data.columns.text"]) | FULL_TEXT
FRAGMENTS = st.sampled_from(
    [
        *("model:", "data:", "adapter:", "r:", " ", "  ", "\n", "\n  ", ": ", "- ", "[", "]", "{"),
        *(
            "}",
            "'",
            '"',
            "&a",
            "*a",
            "!!str ",
            "!x ",
            "|",
            ">",
            "#",
            "---",
            "...",
            "%YAML 1.1",
            "\t",
        ),
        *("\\u", "\\x", "? ", "<<", "2e-4", "~", "1" * 5000, "\ud800", "\x85", "\u2028", "\ufeff"),
    ]
)


def recipe_or_message(text: str | bytes, overrides: Any = None) -> None:
    told = "error: "
    try:
        read(text, overrides)
    except RecipeError as error:
        told = str(error)
    assert told.startswith("error: ")
    assert "\x1b" not in told


@FEW
@given(st.text(max_size=60) | st.lists(FRAGMENTS, max_size=12).map("".join))
def test_any_text_is_a_recipe_or_a_message(text: str) -> None:
    recipe_or_message(text)
    recipe_or_message(HEAD + text)
    recipe_or_message(HEAD, [f"data.template={text}", text])


@FEW
@given(st.binary(max_size=40))
def test_any_bytes_are_a_recipe_or_a_message(content: bytes) -> None:
    recipe_or_message(content)


@FEW
@given(st.dictionaries(PATHS, VALUES, max_size=4))
def test_any_mapping_is_a_recipe_or_a_message(mapping: dict[str, Any]) -> None:
    recipe_or_message(HEAD, mapping)
    nested: dict[str, Any] = yaml.safe_load(HEAD)
    for path, value in mapping.items():
        parent, _, name = path.rpartition(".")
        place = nested.setdefault(parent, {}) if parent else nested
        if isinstance(place, dict):
            place[name] = value
    recipe_or_message(yaml.safe_dump(nested, allow_unicode=True))


def test_importing_the_reader_is_quick_and_brings_no_torch() -> None:
    code = (
        "import sys, time, kft.recipe.reader, kft.recipe.describe; "
        "print(time.process_time(), {'torch', 'transformers', 'peft', 'numpy'} & set(sys.modules))"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(3)
    ]
    assert {run.stdout.split(maxsplit=1)[1].strip() for run in runs} == {"set()"}
    # Mostly pydantic's own 0.13 s; the room left is for machines under load.
    assert min(float(run.stdout.split()[0]) for run in runs) < 0.6


def test_sources_are_read_and_written(tmp_path: Path) -> None:
    hub = "{path: klue/klue, config: nli, split: validation, revision: abc}"
    text = HEAD.replace("data/train.jsonl", f"[a.jsonl, {{path: b.jsonl, weight: 2}}, {hub}]")
    recipe = read(text)
    assert isinstance(recipe.data.train, list)
    first, second, third = recipe.data.train
    assert first == "a.jsonl"
    assert second == SourceSection(path="b.jsonl", weight=2.0)
    assert third == SourceSection(
        path="klue/klue", config="nli", split="validation", revision="abc"
    )
    write_recipe(recipe, tmp_path / "again.yaml")
    assert read_recipe(tmp_path / "again.yaml") == recipe
    columns = read(section("data", "columns: {label: [욕설, 혐오]}")).data.columns
    assert columns == {"label": ["욕설", "혐오"]}
