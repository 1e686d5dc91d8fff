"""``kft generate``: answers from a run, an adapter, or any checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from kft.api.opened import Opened, open_model
from kft.api.predict import Predictor
from kft.data.templates import TemplateRenderer
from kft.errors import UsageError
from kft.models.generation import generate, stream
from kft.tasks.registry import TASKS
from kft.tasks.task import Message


class Chat:
    """A loaded model that answers conversations in the template it was trained with.

    Args:
        opened: The model.
    """

    writes_text: Literal[True] = True

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
        answers = generate(
            self.opened.model,
            self.opened.tokenizer,
            [self._prompt(messages) for messages in conversations],
            max_new_tokens=max_new_tokens,
            is_text=self._is_text,
        )
        return answers if self._is_text else [answer.strip() for answer in answers]

    def stream(
        self,
        messages: Sequence[Message],
        max_new_tokens: int,
        on_text: Callable[[str], None],
    ) -> str:
        """What :meth:`answer` gives, told piece by piece while it is made.

        Args:
            messages: As in :meth:`answer`.
            max_new_tokens: Tokens at most.
            on_text: Called with each piece; together they are the answer.
        """
        trimmed = Trimmed(on_text)
        text = stream(
            self.opened.model,
            self.opened.tokenizer,
            self._prompt(messages),
            on_text if self._is_text else trimmed.add,
            max_new_tokens=max_new_tokens,
            is_text=self._is_text,
        )
        return text if self._is_text else text.strip()

    def base_answer(self, messages: Sequence[Message], max_new_tokens: int = 256) -> str:
        """What the base says, without the adapter, asked in the same template.

        Raises:
            UsageError: If the model is whole and knows no base.
        """
        if not hasattr(self.opened.model, "disable_adapter"):
            raise UsageError(
                f"`{self.opened.name}` has no base beside it",
                expected="a run with an adapter, or an adapter's folder",
            )
        with self.opened.model.disable_adapter():
            return self.answer(messages, max_new_tokens)

    @property
    def _is_text(self) -> bool:
        return self.opened.tokenizer.chat_template is None

    def _prompt(self, messages: Sequence[Message]) -> str:
        tokenizer = self.opened.tokenizer
        if self._is_text:
            return messages[-1]["content"]
        return TemplateRenderer(tokenizer, tokenizer.chat_template).prompt(messages)


class Trimmed:
    r"""Passes pieces of text on without the white space at both ends of the whole.

    Args:
        on_text: Called with each piece.

    Example:
        >>> told = []
        >>> trimmed = Trimmed(told.append)
        >>> for piece in (" ", " 네", ". ", "왜", "\n"):
        ...     trimmed.add(piece)
        >>> told
        ['네', '.', ' 왜']
    """

    def __init__(self, on_text: Callable[[str], None]) -> None:
        self._on_text = on_text
        self._held: str | None = None  # white space after what was told; before it there is none

    def add(self, piece: str) -> None:
        """Take the next piece."""
        text = piece.lstrip() if self._held is None else self._held + piece
        told = text.rstrip()
        if told:
            self._on_text(told)
            self._held = text[len(told) :]
        elif self._held is not None:
            self._held = text


def open_asked(place: str) -> Chat | Predictor:
    """Load what ``place`` stands for, to be asked: for a text, or for labels.

    Args:
        place: A run folder, an adapter's folder, a checkpoint's folder, or a hub name.

    Raises:
        UsageError: If there is nothing, or a model that only fills in hidden words.
        ModelError: If it can't be loaded.
    """
    if not place.strip():
        raise UsageError("No model is named", expected="a run folder or a checkpoint")
    opened = open_model(place)
    task = TASKS[opened.task]
    if task.answers_in_text:
        return Chat(opened)
    if task.head == "language":
        raise UsageError(
            f"The model of `task: {opened.task}` writes no text and gives no labels",
            where=place,
            expected="a model of another task",
            hint=f"`kft evaluate {place}` measures it.",
        )
    return Predictor(opened)


def open_chat(place: str) -> Chat:
    """As :func:`open_asked`, a model that writes text.

    Raises:
        UsageError: If there is nothing, or a model that writes none.
        ModelError: If it can't be loaded.
    """
    asked = open_asked(place)
    if isinstance(asked, Predictor):
        raise writes_none(asked.opened)
    return asked


def writes_none(opened: Opened) -> UsageError:
    """The error for a model that labels texts and was asked for one."""
    return UsageError(
        f"The model of `task: {opened.task}` writes no text",
        where=opened.name,
        expected="a model of `task: causal_lm`",
        hint="`kft generate`, and in Python `run.predict(texts)`, give its labels.",
    )
