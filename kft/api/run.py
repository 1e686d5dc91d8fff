"""A finished run in Python: its numbers, its models, and itself in a notebook."""

from __future__ import annotations

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

    Example:
        >>> kft.load_run("runs/quickstart").folder.name
        'quickstart'
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def recipe(self) -> Recipe:
        """The resolved recipe.

        Example:
            >>> kft.load_run("runs/quickstart").recipe.adapter.method
            'lora'
        """
        from kft.api.opened import run_recipe

        return run_recipe(self.folder)

    @cached_property
    def result(self) -> dict[str, Any]:
        """The content of ``result.json``; empty for a run that did not finish.

        Example:
            >>> result = kft.load_run("runs/quickstart").result
            >>> sorted(result["headline"])
            ['metric', 'outcome', 'sentence']
            >>> result["tuned"]["eval_loss"] < result["base"]["eval_loss"]
            True
        """
        return read_json(self.folder / "result.json")

    @property
    def metrics(self) -> pandas.DataFrame:
        """One row per step and per evaluation of ``metrics.jsonl``; ``loss`` in nats per target.

        The file also says what each checkpoint took.

        Example:
            >>> metrics = kft.load_run("runs/quickstart").metrics
            >>> [name in metrics for name in ("step", "loss", "eval_loss", "grad_norm")]
            [True, True, True, True]
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
        """The trained form: a plain ``PeftModel``, or a transformers model for ``full``.

        Example:
            >>> type(kft.load_run("runs/quickstart").model).__name__
            'PeftModelForCausalLM'
        """
        return self._opened.model

    @property
    def tokenizer(self) -> Any:
        """The plain transformers tokenizer, with the template used in training.

        Example:
            >>> turns = [{"role": "user", "content": "좋았어요"}]
            >>> tokenizer = kft.load_run("runs/quickstart").tokenizer
            >>> "### 질문: 좋았어요" in tokenizer.apply_chat_template(turns, tokenize=False)
            True
        """
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

        Example:
            >>> run = kft.load_run("runs/quickstart")
            >>> answers = run.generate(["좋았어요", "지루했어요"], max_new_tokens=4)
            >>> [type(answer) for answer in answers]
            [<class 'str'>, <class 'str'>]
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

        Example:
            >>> try:
            ...     kft.load_run("runs/quickstart").predict("좋았어요")
            ... except kft.KftError as error:  # that run's model writes
            ...     print(error.what)
            The model of `task: causal_lm` gives no labels
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
        """The trained form on held-out rows; see :func:`kft.api.evaluate.evaluate`.

        Args:
            data: A file of rows; ``None`` takes the run's own.
            max_rows: So many of them at most.

        Returns:
            Names and numbers, as under ``tuned`` in ``result.json``, and those of general text.

        Example:
            >>> found = kft.load_run("runs/quickstart").evaluate(max_rows=4)
            >>> found["num_rows"], "bits_per_character" in found
            (4, True)
        """
        from kft.api.evaluate import evaluate

        return evaluate([str(self.folder)], data=data, max_rows=max_rows)[str(self.folder)]

    def merge(self, output: str | None = None, *, base: str | None = None) -> Path:
        """Write the merged model and prove it; see :func:`kft.api.merge.merge`.

        Args:
            output: Where to; ``None`` is ``merged`` in the run folder.
            base: A checkpoint to merge into, other than the run's.

        Returns:
            The folder.

        Example:
            >>> kft.load_run("runs/quickstart").merge("runs/merged").name
            'merged'
        """
        from kft.api.merge import merge

        return merge(str(self.folder), output=output, base=base)[0]

    def verify(self, model: str | None = None) -> dict[str, Any]:
        """Compare a merged folder (the run's own by default) with the trained form.

        Returns:
            The content of ``verification.json``.

        Example:
            >>> kft.load_run("runs/quickstart").verify()["passed"]
            True
        """
        from kft.api.verify import verify

        return verify(str(self.folder), model or str(self.folder / "merged"))

    def export(self, to: str, output: str | None = None, *, dtype: str | None = None) -> Path:
        """Write the model in another format and prove it; see :func:`kft.api.export.export`.

        Args:
            to: ``onnx`` (models of BERT tasks) or ``gguf`` (models that write text).
            output: Where to; ``None`` is a folder of that name in the run folder.
            dtype: As for ``kft export --dtype``.

        Returns:
            The folder.

        Example:
            >>> try:
            ...     kft.load_run("runs/quickstart").export("onnx")
            ... except kft.KftError as error:  # that is for BERT tasks; a GPT goes to "gguf"
            ...     print(error.what)
            A model of `task: causal_lm` isn't written as ONNX
        """
        from kft.api.export import export

        return export(str(self.folder), to=to, output=output, dtype=dtype)[0]

    def report(self, output: str | None = None) -> Path:
        """Write the run's page (``report.html`` in its folder by default) once more.

        Example:
            >>> kft.load_run("runs/quickstart").report().name
            'report.html'
        """
        from kft.api.report import report

        return report([str(self.folder)], output=output)

    def plot(self) -> Figure:
        """Training loss, and held-out loss where it was measured, over the steps.

        Returns:
            A figure of matplotlib, which shows itself in a notebook.

        Example:
            >>> kft.load_run("runs/quickstart").plot().axes[0].get_xlabel()
            'optimizer step'
        """
        from kft.reporting.curves import loss_figure

        return loss_figure(self.metrics, self.result)

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    def _repr_html_(self) -> str:
        from kft.api.notebook import run_html

        return run_html(self.folder, self.comparison(), self.metrics, self.result)

    def comparison(self) -> list[tuple[str, Any, Any]]:
        """Name, base and tuned of every number that both have.

        Example:
            >>> run = kft.load_run("runs/quickstart")
            >>> "bits_per_character" in [name for name, base, tuned in run.comparison()]
            True
        """
        base, tuned = self.result.get("base", {}), self.result.get("tuned", {})
        return [(name, base[name], tuned[name]) for name in base if name in tuned]


def load_run(path: str | Path) -> Run:
    """Open a run folder.

    Raises:
        UsageError: If there is no run in it.

    Example:
        >>> kft.load_run("runs/quickstart")
        Run('runs/quickstart')
    """
    folder = Path(path)
    if not (folder / "recipe.yaml").is_file():
        raise UsageError(
            f"`{path}` is not a run folder",
            where=str(path),
            expected="a folder with `recipe.yaml`, made by `kft finetune`",
        )
    return Run(folder)
