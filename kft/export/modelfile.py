"""An Ollama ``Modelfile``: the template in Go's language, stop tokens, and greedy answers.

Ollama doesn't read jinja. kft's own templates (``kft.data.named_templates``) are written here once
more; any other template is left out with a comment, because a guess at it would be answered by a
model that never saw it.

Ollama hands a template all messages, neighbours of one role joined by a blank line, and appends
what the model writes. llama.cpp puts the start token in front by itself where the file says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

GGUF = "model.gguf"
"""File name of the model."""

MODELFILE = "Modelfile"

LONGEST_CONTEXT = 4096
"""Positions beyond which the context is left to whoever serves: its memory grows with them."""

_TURN = (
    '{{ if eq .Role "assistant" }}%(assistant)s'
    '{{ else if eq .Role "system" }}{{ .Content }}\n\n'
    "{{ else }}%(user)s{{ end }}"
)
_BETWEEN = '{{ if eq $previous "assistant" }}\n\n{{ end }}'

_PLAIN = (
    "{{ range .Messages }}"
    + _TURN % {"assistant": "{{ .Content }}%(eos)s", "user": "{{ .Content }}"}
    + "{{ end }}"
)
_KOALPACA = (
    '{{ $previous := "" }}{{ range .Messages }}'
    + _TURN
    % {
        "assistant": "### 답변: {{ .Content }}%(eos)s",
        "user": _BETWEEN + "### 질문: {{ .Content }}\n\n",
    }
    + "{{ $previous = .Role }}{{ end }}### 답변:"
)


def _instruction(introduction: str, asked: str, answered: str) -> str:
    return (
        '{{ $previous := "" }}{{ range .Messages }}'
        '{{ if and (eq $previous "") (ne .Role "system") }}' + introduction + "\n\n{{ end }}"
        + _TURN
        % {
            "assistant": "### " + answered + ":\n{{ .Content }}%(eos)s",
            "user": _BETWEEN + "### " + asked + ":\n{{ .Content }}\n\n",
        }
        + "{{ $previous = .Role }}{{ end }}### " + answered + ":\n"
    )  # fmt: skip


_KULLM = _instruction(
    "아래는 작업을 설명하는 명령어입니다. 요청을 적절히 완료하는 응답을 작성하세요.",
    "명령어",
    "응답",
)
_ALPACA = _instruction(
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.",
    "Instruction",
    "Response",
)
_CHATML = (
    "{{ range $number, $turn := .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>"
    '{{ if eq .Role "assistant" }}%(im_eos)s{{ end }}'
    '{{ if or (ne .Role "assistant") (lt 1 (len (slice $.Messages $number))) }}\n{{ end }}'
    "{{ end }}<|im_start|>assistant\n"
)

GO_TEMPLATES = {
    "plain": _PLAIN,
    "koalpaca": _KOALPACA,
    "kullm": _KULLM,
    "alpaca": _ALPACA,
    "chatml": _CHATML,
}
"""Name of a kft template -> the same in Go's language; ``%(eos)s`` is the end token."""


@dataclass(frozen=True)
class Served:
    """What a ``Modelfile`` says.

    Args:
        weights: File name of the GGUF.
        template: Name of a kft template; ``None`` for any other.
        why: What to say instead where there is no template.
        eos: The end token.
        context_length: Positions of the model.
        licence: Name of the base's, if it is known.
    """

    weights: str
    template: str | None
    why: str
    eos: str
    context_length: int
    licence: str | None = None


def go_template(name: str, eos: str) -> str:
    """A kft template in Go's language.

    Args:
        name: Of :data:`GO_TEMPLATES`.
        eos: The end token.

    Example:
        >>> go_template("koalpaca", "</s>")[-7:]
        '### 답변:'
    """
    literal = eos.replace("{{", '{{ "{{" }}')
    own = "" if eos == "<|im_end|>" else literal
    # Not by `%`: Go's text has percent signs of its own only here, but texts may get some.
    text = GO_TEMPLATES[name].replace("%(im_eos)s", own)
    return text.replace("%(eos)s", literal)


def stop_tokens(template: str | None, eos: str) -> Sequence[str]:
    """What ends an answer: the end token, and a turn's where the template has one."""
    return list(dict.fromkeys(["<|im_end|>", eos] if template == "chatml" else [eos]))


def modelfile(served: Served) -> str:
    """The text of a ``Modelfile``."""
    lines = [
        "# Written by kft beside the model. In this folder:",
        "#     ollama create NAME -f Modelfile",
        "#     ollama run NAME",
        "",
        f"FROM ./{served.weights}",
        "",
    ]
    if served.template is not None:
        lines.append(f'TEMPLATE """{go_template(served.template, served.eos)}"""')
    else:
        lines += [f"# No TEMPLATE: {served.why}", "# Ollama would use one of its own making."]
    lines.append("")
    if served.licence is not None:
        lines += [f"# The base's licence: {served.licence}", ""]
    lines += [f'PARAMETER stop "{token}"' for token in stop_tokens(served.template, served.eos)]
    lines += ["# The likeliest token each time, as kft's own answers are made.",
              "PARAMETER temperature 0", "PARAMETER repeat_penalty 1"]  # fmt: skip
    if served.context_length <= LONGEST_CONTEXT:
        lines.append(f"PARAMETER num_ctx {served.context_length}")
    return "\n".join(lines) + "\n"
