"""The report of one run: did it help, how it learned, on what, and what came out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from kft.errors import share_of
from kft.reporting.answer_differences import Part, side_by_side
from kft.reporting.render import (
    duration,
    finding_phrase,
    gibibytes,
    metric_phrase,
    number,
    percent,
    phrase,
    render,
)
from kft.reporting.run_plots import loss_legend, plots_of
from kft.reporting.views import LabelView, RunView

MOST_LABELS = 20
"""Labels up to which a confusion matrix can be read."""

_COUNTS = ("num_rows", "num_targets", "num_generations", "label_counts", "majority_accuracy")
_TONES = {"better": "good", "worse": "bad"}
_MERGE = (
    "max_logit_difference",
    "limit_logits",
    "kl_nats",
    "limit_kl",
    "top1_agreement",
    "dtype",
    "num_positions",
)


def report_page(view: RunView) -> str:
    """``report.html`` of a run.

    Args:
        view: What it shows.

    Returns:
        One HTML file that loads nothing.
    """
    result = view.result
    tuned = result.get("tuned", {})
    metrics = metric_rows(view)
    labels = view.predictions if isinstance(view.predictions, LabelView) else None
    values = {
        "title": view.name,
        "summary": _summary(view),
        "metrics": metrics,
        "headline": _headline(result, metrics),
        "leaked": result.get("leaked_rows", 0),
        "majority": tuned.get("majority_accuracy"),
        "num_rows": tuned.get("num_rows", 0),
        "bootstrap": result.get("bootstrap") or {"resamples": None, "seed": "–"},
        "has_intervals": bool(result.get("intervals")),
        "forgetting": _forgetting(result),
        "fit": _fit(result),
        "best": result.get("best") or None,
        "plots": plots_of(view),
        "loss_words": phrase("squared error" if is_regression(view) else "loss"),
        "loss_legend": loss_legend(view),
        "labels": labels,
        "most_labels": MOST_LABELS,
        "r2": {side: result.get(side, {}).get("r2") for side in ("base", "tuned")},
        "mistakes": result.get("mistakes", []),
        "samples": _samples(result),
        "data_facts": _data_facts(view),
        "findings": [finding_phrase(told) for told in result.get("findings", [])],
        "verification": result.get("verification", {}),
        "merge_facts": _merge_facts(result.get("verification", {})),
        "recipe_text": view.recipe_text,
        "environment": _environment(view.environment),
    }
    return render("report.html", values)


def metric_rows(view: RunView) -> list[dict[str, Any]]:
    """Each metric that both models have, with its meaning, values and interval."""
    base, tuned = view.result.get("base", {}), view.result.get("tuned", {})
    intervals = view.result.get("intervals", {})
    rows = []
    for name, before in base.items():
        after = tuned.get(name)
        if name in _COUNTS or name not in tuned:
            continue
        both = isinstance(before, int | float) and isinstance(after, int | float)
        rows.append(
            {
                "name": name,
                "meaning": phrase("mean squared")
                if name == "eval_loss" and is_regression(view)
                else metric_phrase(name, view.meanings),
                "base": before,
                "tuned": after,
                "difference": after - before if both else None,
                "interval": intervals.get(name),
            }
        )
    return rows


def is_regression(view: RunView) -> bool:
    """Whether its loss is a squared error and no log-likelihood."""
    return bool(view.recipe["task"] == "sequence_regression")


def _headline(result: Mapping[str, Any], metrics: list[dict[str, Any]]) -> dict[str, Any]:
    told = result.get("headline") or {}
    row = next((row for row in metrics if row["name"] == told.get("metric")), {})
    outcome, is_above = told.get("outcome"), told.get("is_above_free", True)
    can_be_trusted = is_above and not (outcome == "better" and result.get("leaked_rows"))
    return {
        "metric": told.get("metric", ""),
        "answer": outcome or "unknown",
        "tone": _TONES.get(outcome or "", "") if can_be_trusted else "",
        "not_above": None if is_above else number(told["free"]),
        "base": row.get("base"),
        "tuned": row.get("tuned"),
        "interval": row.get("interval"),
    }


def _summary(view: RunView) -> list[tuple[Markup, Any]]:
    result, recipe = view.result, view.recipe
    adapter = recipe["adapter"]
    method = adapter["method"]
    if method != "full":
        method = f"{method}, r = {adapter['r']}, α = {adapter['lora_alpha']}"
    facts: list[tuple[Markup, Any]] = [
        (phrase("task"), recipe["task"]),
        (phrase("model"), recipe["model"]["name_or_path"].rstrip("/").rpartition("/")[2]),
        (phrase("method"), method),
    ]
    if result:
        trained, total = result["trainable_parameters"], result["total_parameters"]
        of_all = phrase("of all", trained=f"{trained:,}", total=f"{total:,}")
        facts += [
            (phrase("trained parameters"), of_all),
            (phrase("steps taken"), number(result["steps"])),
            (phrase("time"), duration(result["train_seconds"])),
            (phrase("peak memory"), gibibytes(result["peak_memory_bytes"])),
        ]
    return [*facts, *_checkpoints(view), (phrase("device"), view.environment.get("device", "–"))]


def _checkpoints(view: RunView) -> list[tuple[Markup, Markup]]:
    """How many were written, the size of the last, and the time that all took."""
    lines = [line for line in view.log if "checkpoint_bytes" in line]
    if not lines:
        return []
    seconds = sum(line["checkpoint_seconds"] for line in lines)
    told = phrase(
        "checkpoint sizes",
        count=number(len(lines)),
        size=gibibytes(lines[-1]["checkpoint_bytes"]),
        time=duration(seconds),
    )
    return [(phrase("checkpoints"), told)]


def _forgetting(result: Mapping[str, Any]) -> dict[str, Any] | None:
    told = result.get("forgetting")
    return {"outcome": None, **told, "rise": percent(told["share"])} if told else None


def _fit(result: Mapping[str, Any]) -> dict[str, Any] | None:
    fit = result.get("fit")
    if not fit:
        return None
    numbers = {
        name: number(value) if isinstance(value, int | float) else value
        for name, value in fit["numbers"].items()
    }
    seen = fit.get("training_rows") or {}
    training = None
    if seen.get("eval_loss") is not None and result["tuned"].get("eval_loss") is not None:
        training = {
            "rows": number(seen["num_rows"]),
            "train": number(seen["eval_loss"]),
            "held_out": number(result["tuned"]["eval_loss"]),
        }
    told = {"verdict": fit["verdict"], "signal": fit["signal"]}
    return {**told, "numbers": numbers, "training": training}


def _samples(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    samples = []
    for sample in result.get("samples", []):
        after = sample["tuned"] or ""
        before_parts, after_parts = side_by_side(sample["base"], after)
        note = None
        if sample["base"] == after:
            note = "same"
        elif not any(part.text.strip() and not part.is_own for part in after_parts):
            note = "nothing shared"  # marking everything would mark nothing
            before_parts, after_parts = _unmarked(before_parts), _unmarked(after_parts)
        texts = {name: sample[name] for name in ("prompt", "reference")}
        samples.append({**texts, "before": before_parts, "after": after_parts, "note": note})
    return samples


def _unmarked(parts: list[Part]) -> list[Part]:
    return [part._replace(is_own=False) for part in parts]


def _data_facts(view: RunView) -> list[tuple[Markup, str]]:
    result = view.result
    tokens = result.get("tokens")
    if not tokens:
        return []
    facts = [
        (phrase("rows trained"), number(result["train_rows"])),
        (phrase("rows held out"), number(result.get("tuned", {}).get("num_rows", 0))),
    ]
    for reason, count in result.get("dropped_rows", {}).items():
        facts.append((phrase("rows dropped", reason=reason), number(count)))
    lengths = " / ".join(number(tokens[name]) for name in ("median", "p95", "longest"))
    targets = f"{number(tokens['targets'])} ({tokens['target_share']:.0%})"
    cut = f"{number(tokens['truncated'])} ({share_of(tokens['truncated'], max(tokens['rows'], 1))})"
    return [
        *facts,
        (phrase("tokens"), number(tokens["tokens"])),
        (phrase("targets"), targets),
        (phrase("row lengths"), lengths),
        (phrase("truncated"), cut),
    ]


def _merge_facts(verification: Mapping[str, Any]) -> list[tuple[Markup, str]]:
    return [
        (phrase(name), number(value) if isinstance(value, int | float) else str(value))
        for name in _MERGE
        if (value := verification.get(name)) is not None
    ]


def _environment(environment: Mapping[str, Any]) -> list[tuple[Markup, str]]:
    facts: list[tuple[Markup, str]] = []
    for name, value in environment.items():
        inside = value.items() if isinstance(value, Mapping) else [("", value)]
        for key, content in inside:
            words = f"{name}: {key}" if key else name
            facts.append((Markup("<code>{}</code>").format(words), str(content)))
    return facts
