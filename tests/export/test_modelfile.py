"""The Modelfile: kft's templates in Go's language say what they say in jinja."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from kft.data.named_templates import START, TEMPLATES
from kft.export.modelfile import GO_TEMPLATES, Served, go_template, modelfile, stop_tokens

CONVERSATIONS = [
    [("user", "주말에 뭐 하지?")],
    [("system", "짧게 답한다."), ("user", "안녕")],
    [("user", "하나"), ("assistant", " 둘 "), ("user", "셋\n\n넷")],
    [("system", "나는 {{ .Role }}"), ("user", "a"), ("assistant", "b"), ("user", "c"),
     ("assistant", "d"), ("user", "<b>\"'")],
    [("user", "하나"), ("assistant", "둘"), ("system", "이제 길게"), ("user", "셋")],
    [("assistant", "먼저 말한다"), ("user", "하나")],
    [("user", "하나"), ("assistant", "둘")],
    [("user", "")],
]  # fmt: skip
GO = """package main

import (
	"encoding/json"
	"os"
	"strings"
	"text/template"
)

type Message struct{ Role, Content string }

func main() {
	var given struct {
		Template      string
		Conversations [][]*Message
	}
	if err := json.NewDecoder(os.Stdin).Decode(&given); err != nil {
		panic(err)
	}
	parsed := template.Must(template.New("").Option("missingkey=zero").Parse(given.Template))
	var texts []string
	for _, messages := range given.Conversations {
		var text strings.Builder
		if err := parsed.Execute(&text, map[string]any{"Messages": messages}); err != nil {
			panic(err)
		}
		texts = append(texts, text.String())
	}
	json.NewEncoder(os.Stdout).Encode(texts)
}
"""


def test_every_template_has_its_twin() -> None:
    assert list(GO_TEMPLATES) == list(TEMPLATES)


def test_koalpaca_as_it_stands() -> None:
    assert go_template("koalpaca", "</s>") == (
        '{{ $previous := "" }}{{ range .Messages }}'
        '{{ if eq .Role "assistant" }}### 답변: {{ .Content }}</s>'
        '{{ else if eq .Role "system" }}{{ .Content }}\n\n'
        '{{ else }}{{ if eq $previous "assistant" }}\n\n{{ end }}'
        "### 질문: {{ .Content }}\n\n{{ end }}"
        "{{ $previous = .Role }}{{ end }}### 답변:"
    )


def test_what_stops_an_answer() -> None:
    assert stop_tokens("koalpaca", "</s>") == ["</s>"]
    assert stop_tokens("chatml", "</s>") == ["<|im_end|>", "</s>"]
    assert stop_tokens("chatml", "<|im_end|>") == ["<|im_end|>"]
    assert '<|im_end|>{{ if eq .Role "assistant" }}{{ end }}' in go_template("chatml", "<|im_end|>")


def test_without_a_template_it_says_why() -> None:
    text = modelfile(Served("model.gguf", None, "it is another.", "[|end|]", 8192, "MIT"))
    assert "# No TEMPLATE: it is another.\n" in text
    assert "\nTEMPLATE" not in text
    assert "# The base's licence: MIT\n" in text
    assert 'PARAMETER stop "[|end|]"\n' in text
    assert "num_ctx" not in text  # a context that long is left to whoever serves


@pytest.mark.slow
@pytest.mark.parametrize("eos", ["</s>", "<|im_end|>", "{{odd}}"])
@pytest.mark.parametrize("name", list(TEMPLATES))
def test_go_renders_what_jinja_renders(
    name: str, eos: str, tiny_tokenizer: Path, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    go = shutil.which("go")
    if go is None:
        pytest.skip("no `go` to render Go's templates with")
    tokenizer = AutoTokenizer.from_pretrained(tiny_tokenizer)
    tokenizer.eos_token = eos
    rows = [
        [{"role": role, "content": content} for role, content in turns] for turns in CONVERSATIONS
    ]
    wanted = [
        tokenizer.apply_chat_template(
            row, chat_template=TEMPLATES[name], tokenize=False, add_generation_prompt=True
        )
        for row in rows
    ]
    (tmp_path / "main.go").write_text(GO, encoding="utf-8")
    given = {"Template": go_template(name, eos), "Conversations": rows}
    done = subprocess.run(
        [go, "run", str(tmp_path / "main.go")],
        input=json.dumps(given).encode(),
        capture_output=True,
        check=True,
        timeout=300,
    )
    assert json.loads(done.stdout) == wanted


@pytest.mark.parametrize(
    ("own", "adds_bos", "template", "said"),
    [
        (TEMPLATES["koalpaca"], False, "koalpaca", ""),
        (START + TEMPLATES["chatml"], True, "chatml", ""),
        (START + TEMPLATES["chatml"], False, None, "its prompts begin otherwise"),
        (TEMPLATES["koalpaca"], True, None, "its prompts begin otherwise"),
        ("{{ messages[0].content }}", False, None, "can't write"),
        (None, False, None, "on running text"),
    ],
)  # fmt: skip
def test_only_a_template_of_our_own_is_written(
    own: str | None, adds_bos: bool, template: str | None, said: str
) -> None:
    from kft.api.export_gguf import _served
    from kft.export.gguf_tokenizer import Vocabulary
    from kft.recipe.schema import Recipe

    recipe = Recipe.model_validate(
        {"model": {"name_or_path": "gpt"}, "data": {"train": "a.jsonl"}, "output_dir": "run"}
    )
    vocabulary = Vocabulary("gpt2", "gpt-2", (), (), adds_bos=adds_bos, chat_template=own)
    served = _served(recipe, vocabulary, SimpleNamespace(eos_token="</s>"), 128)
    assert served.template == template
    if template is None:
        assert said in served.why
    else:  # as Ollama reads the file: what stands between the quotes, as it is
        text = modelfile(served)
        found = re.search(r'^TEMPLATE """(.*?)"""$', text, re.DOTALL | re.MULTILINE)
        assert found is not None
        assert found[1] == go_template(template, "</s>")
