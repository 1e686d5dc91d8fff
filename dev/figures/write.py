"""Draw docs/images/: `python -m dev.figures.write`, or `--check` that the pictures agree."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from dev.figures import curves, diagrams

FOLDER = Path(__file__).resolve().parents[2] / "docs/images"
PICTURES: dict[str, Callable[[], str]] = {
    "masks": diagrams.masks,
    "halves": diagrams.halves,
    "lora": diagrams.lora,
    "gelu": curves.gelu,
    "random_or_pretrained": curves.random_or_pretrained,
    "fits": curves.fits,
    "rnn_gradient": curves.rnn_gradient,
    "nf4": curves.nf4,
}


def stale_pictures(folder: Path = FOLDER) -> list[str]:
    """Names of the pictures that are missing or look otherwise."""
    return [
        name
        for name, draw in PICTURES.items()
        if not (folder / f"{name}.svg").is_file()
        or (folder / f"{name}.svg").read_text(encoding="utf-8") != draw()
    ]


def main() -> int:
    """Draw them, or compare; 1 when one is stale."""
    if "--check" in sys.argv[1:]:
        stale = stale_pictures()
        for name in stale:
            sys.stderr.write(f"docs/images/{name}.svg is stale; `make docs` draws it again\n")
        return 1 if stale else 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, draw in PICTURES.items():
        (FOLDER / f"{name}.svg").write_text(draw(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
