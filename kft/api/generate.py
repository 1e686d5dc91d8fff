"""``kft generate``: answers from a run, an adapter, or any checkpoint."""

from __future__ import annotations

from collections.abc import Sequence

from kft.api.opened import Opened, open_model
from kft.data.templates import TemplateRenderer
from kft.errors import UsageError
from kft.models.generation import generate
from kft.tasks.registry import TASKS
from kft.tasks.task import Message


class Chat:
    """A loaded model that answers conversations in the template it was trained with.

    Args:
        opened: The model.
    """

    def __init__(self, opened: Opened) -> None:
        self.opened = opened

    def answer(self, messages: Sequence[Message], max_new_tokens: int = 256) -> str:
        """The model's next turn, greedy.

        A model without a chat template continues the last message as running text.

        Args:
            messages: Turns, oldest first, each with ``role`` and ``content``.
            max_new_tokens: Tokens at most.

        Raises:
            DataError: If the template can't render the messages.
        """
        return self.answers([messages], max_new_tokens)[0]

    def answers(
        self, conversations: Sequence[Sequence[Message]], max_new_tokens: int = 256
    ) -> list[str]:
        """The next turn of several conversations at once."""
        tokenizer = self.opened.tokenizer
        template = tokenizer.chat_template
        if template is None:
            prompts = [messages[-1]["content"] for messages in conversations]
        else:
            renderer = TemplateRenderer(tokenizer, template)
            prompts = [renderer.prompt(messages) for messages in conversations]
        answers = generate(
            self.opened.model,
            tokenizer,
            prompts,
            max_new_tokens=max_new_tokens,
            is_text=template is None,
        )
        return answers if template is None else [answer.strip() for answer in answers]


def open_chat(place: str) -> Chat:
    """Load what ``place`` stands for and answer from it.

    Args:
        place: A run folder, an adapter's folder, a checkpoint's folder, or a hub name.

    Raises:
        UsageError: If there is nothing.
        ModelError: If it can't be loaded.
    """
    if not place.strip():
        raise UsageError("No model is named", expected="a run folder or a checkpoint")
    opened = open_model(place)
    if not TASKS[opened.task].answers_in_text:
        raise UsageError(
            f"The model of `task: {opened.task}` writes no text",
            where=place,
            expected="a model of `task: causal_lm`",
            hint=f"`kft evaluate {place}` measures it.",
        )
    return Chat(opened)
