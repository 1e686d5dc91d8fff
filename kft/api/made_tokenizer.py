"""A tokenizer that is made from the rows, made once for all ranks."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kft.api.preflight import load_data
from kft.api.ranks import Ranks
from kft.recipe.schema import Recipe
from kft.tasks.task import Task


@contextmanager
def made_once(
    recipe: Recipe, task: Task, ranks: Ranks, kept: Path | None, begun_with: int
) -> Iterator[Path | None]:
    """The folder of the tokenizer that was made, while it is read; ``None``: none is given.

    The same rows give a WordPiece with other ids each time, so where several ranks need one the
    main rank makes it, and the others have its files.

    Args:
        recipe: The recipe.
        task: Its task.
        ranks: The processes of the run.
        kept: The folder of the one that the run was begun with.
        begun_with: Processes that the run was begun with.
    """
    if kept is not None or recipe.model.tokenizer != "train" or ranks.number == 1:
        yield kept
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)

        def make() -> dict[str, bytes]:
            load_data(recipe, task, None, begun_with)[2].save_pretrained(place)
            return {path.name: path.read_bytes() for path in folder.iterdir()}

        for name, content in (ranks.from_main(ranks.by_main(make)) or {}).items():
            (folder / name).write_bytes(content)
        yield folder
