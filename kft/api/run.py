"""A finished run in Python: its numbers, its models, and itself in a notebook."""

from __future__ import annotations

import html
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kft.api.kept_json import read_json
from kft.errors import UsageError

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

    from kft.api.opened import Opened
    from kft.recipe.schema import Recipe


class Run:
    """A run folder.

    Args:
        folder: Its path.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def recipe(self) -> Recipe:
        """The resolved recipe."""
        from kft.api.opened import run_recipe

        return run_recipe(self.folder)

    @cached_property
    def result(self) -> dict[str, Any]:
        """The content of ``result.json``; empty for a run that did not finish."""
        return read_json(self.folder / "result.json")

    @property
    def metrics(self) -> pandas.DataFrame:
        """One row per step and per evaluation of ``metrics.jsonl``; ``loss`` in nats per target.

        The file also says what each checkpoint took.
        """
        import pandas

        from kft.train.runlog import read_log

        lines = [line for line in read_log(self.folder) if "checkpoint_bytes" not in line]
        return pandas.DataFrame(lines)

    @cached_property
    def _opened(self) -> Opened:
        from kft.api.opened import open_model

        return open_model(str(self.folder))

    @property
    def model(self) -> Any:
        """The trained form: a plain ``PeftModel``, or a transformers model for ``full``."""
        return self._opened.model

    @property
    def tokenizer(self) -> Any:
        """The plain transformers tokenizer, with the template used in training."""
        return self._opened.tokenizer

    def generate(self, prompts: str | Sequence[str], *, max_new_tokens: int = 256) -> Any:
        """The model's answers, greedy.

        Args:
            prompts: One user message, or several.
            max_new_tokens: Tokens at most per answer.

        Returns:
            A text for one prompt, a list of texts for several.

        Raises:
            UsageError: If the model writes no text; see :meth:`predict`.
        """
        from kft.api.generate import Chat, writes_none
        from kft.tasks.registry import TASKS

        if not TASKS[self._opened.task].answers_in_text:
            raise writes_none(self._opened)
        several = [prompts] if isinstance(prompts, str) else list(prompts)
        conversations = [[{"role": "user", "content": prompt}] for prompt in several]
        answers = Chat(self._opened).answers(conversations, max_new_tokens)
        return answers[0] if isinstance(prompts, str) else answers

    def predict(self, texts: str | tuple[str, str] | Sequence[str | tuple[str, str]]) -> Any:
        """What a model with labels, a number or tags says of texts.

        Args:
            texts: A text, or a pair (a tuple of two) for a model of pairs; or a list of them.

        Returns:
            A :class:`~kft.api.predict.Prediction` (``label``, ``score``, ``scores``,
            ``entities``) for one, a list of them for several.

        Raises:
            UsageError: If the model writes text instead, or a text doesn't fit it.
        """
        from kft.api.predict import Predictor, labels_none
        from kft.tasks.registry import TASKS

        if TASKS[self._opened.task].head == "language":
            raise labels_none(self._opened)
        predictor = Predictor(self._opened)
        if isinstance(texts, str | tuple):
            return predictor.predict([texts])[0]
        return predictor.predict(texts)

    def evaluate(self, data: str | None = None, *, max_rows: int | None = None) -> dict[str, Any]:
        """The trained form on held-out rows; see :func:`kft.api.evaluate.evaluate`."""
        from kft.api.evaluate import evaluate

        return evaluate([str(self.folder)], data=data, max_rows=max_rows)[str(self.folder)]

    def merge(self, output: str | None = None, *, base: str | None = None) -> Path:
        """Write the merged model and prove it; see :func:`kft.api.merge.merge`."""
        from kft.api.merge import merge

        return merge(str(self.folder), output=output, base=base)[0]

    def verify(self, model: str | None = None) -> dict[str, Any]:
        """Compare a merged folder (the run's own by default) with the trained form."""
        from kft.api.verify import verify

        return verify(str(self.folder), model or str(self.folder / "merged"))

    def export(self, to: str, output: str | None = None, *, dtype: str | None = None) -> Path:
        """Write the model in another format and prove it; see :func:`kft.api.export.export`."""
        from kft.api.export import export

        return export(str(self.folder), to=to, output=output, dtype=dtype)[0]

    def report(self, output: str | None = None) -> Path:
        """Write the run's page (``report.html`` in its folder by default) once more."""
        from kft.api.report import report

        return report([str(self.folder)], output=output)

    def plot(self) -> Figure:
        """Training loss, and held-out loss where it was measured, over the steps."""
        from kft.reporting.curves import loss_figure

        return loss_figure(self.metrics, self.result)

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{html.escape(name)}</th><td>{_number(base)}</td><td>{_number(tuned)}</td></tr>"
            for name, base, tuned in self.comparison()
        )
        from kft.reporting.curves import loss_image

        metrics = self.metrics
        curves = loss_image(metrics, self.result) if "loss" in metrics else ""
        return (
            f"<b>{html.escape(str(self.folder))}</b>"
            f"<table><tr><th></th><th>base</th><th>tuned</th></tr>{rows}</table>{curves}"
        )

    def comparison(self) -> list[tuple[str, Any, Any]]:
        """Name, base and tuned of every number that both have."""
        base, tuned = self.result.get("base", {}), self.result.get("tuned", {})
        return [(name, base[name], tuned[name]) for name in base if name in tuned]


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else html.escape(str(value))


def load_run(path: str | Path) -> Run:
    """Open a run folder.

    Raises:
        UsageError: If there is no run in it.
    """
    folder = Path(path)
    if not (folder / "recipe.yaml").is_file():
        raise UsageError(
            f"`{path}` is not a run folder",
            where=str(path),
            expected="a folder with `recipe.yaml`, made by `kft finetune`",
        )
    return Run(folder)
