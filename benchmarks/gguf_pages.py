# ruff: noqa: E501 -- the page's lines are long
"""The page of what benchmarks/gguf_check.py found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_HEAD = """\
# GGUF, loaded by llama.cpp

What `kft export --format gguf` writes, loaded with llama-cpp-python {llama} on a CPU and compared with
transformers (torch {torch}, float32). Texts: {texts}. Made by `python benchmarks/gguf_check.py`.

## Models

All with the tokenizer of `data/checkpoints/ko-gpt-mini`. The first is the trained model; the others are small and have
random weights, five times as wide apart as usual so that their logits aren't flat: no token is much likelier than the
next, so the greedy line parts early once rounding tells. Tokens: texts whose ids are equal, start token included.
Logits: 50 texts of up to 64 tokens, the largest difference of any logit, KL(transformers || llama.cpp) in nats a token,
and how often both name the same likeliest token. Greedy: continuations of 32 tokens that are equal to the last one.

llama.cpp keeps keys and values in float16 unless told otherwise, and on a CPU takes GELU from a table of float16;
the first line of each model has a cache in float32. The exact GELU of most GPT-NeoX models is the tanh form there.

| | weights | cache | tokens | logits apart | KL | same likeliest | greedy |
|---|---|---|--:|--:|--:|--:|--:|
"""
_VOCABULARIES = """
## Vocabularies

Ids on the same texts (in NFC), on {odd} odd ones (spaces, digits, jamo, other scripts, special tokens in the text), and on 100
of the texts decomposed (NFD), as macOS writes file names: a tokenizer that composes texts first says something else
there than llama.cpp, which doesn't. `kft export` tells so. What is refused is refused with these words.

| | llama.cpp's name | texts | odd ones | decomposed | refused because |
|---|---|--:|--:|--:|---|
"""


def page(result: Mapping[str, Any]) -> str:
    """The whole page."""
    versions = result["versions"]
    head = _HEAD.format(
        llama=versions["llama-cpp-python"], torch=versions["torch"], texts=result["texts"]
    )
    odd = next(one["odd"]["texts"] for one in result["vocabularies"].values() if "odd" in one)
    rows = [*_model_rows(result["models"])]
    verdicts = [_verdict(name, one) for name, one in result["vocabularies"].items()]
    return (
        head + "\n".join(rows) + "\n" + _VOCABULARIES.format(odd=odd) + "\n".join(verdicts) + "\n"
    )


def _model_rows(models: Mapping[str, Any]) -> Iterator[str]:
    for name, rows in models.items():
        for row in rows:
            logits, tokens, greedy = row["logits"], row["tokens"], row["greedy"]
            cells = [
                name, row["dtype"], row["cache"], f"{tokens['alike']:,} of {tokens['texts']:,}",
                f"{logits['largest']:.1e}", f"{logits['kl_nats']:.1e}", f"{logits['top1']:.2%}",
                f"{greedy['alike']} of {greedy['answers']}",
            ]  # fmt: skip
            yield "| " + " | ".join(cells) + " |"
            name = ""


def _verdict(name: str, one: Mapping[str, Any]) -> str:
    if "refused" in one:
        why = one["refused"].replace("|", r"\|")
        return f"| {name} | | | | | {why} |"
    counts = [
        f"{one[key]['alike']:,} of {one[key]['texts']:,}" for key in ("tokens", "odd", "decomposed")
    ]
    return f"| {name} | `{one['model']}`, `{one['pre']}` | {' | '.join(counts)} | |"
