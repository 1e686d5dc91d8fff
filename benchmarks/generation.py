# ruff: noqa: E501 -- the page's lines are long
"""Answers to many prompts: kft's way beside transformers' ``generate``, in one process, alternating.

    python benchmarks/generation.py [--rounds 3] [--rows 256] [--batch 16]

A small Korean GPT is first taught to answer reviews (the quickstart's recipe, fewer steps, kept
under runs/generation/), so that its answers end by themselves. Both then answer the same prompts
of mixed length greedily, with the same batch size and limit: transformers in the order of the
file, padded on the left, and kft sorted by length, each row leaving the batch when it has ended.
Answers are compared token by token. Writes benchmarks/results/generation.json and
docs/evidence/generation.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import kft
from kft.models.generation import generate_answers

RUN = Path("runs/generation")
RESULTS = Path("benchmarks/results/generation.json")
PAGE = Path("docs/evidence/generation.md")
LIMIT = 64


def trained() -> Path:
    """The merged model of a short run."""
    if not (RUN / "merged").is_dir():
        overrides = {
            "output_dir": str(RUN),
            "evaluate.eval_steps": None,
            "evaluate.generate": 0,
            "evaluate.scored_generations": 0,
        }
        kft.finetune("recipes/quickstart.yaml", overrides)
    return RUN / "merged"


def prompts_of(number: int) -> list[str]:
    """Reviews, and pages of several of them: prompts from a few to a hundred tokens."""
    lines = Path("data/movie_replies.jsonl").read_text(encoding="utf-8").splitlines()
    reviews = [json.loads(line)["instruction"] for line in lines]
    made = []
    for row in range(number):
        joined = " ".join(reviews[(row * 7 + each) % len(reviews)] for each in range(1 + row % 5))
        made.append(f"### 질문: {joined}\n\n### 답변: ")
    return made


def plainly(model: Any, tokenizer: Any, prompts: list[str], batch: int) -> list[list[int]]:
    """Transformers alone: file order, padded on the left, greedy."""
    ends, found = {model.generation_config.eos_token_id}, []
    for start in range(0, len(prompts), batch):
        part = tokenizer(
            prompts[start : start + batch],
            padding=True,
            padding_side="left",
            add_special_tokens=False,
            return_tensors="pt",
            return_token_type_ids=False,
        )
        with torch.no_grad():
            output = model.generate(**part, max_new_tokens=LIMIT, do_sample=False)
        for row in output[:, part.input_ids.shape[1] :].tolist():
            stops = [place for place, token in enumerate(row) if token in ends]
            found.append(row[: stops[0]] if stops else row)
    return found


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    found = work()
    return time.perf_counter() - started, found


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--batch", type=int, default=16)
    options = parser.parse_args()
    folder = trained()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    prompts = prompts_of(options.rows)
    lengths = [len(tokenizer(one).input_ids) for one in prompts]

    def ours() -> list[list[int]]:
        answers = generate_answers(
            model, tokenizer, prompts, max_new_tokens=LIMIT, rows_per_batch=options.batch
        )
        return [answer.token_ids for answer in answers]

    seconds: dict[str, list[float]] = {"transformers": [], "kft": []}
    said: dict[str, list[list[int]]] = {}
    for _ in range(options.rounds):
        for name, work in (
            ("transformers", lambda: plainly(model, tokenizer, prompts, options.batch)),
            ("kft", ours),
        ):
            spent, said[name] = timed(work)
            seconds[name].append(spent)
    pairs = zip(said["transformers"], said["kft"], strict=True)
    same = sum(one == other for one, other in pairs)
    ratios = [a / b for a, b in zip(seconds["transformers"], seconds["kft"], strict=True)]
    found = {
        "rows": len(prompts),
        "batch": options.batch,
        "prompt_tokens": [min(lengths), statistics.median(lengths), max(lengths)],
        "answer_tokens": sum(map(len, said["kft"])),
        "seconds": seconds,
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "same_answers": same,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
    }
    RESULTS.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    PAGE.write_text(page(found), encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))


def page(found: dict[str, Any]) -> str:
    """docs/evidence/generation.md."""
    shortest, median, longest = found["prompt_tokens"]
    seconds = {name: statistics.median(spent) for name, spent in found["seconds"].items()}
    speeds = {name: found["answer_tokens"] / spent for name, spent in seconds.items()}
    low, high = min(found["ratios"]), max(found["ratios"])
    return f"""# Answering many prompts

{found["rows"]} prompts of {shortest} to {longest} tokens (median {median:.0f}), at most {LIMIT} tokens an answer, greedy,
batches of {found["batch"]}, float32, both in one process and alternating. transformers' `generate` takes the rows in the
order of the file, padded on the left; kft takes rows of like length together, and each leaves its batch when its
answer has ended. Made by `python benchmarks/generation.py`.

| | seconds, median of {len(found["ratios"])} | tokens of answers a second |
|---|--:|--:|
| transformers' `generate` | {seconds["transformers"]:.1f} | {speeds["transformers"]:.0f} |
| kft | {seconds["kft"]:.1f} | {speeds["kft"]:.0f} |

{found["ratio"]:.2f} times as fast ({low:.2f} to {high:.2f}). {found["same_answers"]} of {found["rows"]} answers are equal token by token; others differ
where two tokens are equally likely to rounding, as they do between two batch sizes of `generate`.

Machine: {found["machine"]}.
"""


if __name__ == "__main__":
    main()
