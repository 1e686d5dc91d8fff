"""Templates: the same text and ids in training, at generation and for transformers itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from kft.data.moulds import Moulds
from kft.data.named_templates import START, TEMPLATES
from kft.data.templates import TemplateRenderer, adds_bos, choose_template
from kft.errors import DataError, RecipeError
from kft.tasks.causal_lm import CausalLM
from kft.tasks.task import IGNORE_INDEX, EncodeOptions, Message, Record

OPTIONS = EncodeOptions(max_length=4096)
TURNS: tuple[Message, ...] = (
    {"role": "system", "content": "친절하게 답하세요."},
    {"role": "user", "content": "서울의 날씨는?", "input": "오늘은 11월 22일"},
    {"role": "assistant", "content": "맑습니다."},
    {"role": "user", "content": "내일은?"},
    {"role": "assistant", "content": "비가 옵니다."},
)


@pytest.fixture
def tokenizer(tiny_tokenizer: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_tokenizer)


def encoded(tokenizer: Any, template: str, messages: tuple[Message, ...], **kwargs: Any) -> Any:
    renderer = TemplateRenderer(tokenizer, template, **kwargs)
    (example,) = CausalLM().encode(
        Record("rows:1", messages=messages), tokenizer, renderer, OPTIONS
    )
    return renderer, example


def trained_text(tokenizer: Any, example: Any) -> str:
    return str(tokenizer.decode([label for label in example.labels if label != IGNORE_INDEX]))


def test_koalpaca_by_hand(tokenizer: Any) -> None:
    renderer = TemplateRenderer(tokenizer, TEMPLATES["koalpaca"])
    assert renderer.render(TURNS, "rows:1").pieces == (
        (
            "친절하게 답하세요.\n\n### 질문: 서울의 날씨는?\n\n"
            "### 맥락: 오늘은 11월 22일\n\n### 답변:",
            False,
        ),
        (" 맑습니다.</s>", True),
        ("\n\n### 질문: 내일은?\n\n### 답변:", False),
        (" 비가 옵니다.</s>", True),
    )


def test_plain_is_prompt_and_completion_side_by_side(tokenizer: Any) -> None:
    renderer = TemplateRenderer(tokenizer, TEMPLATES["plain"])
    turns = ({"role": "user", "content": "가 "}, {"role": "assistant", "content": "나"})
    assert renderer.render(turns, "rows:1").pieces == (("가 ", False), ("나</s>", True))


def test_kullm_is_the_project_s_own_text(tokenizer: Any, real_data: Path) -> None:
    import json

    own = json.loads((real_data / "data" / "kullm" / "kullm.json").read_text(encoding="utf-8"))
    renderer = TemplateRenderer(tokenizer, TEMPLATES["kullm"])
    question: Message = {"role": "user", "content": "번역하세요", "input": "안녕"}
    expected = own["prompt_input"].format(instruction="번역하세요", input="안녕")
    assert renderer.prompt([question]) == expected
    short: Message = {"role": "user", "content": "번역하세요"}
    assert renderer.prompt([short]) == own["prompt_no_input"].format(instruction="번역하세요")


@pytest.mark.parametrize("name", TEMPLATES)
def test_training_generation_and_transformers_agree(tokenizer: Any, name: str) -> None:
    template = TEMPLATES[name]
    renderer, example = encoded(tokenizer, template, TURNS)
    tokenizer.chat_template = template
    # `plain` puts nothing between turns, so a token may reach from a question into its answer
    # once both are given; the first prompt is still the same.
    for answer in (2,) if name == "plain" else (2, 4):
        asked = TURNS[:answer]
        by_transformers = tokenizer.apply_chat_template(
            [dict(turn) for turn in asked], add_generation_prompt=True
        )["input_ids"]
        at_generation = tokenizer(renderer.prompt(asked), add_special_tokens=False).input_ids
        assert by_transformers == at_generation
        assert example.input_ids[: len(at_generation)] == at_generation
    trained = trained_text(tokenizer, example)
    assert "맑습니다." in trained
    assert "비가 옵니다." in trained
    assert "날씨" not in trained
    assert example.end_is_target


def test_only_the_last_answer_or_everything(tokenizer: Any) -> None:
    _, last = encoded(tokenizer, TEMPLATES["chatml"], TURNS, train_on="last_assistant")
    assert "맑습니다" not in trained_text(tokenizer, last)
    _, every = encoded(tokenizer, TEMPLATES["chatml"], TURNS, train_on="all")
    assert every.labels == every.input_ids


text = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=30)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(name=st.sampled_from(list(TEMPLATES)), question=text, answer=text)
def test_no_prompt_token_is_ever_a_target(
    tokenizer: Any, name: str, question: str, answer: str
) -> None:
    turns: tuple[Message, ...] = (
        {"role": "user", "content": question},
        {"role": "assistant", "content": answer},
    )
    renderer, example = encoded(tokenizer, TEMPLATES[name], turns)
    prompt = tokenizer(renderer.prompt(turns[:1]), add_special_tokens=False).input_ids
    assert example.labels[: len(prompt)] == [IGNORE_INDEX] * len(prompt)
    assert example.labels[len(prompt) :] == example.input_ids[len(prompt) :]
    assert tokenizer.decode(example.labels[len(prompt) :]).strip().endswith("</s>")


def test_a_template_that_rewrites_the_prompt_is_refused(tokenizer: Any) -> None:
    rewriting = "{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}"
    with pytest.raises(DataError, match="renders the prompt differently"):
        TemplateRenderer(tokenizer, rewriting).render(TURNS[1:3], "rows:1")


def test_a_template_that_refuses_the_roles_names_the_row(tokenizer: Any) -> None:
    refusing = "{{ raise_exception('no system turn') }}"
    with pytest.raises(DataError, match="no system turn") as caught:
        TemplateRenderer(tokenizer, refusing).render(TURNS, "rows:7")
    assert caught.value.where == "rows:7"


def test_auto_is_the_checkpoint_s_own_template(tokenizer: Any) -> None:
    assert choose_template("auto", "instruction", tokenizer)[0] == "`koalpaca`"
    assert choose_template("auto", "prompt_completion", tokenizer)[0] == "`plain`"
    tokenizer.chat_template = TEMPLATES["chatml"]
    assert choose_template("auto", "instruction", tokenizer) == (
        "the checkpoint's own",
        TEMPLATES["chatml"],
    )


def test_a_start_token_is_written_where_the_tokenizer_adds_one(tokenizer: Any) -> None:
    from tokenizers.processors import TemplateProcessing

    assert not adds_bos(tokenizer)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    _, template = choose_template("plain", "prompt_completion", tokenizer)
    renderer = TemplateRenderer(tokenizer, template)
    assert renderer.prompt([{"role": "user", "content": "가"}]) == "<s>가"


def test_unknown_names_are_answered(tokenizer: Any, tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        choose_template("koalpacca", "messages", tokenizer)
    assert caught.value.hint == "Did you mean `koalpaca`?"
    with pytest.raises(RecipeError, match="no chat template of its own"):
        choose_template("checkpoint", "messages", tokenizer)
    broken = tmp_path / "broken.jinja"
    broken.write_text("{% for m in messages %}", encoding="utf-8")
    with pytest.raises(RecipeError, match="can't be read"):
        choose_template(str(broken), "messages", tokenizer)


turn = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system"]), "content": st.text(max_size=8)},
    optional={"input": st.text(max_size=4)},
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    name=st.sampled_from(list(TEMPLATES)),
    messages=st.lists(turn, min_size=1, max_size=4),
    asks=st.booleans(),
    starts=st.booleans(),
)
def test_moulds_say_what_jinja_says(
    tokenizer: Any, name: str, messages: list[Message], asks: bool, starts: bool
) -> None:
    template = (START if starts else "") + TEMPLATES[name]
    renderer = TemplateRenderer(tokenizer, template)
    moulds = Moulds(renderer._rendered)
    plain = tokenizer.apply_chat_template(
        [dict(message) for message in messages],
        chat_template=template,
        tokenize=False,
        add_generation_prompt=asks,
    )
    for _ in range(2):  # made, and known
        assert moulds.fill(messages, asks) == plain
    assert renderer._apply([messages], ["a:1"], generation_prompt=asks) == [plain]
