"""The templates that a recipe can name.

Each writes a turn's text as it is, and looks at no more of it than whether there is any: that is
what :mod:`kft.data.moulds` builds on.
"""

from __future__ import annotations

START = "{{ bos_token }}"
"""In front of a template where the tokenizer puts its start token before every text."""

# transformers' jinja drops a line break right after a block, so these are written as values.
_LINE = r"{{ '\n' }}"
_BLANK = r"{{ '\n\n' }}"
_INPUT = "{% if message.input %}" + _LINE + "{{ message.input }}{% endif %}"

PLAIN = (
    "{% for message in messages %}"
    "{% if message.role == 'assistant' %}{{ message.content }}{{ eos_token }}"
    "{% elif message.role == 'system' %}{{ message.content }}\n\n"
    "{% else %}{{ message.content }}" + _INPUT + "{% endif %}{% endfor %}"
)

# Beomi/KoAlpaca, run_tensor_parallel.py: the context stands between question and answer.
KOALPACA = (
    "{% for message in messages %}"
    "{% if message.role == 'assistant' %}### 답변: {{ message.content }}{{ eos_token }}"
    "{% elif message.role == 'system' %}{{ message.content }}\n\n"
    "{% else %}{% if not loop.first and loop.previtem.role == 'assistant' %}"
    + _BLANK
    + "{% endif %}"
    "### 질문: {{ message.content }}\n\n"
    "{% if message.input %}### 맥락: {{ message.input }}\n\n{% endif %}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}### 답변:{% endif %}"
)


def _instruction_template(plain: str, with_input: str, headings: tuple[str, str, str]) -> str:
    """An Alpaca-like template: the introduction depends on whether there is an input."""
    instruction, context, response = headings
    return (
        "{% if messages[0].role != 'system' %}"
        "{% if messages[0].input %}"
        + with_input
        + "{% else %}"
        + plain
        + "{% endif %}"
        + _BLANK
        + "{% endif %}{% for message in messages %}"
        "{% if message.role == 'assistant' %}"
        "### " + response + ":\n{{ message.content }}{{ eos_token }}"
        "{% elif message.role == 'system' %}{{ message.content }}\n\n"
        "{% else %}{% if not loop.first and loop.previtem.role == 'assistant' %}"
        + _BLANK
        + "{% endif %}### "
        + instruction
        + ":\n{{ message.content }}\n\n"
        "{% if message.input %}### " + context + ":\n{{ message.input }}\n\n{% endif %}"
        "{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}### " + response + ":\n{% endif %}"
    )


# nlpai-lab/KULLM, branch kullm_v2, templates/kullm.json.
KULLM = _instruction_template(
    "아래는 작업을 설명하는 명령어입니다. 요청을 적절히 완료하는 응답을 작성하세요.",
    "아래는 작업을 설명하는 명령어와 추가 컨텍스트를 제공하는 입력이 짝을 이루는 예제입니다. "
    "요청을 적절히 완료하는 응답을 작성하세요.",
    ("명령어", "입력", "응답"),
)

# tatsu-lab/stanford_alpaca, train.py.
ALPACA = _instruction_template(
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.",
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request.",
    ("Instruction", "Input", "Response"),
)

# The end token follows `<|im_end|>` where the checkpoint's end token is another one, so that
# generation stops by the checkpoint's own rule.
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}"
    + _INPUT
    + "<|im_end|>{% if message.role == 'assistant' and eos_token != '<|im_end|>' %}{{ eos_token }}"
    "{% endif %}{% if not (loop.last and message.role == 'assistant') %}"
    + _LINE
    + "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

TEMPLATES = {
    "plain": PLAIN,
    "koalpaca": KOALPACA,
    "kullm": KULLM,
    "alpaca": ALPACA,
    "chatml": CHATML,
}
