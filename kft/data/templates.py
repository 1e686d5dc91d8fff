"""How a conversation becomes text: one rendering for training, generation and export.

A template is a jinja chat template as transformers has them. Whose tokens are targets is found
by rendering the conversation up to each answer and beyond it, never by searching for marker
strings: the answer is what the longer rendering adds to the shorter one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import jinja2

from kft.data.moulds import Moulds
from kft.data.named_templates import START, TEMPLATES
from kft.data.render_limits import check_sizes, endless, limited
from kft.errors import DataError, RecipeError, name_list, nearest_name
from kft.tasks.task import Message, Rendered

TrainOn = Literal["assistant", "last_assistant", "all"]


def choose_template(name: str, layout: str, tokenizer: Any) -> tuple[str, str]:
    """The chat template that the recipe's ``data.template`` stands for.

    Args:
        name: ``auto``, ``checkpoint``, a name of :data:`TEMPLATES` or a jinja file.
        layout: The rows' format; decides what ``auto`` is.
        tokenizer: The transformers tokenizer; its own template is kept as it is, ours begin
            with its start token when it puts one in front of every text.

    Returns:
        What was chosen, in words, and the jinja text.

    Raises:
        RecipeError: If the name is unknown, the file can't be read or isn't jinja, or the
            checkpoint has no template of its own.
    """
    own = getattr(tokenizer, "chat_template", None)
    if isinstance(own, dict):
        own = own.get("default")
    if name == "auto":
        name = "koalpaca" if layout in {"instruction", "messages"} else "plain"
        if own and layout != "classification":
            name = "checkpoint"
    if name == "checkpoint":
        if not isinstance(own, str):
            raise RecipeError(
                "The checkpoint has no chat template of its own",
                where="`data.template`",
                expected=f"one of {name_list(list(TEMPLATES))} or a jinja file",
            )
        return "the checkpoint's own", own
    start = START if adds_bos(tokenizer) else ""
    if name in TEMPLATES:
        return f"`{name}`", start + TEMPLATES[name]
    return f"`{name}`", start + _read_template(name)


def _read_template(name: str) -> str:
    path = Path(name)
    if not path.is_file():
        nearest = nearest_name(name, [*TEMPLATES, "auto", "checkpoint"])
        raise RecipeError(
            f"Unknown template or missing file `{name}`",
            where="`data.template`",
            expected=f"one of {name_list([*TEMPLATES, 'checkpoint'], 7)} or a jinja file",
            hint=f"Did you mean `{nearest}`?" if nearest else None,
        )
    try:
        text = path.read_text(encoding="utf-8").rstrip("\n")
        jinja2.Environment(autoescape=False).parse(text)  # noqa: S701 - text, not HTML
    except (UnicodeDecodeError, jinja2.TemplateSyntaxError) as cause:
        line = f":{cause.lineno}" if isinstance(cause, jinja2.TemplateSyntaxError) else ""
        raise RecipeError(
            f"The template can't be read: {cause}", where=f"{path}{line}", expected="jinja in UTF-8"
        ) from cause
    return text


def adds_bos(tokenizer: Any) -> bool:
    """Whether the tokenizer puts its start token in front of every text by itself."""
    if tokenizer.bos_token_id is None:
        return False
    ids = tokenizer("가").input_ids
    return bool(ids) and ids[0] == tokenizer.bos_token_id


class TemplateRenderer:
    """Renders conversations with one chat template, through transformers' own sandbox.

    Args:
        tokenizer: A transformers tokenizer; gives the special tokens and the jinja sandbox.
        chat_template: The jinja text; it is what the adapter's tokenizer is saved with.
        train_on: Whose turns are targets.
    """

    def __init__(self, tokenizer: Any, chat_template: str, train_on: TrainOn = "assistant") -> None:
        self.tokenizer = tokenizer
        self.chat_template = chat_template
        self.train_on = train_on
        is_ours = chat_template.removeprefix(START) in TEMPLATES.values()
        self._moulds = Moulds(self._rendered) if is_ours else None

    def prompt(self, messages: Sequence[Message]) -> str:
        """The conversation up to where the model begins its answer.

        Raises:
            DataError: If the template can't render these messages.
        """
        return self._apply([messages], ["the prompt"], generation_prompt=True)[0]

    def render(self, messages: Sequence[Message], place: str) -> Rendered:
        """One conversation as :meth:`render_many` renders it."""
        return self.render_many([messages], [place])[0]

    def render_many(
        self, conversations: Sequence[Sequence[Message]], places: Sequence[str]
    ) -> list[Rendered]:
        """Whole conversations, each cut where a target begins or ends.

        Args:
            conversations: Turns of each, oldest first; at least one is the assistant's.
            places: ``file:line`` of each one's row.

        Raises:
            DataError: If the template can't render the messages, or renders an answer in
                another way once it is given than while it is asked for.
        """
        if self.train_on == "all":
            texts = self._apply(conversations, places, generation_prompt=False)
            return [Rendered(((text, True),)) for text in texts]
        cuts = [
            (row, answer)
            for row, messages in enumerate(conversations)
            for answer in self._answers(messages)
        ]
        where = [places[row] for row, _ in cuts]
        before = [conversations[row][:answer] for row, answer in cuts]
        after = [conversations[row][: answer + 1] for row, answer in cuts]
        asked = self._apply(before, where, generation_prompt=True)
        given = self._apply(after, where, generation_prompt=False)
        pieces: list[list[tuple[str, bool]]] = [[] for _ in conversations]
        done = [""] * len(conversations)
        for (row, _), prompt, whole in zip(cuts, asked, given, strict=True):
            if not prompt.startswith(done[row]) or not whole.startswith(prompt):
                shorter = prompt if prompt.startswith(done[row]) else done[row]
                raise _not_a_prefix(places[row], shorter, whole)
            pieces[row] += [(prompt[len(done[row]) :], False), (whole[len(prompt) :], True)]
            done[row] = whole
        return [Rendered(tuple(piece for piece in row if piece[0])) for row in pieces]

    def _answers(self, messages: Sequence[Message]) -> list[int]:
        """Positions of the turns that are targets."""
        answers = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
        if self.train_on == "last_assistant":
            answers = answers[-1:]
        # What stands first was said before anybody asked: it is no answer.
        return [answer for answer in answers if answer > 0]

    def _apply(
        self,
        conversations: Sequence[Sequence[Message]],
        places: Sequence[str],
        *,
        generation_prompt: bool,
    ) -> list[str]:
        if not conversations:
            return []
        moulds = self._moulds
        if moulds is not None and all(_is_plain(one) for rows in conversations for one in rows):
            return [moulds.fill(messages, generation_prompt) for messages in conversations]
        plain = [[dict(message) for message in messages] for messages in conversations]
        try:
            with limited(len(plain)):
                texts: list[str] = self.tokenizer.apply_chat_template(
                    plain,
                    chat_template=self.chat_template,
                    tokenize=False,
                    add_generation_prompt=generation_prompt,
                )
        except (TimeoutError, MemoryError, RecursionError) as cause:
            raise endless(str(cause) or type(cause).__name__, places[0]) from cause
        except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError) as cause:
            if len(conversations) > 1:  # which one was it?
                for messages, place in zip(conversations, places, strict=True):
                    self._apply([messages], [place], generation_prompt=generation_prompt)
            raise DataError(
                f"The template can't render this row: {cause}",
                where=places[0],
                hint="`data.template` takes another template, or a jinja file of your own.",
            ) from cause
        check_sizes(texts, conversations, places)
        return texts

    def _rendered(self, messages: Sequence[Message], generation_prompt: bool) -> str:
        text: str = self.tokenizer.apply_chat_template(
            [dict(message) for message in messages],
            chat_template=self.chat_template,
            tokenize=False,
            add_generation_prompt=generation_prompt,
        )
        return text


def _is_plain(message: Message) -> bool:
    """Whether it is a role and texts, and nothing else a template could look at."""
    for key, value in message.items():
        if key not in _KEYS or type(value) is not str:
            return False
    return "role" in message and "content" in message


_KEYS = frozenset({"role", "content", "input"})


def _not_a_prefix(place: str, asked: str, given: str) -> DataError:
    same = next(
        (i for i, (a, b) in enumerate(zip(asked, given, strict=False)) if a != b),
        min(len(asked), len(given)),
    )
    return DataError(
        "The template renders the prompt differently once the answer is there",
        where=place,
        expected=f"the prompt unchanged; it differs at {asked[same : same + 20]!r} against "
        f"{given[same : same + 20]!r}",
        hint="`data.train_on: last_assistant` trains on the last answer alone.",
    )
