# ruff: noqa: E501 -- the page's lines are long
"""What `kft export --format gguf` writes, loaded by llama.cpp: tokens, logits and greedy answers.

    KFT_TEST_DATA=FOLDER python benchmarks/gguf_check.py

Needs llama-cpp-python. FOLDER has NSMC's reviews and published vocabularies; without it the
rows of this repository are taken. Writes benchmarks/results/gguf.json and docs/evidence/gguf.md.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import llama_cpp
import numpy
import torch
from gguf_pages import page
from gguf_vocabularies import made_vocabularies, published_vocabularies
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Exaone4Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

from kft.export.gguf_architecture import describe
from kft.export.gguf_file import Content, write_gguf
from kft.export.gguf_tokenizer import Vocabulary, read_vocabulary
from kft.models.quiet import silence_transformers

CHECKPOINT = "data/checkpoints/ko-gpt-mini"
NUM_TEXTS, NUM_LOGITS, NUM_ANSWERS, NEW_TOKENS = 1000, 50, 20, 32
FLOAT32_CACHE = llama_cpp.GGML_TYPE_F32
ODD = (
    "", " ", "  앞뒤  ", "줄\n바꿈\n\n\n둘 ", "\t탭\t\t", "don't I'LL we've 12345 1,234.5 ３４５ ⅷ½",
    "ㅋㅋㅋㅋ ㅠㅠ ㅇㅈ", "漢字와 かな, Кириллица", "😀👍🏽👨‍👩‍👧", "a\u00a0b\u3000c\u200bd", "<s>가</s>", "</s>",
    "https://example.com/가?나=다#라", "각 가 힣 힯", "\u1100\u1161", "e\u0301 \u212b", "\x07\x1b[0m", "��",
)  # fmt: skip
"""What reviews seldom hold: spaces, digits, jamo, other scripts, special tokens, odd bytes."""


def texts(number: int = NUM_TEXTS) -> tuple[str, list[str]]:
    """Where they come from, and Korean texts."""
    folder = Path(os.environ.get("KFT_TEST_DATA", "../shared"))
    reviews = folder / "data" / "nsmc" / "ratings_test.txt"
    if reviews.is_file():
        rows = reviews.read_text(encoding="utf-8").splitlines()[1:]
        return "NSMC's test reviews", [row.split("\t")[1] for row in rows][:number]
    lines = Path("data/movie_replies.jsonl").read_text(encoding="utf-8").splitlines()
    pieces = [value for line in lines for value in json.loads(line).values()]
    made = [f"{pieces[at % len(pieces)]} {pieces[7 * at % len(pieces)]}" for at in range(number)]
    return "the movie replies of this repository, put together", made


def models() -> Iterator[tuple[str, Any]]:
    """The small GPT of this repository, and random models of the other families."""
    yield (
        "GPT-2, trained (`ko-gpt-mini`)",
        AutoModelForCausalLM.from_pretrained(CHECKPOINT, dtype=torch.float32),
    )
    sizes = {
        "vocab_size": 8000, "max_position_embeddings": 256, "hidden_size": 128,
        "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
        "initializer_range": 0.1, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 3,
    }  # fmt: skip
    grouped = {**sizes, "num_key_value_heads": 2}
    scaled = {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0,
              "high_freq_factor": 4.0, "original_max_position_embeddings": 64}  # fmt: skip
    for name, config in (
        ("Llama", LlamaConfig(**grouped)),
        ("Llama, scaled as 3.1, tied, biases", LlamaConfig(
            **grouped, rope_parameters=scaled, tie_word_embeddings=True, attention_bias=True)),
        ("Mistral", MistralConfig(**grouped, sliding_window=None)),
        ("Qwen2", Qwen2Config(**grouped)),
        ("Qwen3", Qwen3Config(**grouped, head_dim=32)),
        ("EXAONE 4 (without windows), scaled as Llama 3.1", Exaone4Config(
            **grouped, rope_parameters=scaled, sliding_window=None, tie_word_embeddings=True,
            layer_types=["full_attention"] * 2)),
        ("GPT-NeoX, `gelu`", GPTNeoXConfig(**sizes)),
        ("GPT-NeoX, `gelu_new`, blocks in series", GPTNeoXConfig(
            **sizes, hidden_act="gelu_new", use_parallel_residual=False)),
    ):  # fmt: skip
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    parameter.add_(0.1 * torch.randn_like(parameter))
        yield name, model


def opened(path: Path, **more: Any) -> Any:
    """The file in llama.cpp, on one thread."""
    return llama_cpp.Llama(
        str(path), n_ctx=256, n_threads=1, n_threads_batch=1, logits_all=True, verbose=False, **more
    )


def tokens_alike(tokenizer: Any, model: Any, given: Sequence[str]) -> dict[str, Any]:
    """On how many texts transformers and llama.cpp have the same ids; the first where not."""
    different = [
        text
        for text in given
        if tokenizer(text)["input_ids"] != model.tokenize(text.encode(), add_bos=True, special=True)
    ]
    return {"texts": len(given), "alike": len(given) - len(different),
            "first": different[0] if different else None}  # fmt: skip


@torch.no_grad()
def logits_apart(model: Any, loaded: Any, rows: Sequence[list[int]]) -> dict[str, float]:
    """How far llama.cpp's logits are from transformers'."""
    largest = divergence = alike = positions = 0.0
    for ids in rows:
        here = model(torch.tensor([ids])).logits[0].double()
        loaded.reset()
        loaded.eval(ids)
        there = torch.from_numpy(numpy.array(loaded.scores[: len(ids)])).double()
        largest = max(largest, float((here - there).abs().max()))
        likely = here.log_softmax(-1)
        divergence += float((likely.exp() * (likely - there.log_softmax(-1))).sum())
        alike += int((here.argmax(-1) == there.argmax(-1)).sum())
        positions += len(ids)
    return {"largest": largest, "kl_nats": divergence / positions, "top1": alike / positions}


@torch.no_grad()
def answers_alike(model: Any, loaded: Any, prompts: Sequence[list[int]]) -> dict[str, int]:
    """How many greedy continuations are the same, token by token."""
    alike = 0
    for ids in prompts:
        made = model.generate(
            torch.tensor([ids]), max_new_tokens=NEW_TOKENS, do_sample=False, eos_token_id=1,
            pad_token_id=3,
        )[0, len(ids) :].tolist()  # fmt: skip
        loaded.reset()
        found: list[int] = []
        for token in loaded.generate(ids, temp=0.0, repeat_penalty=1.0):
            found.append(token)
            if token == 1 or len(found) == NEW_TOKENS:
                break
        alike += found == made
    return {"answers": len(prompts), "alike": alike}


def written(model: Any, vocabulary: Vocabulary, dtype: str, folder: Path) -> Path:
    """A model as a file."""
    path = folder / "model.gguf"
    write_gguf(Content(model, describe(model.config), vocabulary, "check", dtype), path)
    return path


def check_model(model: Any, tokenizer: Any, given: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each precision; float32 with llama.cpp's cache in float32 too."""
    model.eval()
    vocabulary = read_vocabulary(tokenizer, 8000)
    ids = [tokenizer(text)["input_ids"][:64] for text in given if len(text) > 8]
    rows, prompts = ids[:NUM_LOGITS], [one[:8] for one in ids[:NUM_ANSWERS]]
    cached = {"type_k": FLOAT32_CACHE, "type_v": FLOAT32_CACHE}
    found = []
    for dtype, more in (("float32", cached), ("float32", {}), ("float16", {}), ("q8_0", {})):
        with tempfile.TemporaryDirectory() as folder:
            loaded = opened(written(model, vocabulary, dtype, Path(folder)), **more)
            found.append(
                {
                    "dtype": dtype,
                    "cache": "float32" if more else "float16",
                    "tokens": tokens_alike(tokenizer, loaded, given),
                    "logits": logits_apart(model, loaded, rows),
                    "greedy": answers_alike(model, loaded, prompts),
                }
            )
            loaded.close()
    return found


def check_vocabulary(tokenizer: Any, given: Sequence[str]) -> dict[str, Any]:
    """Equal ids on texts, on odd ones, and on decomposed ones."""
    rows = max(tokenizer.get_vocab().values()) + 1
    vocabulary = read_vocabulary(tokenizer, rows)
    config = LlamaConfig(
        vocab_size=rows, hidden_size=32, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=1, num_key_value_heads=1, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    composed = [unicodedata.normalize("NFC", text) for text in given]
    odd = [unicodedata.normalize("NFC", text) for text in ODD] if vocabulary.composes else ODD
    apart = [unicodedata.normalize("NFD", text) for text in given[:100]]
    with tempfile.TemporaryDirectory() as folder:
        path = written(model, vocabulary, "float32", Path(folder))
        loaded = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
        found = {
            "model": vocabulary.model,
            "pre": vocabulary.pre,
            "composes": vocabulary.composes,
            "tokens": tokens_alike(tokenizer, loaded, composed),
            "odd": tokens_alike(tokenizer, loaded, odd),
            "decomposed": tokens_alike(tokenizer, loaded, apart),
        }
        loaded.close()
    return found


def verdict(make: Callable[[], Any], given: Sequence[str]) -> dict[str, Any]:
    """Equal ids, or why it is refused."""
    from kft.errors import KftError

    try:
        return check_vocabulary(make(), given)
    except KftError as refused:
        return {"refused": refused.where or refused.what}


def main() -> None:
    """Measure, and write the page."""
    silence_transformers()
    torch.set_num_threads(1)
    started = time.perf_counter()
    source, given = texts()
    tokenizer = AutoTokenizer.from_pretrained(CHECKPOINT)
    result: dict[str, Any] = {
        "texts": source,
        "versions": {"llama-cpp-python": llama_cpp.__version__, "torch": torch.__version__},
        "models": {name: check_model(model, tokenizer, given) for name, model in models()},
        "vocabularies": {
            name: verdict(make, given)
            for name, make in (*made_vocabularies(given), *published_vocabularies())
        },
    }
    print(f"{time.perf_counter() - started:.0f} s")
    text = json.dumps(result, ensure_ascii=False, indent=2) + "\n"
    Path("benchmarks/results/gguf.json").write_text(text, encoding="utf-8")
    Path("docs/evidence/gguf.md").write_text(page(result), encoding="utf-8")


if __name__ == "__main__":
    main()
