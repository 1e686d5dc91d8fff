"""How a model is loaded, as a model card says it: with kft, and with transformers and PEFT."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_INDENT = "    "
_ALONE = """\
**Loaded plainly, this model says something else.** {why} transformers knows no such model, so
neither the answers nor the figures below hold for it. Use it with kft alone:
"""
_PREFIX = (
    "In this model the tokens of a prompt see each other in both directions, and those of the "
    "answer see what is before them (`kft_attention: prefix`)."
)
_POSITIONS = "It writes with an encoder whose positions are counted from behind the padding token."


@dataclass(frozen=True)
class Loading:
    """What one needs to know to load a model.

    Args:
        auto_class: Name of the transformers class that fits the task.
        task: The recipe's.
        base: What an adapter goes onto, as a program names it; ``None`` for a whole model.
        dtype: Precision in which the base was held, such as ``bfloat16``.
        options: Keys of the base's configuration that its own lacks, such as ``num_labels``.
        quantization: Arguments of ``BitsAndBytesConfig``; empty when the base wasn't quantized.
        start: What begins a running text; ``None`` where the tokenizer has a chat template.
        is_pair: The task reads two texts.
        prefix: Its prompt sees itself both ways.
        odd_positions: transformers' own ``generate`` numbers its positions wrongly.
        graph: File of an ONNX model; ``None`` for weights that transformers loads.
        gguf: File of a GGUF model; ``None`` likewise.
    """

    auto_class: str
    task: str
    base: str | None = None
    dtype: str = "float32"
    options: Mapping[str, Any] = field(default_factory=dict)
    quantization: Mapping[str, Any] = field(default_factory=dict)
    start: str | None = None
    is_pair: bool = False
    prefix: bool = False
    odd_positions: bool = False
    graph: str | None = None
    gguf: str | None = None


def loading_text(loading: Loading) -> str:
    """The card's section on loading, without its title; the code runs as it stands.

    A prefix model, and an encoder that writes from shifted positions, are given no code: what
    transformers makes of them isn't what was trained.
    """
    with_kft = "".join(f"{_INDENT}{line}\n" for line in _commands(loading))
    if loading.prefix or loading.odd_positions:
        why = _PREFIX if loading.prefix else _POSITIONS
        return _ALONE.format(why=why) + "\n" + with_kft
    if loading.graph is not None:
        return f"With onnxruntime:\n\n```python\n{_graph(loading)}\n```\n"
    if loading.gguf is not None:
        return f"{_OLLAMA}\n```python\n{_llama_cpp(loading)}\n```\n"
    code = "\n".join([*_imports(loading), "", *_model(loading), "", *_use(loading)])
    return f"With kft:\n\n{with_kft}\nWithout it:\n\n```python\n{code}\n```\n"


def _commands(loading: Loading) -> list[str]:
    measure = "kft evaluate FOLDER --data FILE"
    if loading.task == "masked_lm":
        return [measure]
    text = "$'TEXT\\tTEXT'" if loading.is_pair else "TEXT"
    ask = f"kft generate FOLDER --prompt {text}"
    return [ask] if loading.task == "causal_lm" else [ask, measure]


def _imports(loading: Loading) -> list[str]:
    names = [loading.auto_class, "AutoTokenizer"]
    if loading.quantization:
        names.append("BitsAndBytesConfig")
    lines = ["import torch"]
    if loading.base is not None:
        lines.append("from peft import PeftModel")
    return [*lines, f"from transformers import {', '.join(names)}"]


def _graph(loading: Loading) -> str:
    """Code that runs a graph; its labels' names are in the configuration beside it."""
    texts = {"token_classification": _WORDS, "masked_lm": '"서울의 하늘이 높다"'}
    given = texts.get(loading.task) or _texts(is_pair=loading.is_pair)
    return "\n".join(
        [
            "import numpy",
            "import onnxruntime",
            "from transformers import AutoConfig, AutoTokenizer",
            "",
            'folder = "."  # this one',
            "config = AutoConfig.from_pretrained(folder)",
            "tokenizer = AutoTokenizer.from_pretrained(folder)",
            f'session = onnxruntime.InferenceSession(f"{{folder}}/{loading.graph}")',
            "names = [one.name for one in session.get_inputs()]",
            "",
            f'inputs = tokenizer({given}, return_tensors="np")',
            'inputs.setdefault("token_type_ids", numpy.zeros_like(inputs["input_ids"]))',
            "given = {name: inputs[name].astype(numpy.int64) for name in names}",
            "logits = session.run(None, given)[0]",
            "print(logits.shape, config.id2label)",
        ]
    )


_OLLAMA = """\
With Ollama, in this folder:

    ollama create NAME -f Modelfile
    ollama run NAME

With llama-cpp-python:
"""


def _llama_cpp(loading: Loading) -> str:
    opened = [
        "from llama_cpp import Llama",
        "",
        'folder = "."  # this one',
        f'model = Llama(f"{{folder}}/{loading.gguf}", n_ctx=0, verbose=False)',
    ]
    if loading.start is not None:  # llama.cpp itself puts the start token there
        return "\n".join(
            [
                *opened,
                'answer = model("서울의 가을은", max_tokens=64, temperature=0)',
                'print(answer["choices"][0]["text"])',
            ]
        )
    return "\n".join(
        [
            *opened,
            'turns = [{"role": "user", "content": "서울의 가을은 어때요?"}]',
            "answer = model.create_chat_completion(turns, max_tokens=64, temperature=0)",
            'print(answer["choices"][0]["message"]["content"])',
        ]
    )


def _model(loading: Loading) -> list[str]:
    lines = [
        'folder = "."  # this one, or its name on the hub',
        "tokenizer = AutoTokenizer.from_pretrained(folder)",
    ]
    if loading.base is None:
        return [*lines, f"model = {loading.auto_class}.from_pretrained(folder).eval()"]
    options = {key: repr(value) for key, value in loading.options.items()}
    if loading.quantization:
        values = ", ".join(f"{key}={value!r}" for key, value in loading.quantization.items())
        options["quantization_config"] = f"BitsAndBytesConfig({values})"
    return [
        *lines,
        f"base = {loading.auto_class}.from_pretrained(",
        f"    {loading.base!r},",
        f"    dtype=torch.{loading.dtype},",
        *(f"    {key}={value}," for key, value in options.items()),
        ")",
        "if len(tokenizer) > base.get_input_embeddings().num_embeddings:",
        "    base.resize_token_embeddings(len(tokenizer))",
        "base.config.pad_token_id = tokenizer.pad_token_id",
        "model = PeftModel.from_pretrained(base, folder).eval()",
    ]


def _use(loading: Loading) -> list[str]:
    match loading.task:
        case "causal_lm":
            return [*_prompt(loading.start), *_GENERATE]
        case "token_classification":
            return [
                f'inputs = tokenizer({_WORDS}, return_tensors="pt")',
                *_LOGITS,
                "print([model.config.id2label[int(tag)] for tag in logits[0].argmax(-1)])",
            ]
        case "masked_lm":
            return [
                'text = f"서울의 {tokenizer.mask_token} 하늘이 높다"',
                'inputs = tokenizer(text, return_tensors="pt")',
                *_LOGITS,
                'at = inputs["input_ids"][0] == tokenizer.mask_token_id',
                "print(tokenizer.decode(logits[0, at].argmax(-1)))",
            ]
        case "sequence_regression":
            return [_inputs(loading), *_LOGITS, "print(float(logits[0, 0]))"]
        case _:
            return [
                _inputs(loading),
                *_LOGITS,
                "print(model.config.id2label[int(logits[0].argmax())])",
            ]


_LOGITS = ["with torch.no_grad():", "    logits = model(**inputs).logits"]
_GENERATE = [
    "with torch.no_grad():",
    "    output = model.generate(",
    '        input_ids=inputs["input_ids"],',
    '        attention_mask=inputs["attention_mask"],',
    "        max_new_tokens=64,",
    "        do_sample=False,",
    "        eos_token_id=tokenizer.eos_token_id,",
    "        pad_token_id=tokenizer.pad_token_id,",
    "    )",
    'answer = output[0, inputs["input_ids"].shape[1] :]',
    "print(tokenizer.decode(answer, skip_special_tokens=True))",
]


def _prompt(start: str | None) -> list[str]:
    if start is not None:
        return [
            f"text = {start + '서울의 가을은'!r}",
            'inputs = tokenizer(text, add_special_tokens=False, return_tensors="pt")',
        ]
    return [
        'turns = [{"role": "user", "content": "서울의 가을은 어때요?"}]',
        "inputs = tokenizer.apply_chat_template(",
        '    turns, add_generation_prompt=True, return_dict=True, return_tensors="pt"',
        ")",
    ]


_WORDS = '["서울의", "가을은", "하늘이", "높다"], is_split_into_words=True'


def _texts(*, is_pair: bool) -> str:
    return '"하늘이 높다", "바람이 선선하다"' if is_pair else '"하늘이 높고 바람이 선선하다"'


def _inputs(loading: Loading) -> str:
    return f'inputs = tokenizer({_texts(is_pair=loading.is_pair)}, return_tensors="pt")'
