"""Rendering many conversations with a template that writes what it is given and nothing else of it.

kft's own templates put each turn's text into the prompt as it is, and look at no more of it than
whether there is any. So what surrounds the texts depends on the turns' roles and on which texts
are empty alone: it is rendered once, with marks in the texts' places, and filled in for every
conversation of that shape.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kft.tasks.record import Message

_MARK = "\ue000{}\ue001"
"""Stands for a text; characters of a private area, which no template of ours has."""

Shape = tuple[tuple[str, bool, bool], ...]
Mould = tuple[tuple[str, ...], tuple[int, ...]]


class Moulds:
    """The moulds of one template.

    Args:
        render: Renders one conversation with it, with or without the generation prompt.
    """

    def __init__(self, render: Callable[[Sequence[Message], bool], str]) -> None:
        self._render = render
        self._known: dict[tuple[Shape, bool], Mould] = {}

    def fill(self, messages: Sequence[Message], generation_prompt: bool) -> str:
        """The conversation as the template renders it."""
        texts = [text for one in messages for text in (one["content"], one.get("input") or "")]
        shape = tuple(
            (one["role"], bool(one["content"]), bool(one.get("input"))) for one in messages
        )
        mould = self._known.get((shape, generation_prompt))
        if mould is None:
            mould = self._known[shape, generation_prompt] = self._made(shape, generation_prompt)
        pieces, places = mould
        filled = [pieces[0]]
        for place, piece in zip(places, pieces[1:], strict=True):
            filled += (texts[place], piece)
        return "".join(filled)

    def _made(self, shape: Shape, generation_prompt: bool) -> Mould:
        marked: list[Message] = []
        for number, (role, has_content, has_input) in enumerate(shape):
            marked.append(
                {
                    "role": role,
                    "content": _MARK.format(2 * number) if has_content else "",
                    "input": _MARK.format(2 * number + 1) if has_input else "",
                }
            )
        begin, end = _MARK.split("{}")
        first, *rest = self._render(marked, generation_prompt).split(begin)
        parts = [one.split(end, 1) for one in rest]
        return (first, *(piece for _, piece in parts)), tuple(int(place) for place, _ in parts)
