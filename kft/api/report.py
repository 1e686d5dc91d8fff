"""``kft report``: a run, or several, as one page to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import chain, count
from pathlib import Path
from typing import Any

from kft.api.held_out_rows import Lines, metrics_of, predictions, read_rows, truths_of, tuned_inputs
from kft.api.kept_json import read_json
from kft.api.run import load_run
from kft.errors import UsageError
from kft.evaluation.comparison import compare
from kft.evaluation.inputs import statistics
from kft.evaluation.metrics.registry import METRICS
from kft.recipe.reader import flat_values, read_recipe
from kft.recipe.schema import Recipe
from kft.reporting.comparison_page import comparison_page
from kft.reporting.run_page import report_page
from kft.reporting.views import ComparisonView, RunView
from kft.train.runlog import read_log

_NOT_COMPARED = ("output_dir",)
_TITLE_END = " · kft</title>".encode()
_HEAD_BYTES = 4096


def report(places: Sequence[str], *, output: str | None = None) -> Path:
    """Write the report of one run, or a comparison of several.

    Args:
        places: Run folders.
        output: The file, which may be an earlier page of kft's; ``None`` is ``report.html`` in
            the run folder for one run, and for several ``comparison.html`` here, or
            ``comparison-2.html`` and so on where there is one.

    Returns:
        The file that was written.

    Raises:
        UsageError: If a folder is no run, or the file can't be written or holds something else.

    Example:
        >>> kft.report(["runs/quickstart"], output="runs/page.html").name
        'page.html'
    """
    folders = [load_run(place).folder for place in dict.fromkeys(places)]
    recipes = [read_recipe(folder / "recipe.yaml") for folder in folders]
    if output is not None:
        _require_replaceable(Path(output))
    if len(folders) == 1:
        return write_report(folders[0], recipes[0], Path(output) if output else None)
    views = [_view(*pair) for pair in zip(folders, recipes, strict=True)]
    page = comparison_page(
        ComparisonView(
            runs=_with_own_names(views, folders),
            keys=_differing_keys(recipes),
            pairs=_pairs(folders, recipes),
        )
    )
    return _write(Path(output) if output else _free_name("comparison.html"), page)


def write_report(folder: Path, recipe: Recipe, output: Path | None = None) -> Path:
    """Write a run's own report from what lies in its folder.

    Args:
        folder: The run folder.
        recipe: Its resolved recipe.
        output: The file; ``None`` is ``report.html`` in the folder.

    Raises:
        UsageError: If it can't be written.
    """
    return _write(output or folder / "report.html", report_page(_view(folder, recipe)))


def _free_name(name: str) -> Path:
    """The name here that no earlier page has: other runs were compared there, perhaps."""
    first = Path(name)
    numbered = (first.with_stem(f"{first.stem}-{number}") for number in count(2))
    return next(path for path in chain([first], numbered) if not path.exists())


def _require_replaceable(path: Path) -> None:
    """Refuse a place that holds anything but a page of kft's.

    Raises:
        UsageError: If it does.
    """
    if not path.is_file() or not path.stat().st_size:  # `mktemp` leaves an empty one
        return
    with path.open("rb") as file:
        begins = file.read(_HEAD_BYTES)
    if _TITLE_END not in begins:
        raise UsageError(
            f"`{path}` holds something that `kft report` has not written",
            where="`--output`",
            expected="no such file, or an earlier page",
        )


def _write(path: Path, page: str) -> Path:
    try:
        part = path.with_name(path.name + ".part")
        part.write_text(page, encoding="utf-8")
        part.replace(path)
    except OSError as cause:
        raise UsageError(
            f"The report can't be written: {cause.strerror or cause}",
            where=str(path),
            expected="a place where a file can be written",
        ) from cause
    return path


def _view(folder: Path, recipe: Recipe) -> RunView:
    lines = read_rows(folder)
    return RunView(
        name=folder.absolute().name,
        result=read_json(folder / "result.json"),
        log=read_log(folder),
        recipe=recipe.resolved(),
        recipe_text=(folder / "recipe.yaml").read_text(encoding="utf-8"),
        environment=read_json(folder / "environment.json"),
        meanings={name: entry.meaning for name, entry in METRICS.items()},
        predictions=predictions(lines, recipe.data.labels) if lines else None,
    )


def _with_own_names(views: Sequence[RunView], folders: Sequence[Path]) -> list[RunView]:
    """The runs by the names of their folders, or by their paths where two are called the same."""
    names = [view.name for view in views]
    if len(set(names)) == len(names):
        return list(views)
    return [replace(view, name=str(path)) for view, path in zip(views, folders, strict=True)]


def _differing_keys(recipes: Sequence[Recipe]) -> dict[str, list[Any]]:
    columns = [flat_values(recipe.resolved()) for recipe in recipes]
    return {
        key: [column.get(key) for column in columns]
        for key in columns[0]
        if key not in _NOT_COMPARED and any(c.get(key) != columns[0][key] for c in columns)
    }


def _pairs(folders: Sequence[Path], recipes: Sequence[Recipe]) -> list[dict[str, dict[str, Any]]]:
    """The tuned models against the first run's, row by row where the rows are the same."""
    tables = [read_rows(folder) for folder in folders]
    inputs = [tuned_inputs(lines, recipes[0].data.labels) for lines in tables]
    pairs: list[dict[str, dict[str, Any]]] = []
    for number in range(1, len(tables)):
        found = {}
        has_task = recipes[number].task == recipes[0].task
        if has_task and tables[0] and truths_of(tables[number]) == truths_of(tables[0]):
            both = set(metrics_of(inputs[number]))
            names = [name for name in metrics_of(inputs[0]) if name in both]
            if _targets(tables[number]) != _targets(tables[0]):  # tokens of another tokenizer
                names.remove("eval_loss")
            found = compare(statistics(names, inputs[0]), statistics(names, inputs[number]))
        pairs.append({name: asdict(one) for name, one in found.items()})
    return pairs


def _targets(lines: Lines) -> list[int]:
    return [line["num_targets"] for line in lines]
