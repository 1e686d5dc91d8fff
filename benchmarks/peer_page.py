# ruff: noqa: E501 -- the table's lines are long
"""docs/evidence/peers.md, from the numbers of `benchmarks/peers.py`."""

from __future__ import annotations

import statistics
from typing import Any

REMARKS = (
    "## What this doesn't show",
    "",
    "- Equal losses in bfloat16: with random weights at this rate the loss jumps from 9.4 to 12.3 at step 13, and what rounding "
    "left apart is apart by more for two steps; before it the two sides are within 0.02.",
    "- An idle machine: these are shared with others' work, and a product takes up to twice as long in one minute as in the "
    "next, for either side. So ratios are those of pairs, with their range; kft's and the peers' own numbers vary more.",
    "- A large share of the peak in bfloat16: with AMX a large product runs at 0.9 to 2.4 TFLOP/s, from one second to the next, and "
    "the best of a second counts. A step's products reach 0.7 to 0.9 of what is there in its minute; two fifths of it are no "
    "product: GELU, softmax, layer norms, attention over short documents.",
    "- Six tenths of the peers' memory in float32: they run best a row at a time there, and kft with eight at once, as its recipe says. "
    "A row at a time (`train.per_device_train_batch_size=1`, `train.gradient_accumulation_steps=8`) kft takes 322 tokens/s and 1,253 MiB "
    "on KoGPT2's shape, 0.72 of TRL's; the weights and the libraries alone would be 0.52 of that.",
    "- More than about 2.5 times these peers in float32: their products alone take two fifths of their time, and nobody's are "
    "faster. The share of the peak above says what is left to gain.",
    "- bfloat16 where the processor doesn't multiply it: it takes many times as long as float32 there, for either side. kft takes "
    "float32 there by itself; of TRL, whose default is bfloat16, four steps of KLUE-BERT had not ended after five minutes.",
    "- LLaMA-Factory writes the same texts through a template of its own, so a few tokens and the losses differ; it also draws "
    "its adapter from another random state.",
    "- A GPU: none was at hand for these. `benchmarks/gpu.py` runs there, with TRL, transformers' Trainer and Unsloth beside kft where "
    "they are installed; so far it has been run on a CPU alone, with one small block of each shape (`--tiny`).",
)


def page(results: dict[str, Any]) -> str:
    """docs/evidence/peers.md."""
    lines = [
        "# Speed and memory beside TRL and transformers' Trainer",
        "",
        "Whole processes in turns, the same checkpoint (random weights of the published shape), the same rows in the same order, "
        "eight rows a step, float32 where nothing else is said. Tokens are those of the rows, without padding; seconds are those of the finished steps, data "
        "loading included. The peer runs with the best of its settings below; ratios are medians (least to greatest).",
        "",
        "Made by `make bench` (`python benchmarks/peers.py`); numbers in [peers.json](../../benchmarks/results/peers.json).",
        "",
        "| work | peer | kft tokens/s | peer tokens/s | ratio | peak memory, kft / peer |",
        "|---|---|--:|--:|--:|--:|",
    ]
    names = {
        "trl": "TRL SFTTrainer",
        "trainer": "transformers Trainer",
        "llamafactory": "LLaMA-Factory",
    }
    for one in results["workloads"].values():
        ratios = one["ratios"]
        lines.append(
            f"| {one['what']} | {names[one['peer']]}: {one['best']} | {one['kft_tokens_per_second']:.0f} | {one['peer_tokens_per_second']:.0f} | "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) | "
            f"{one['kft_peak_bytes'] / 2**20:.0f} / {one['peer_peak_bytes'] / 2**20:.0f} MiB ({one['kft_peak_bytes'] / one['peer_peak_bytes']:.2f}) |"
        )
    lines += ["", "The machines:", ""]
    lines += [f"- {name}: {one['machine']}" for name, one in results["workloads"].items()]
    lines += ["", "The peers' settings, one run each, tokens/s:", ""]
    for name, one in results["workloads"].items():
        lines.append(
            f"- {name}: "
            + "; ".join(f"{label} {value:.0f}" for label, value in one["grid"].items())
            + "".join(
                f" ({label}: its first loss is another one, so it doesn't count)"
                for label in one["other_training"]
            )
        )
    lines += [*_losses(results), *_shares(results), *_behind(results)]
    return "\n".join([*lines, "", *REMARKS, ""])


def _losses(results: dict[str, Any]) -> list[str]:
    """How far the two sides are apart."""
    lines = ["", "Losses, kft beside the peer with those settings:", ""]
    for name, one in results["workloads"].items():
        pairs = list(zip(one["kft_losses"], one["peer_losses"], strict=True))
        apart = max(abs(mine - other) for mine, other in pairs)
        (first, first_of_peer), (last, last_of_peer) = pairs[0], pairs[-1]
        lines.append(
            f"- {name}: {first:.5f} beside {first_of_peer:.5f} at first, {last:.5f} beside {last_of_peer:.5f} at step {len(pairs)}; "
            f"never further apart than {apart:.1e}"
        )
    return lines


def _shares(results: dict[str, Any]) -> list[str]:
    """What kft bench says."""
    lines = [
        "",
        "`kft bench` on the same recipes: the share of the best matrix product, in the precision of the run, that the machine gives in the same "
        "process (4 FLOP per weight and token with LoRA; nothing is counted that is computed twice).",
        "",
        "| work | tokens/s | share of the peak | peak memory |",
        "|---|--:|--:|--:|",
    ]
    for name, one in results["workloads"].items():
        told = one["bench"]
        lines.append(
            f"| {name} | {told['tokens_per_second']:.0f} | {told['utilization']:.0%} | {told['peak_memory_bytes'] / 2**20:.0f} MiB |"
        )
    return lines


def _behind(results: dict[str, Any]) -> list[str]:
    """Where a peer takes less memory."""
    behind = [
        f"- {name}: {one['kft_peak_bytes'] / one['peer_peak_bytes']:.2f} times the peer's memory (with other settings of its own the peer may be slower and smaller still)."
        for name, one in results["workloads"].items()
        if one["kft_peak_bytes"] > one["peer_peak_bytes"]
    ]
    return ["", "## Where kft is not ahead", "", *behind] if behind else []
