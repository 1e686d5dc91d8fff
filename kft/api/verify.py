"""``kft verify``: a merged folder against the run that it came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kft.api.merge import export_dtype, load_trained
from kft.api.opened import is_run, run_recipe
from kft.errors import UsageError
from kft.export.rounding import rounding_limits
from kft.export.verify import verify_folder


def verify(run: str, model: str) -> dict[str, Any]:
    """Compare a merged model with the trained form of a run.

    Args:
        run: The run folder.
        model: Folder of the merged model.

    Returns:
        The numbers of a ``verification.json``, ``passed`` among them; nothing is written.

    Raises:
        UsageError: If one of the two is not there.
        ExportError: If the folder does not hold exactly the model's weights.
    """
    folder = Path(model)
    if not (folder / "config.json").is_file():
        raise UsageError(
            f"There is no model in `{model}`",
            where=model,
            expected="a folder with `config.json`, such as a run's `merged/`",
            hint=f"`kft verify {Path(run).parent}` takes the run itself."
            if is_run(Path(run).absolute().parent)
            else None,
        )
    recipe = run_recipe(Path(run))
    if recipe.adapter.method == "full":
        raise UsageError(
            "The run trained every weight, so its model is the trained form itself",
            where=run,
            expected="a run with an adapter",
        )
    trained = load_trained(Path(run), recipe)
    task = trained.task
    limits = rounding_limits(
        trained.adapted, trained.batches, export_dtype(recipe), logit_rows=task.logit_rows
    )
    return verify_folder(
        trained.reference, folder, task.auto_class, trained.batches, limits, task.logit_rows
    ).as_dict()
