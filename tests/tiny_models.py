"""What tests make tiny checkpoints of, for those that need more than the fixtures.

Not in `conftest.py`: pytest calls each folder's so, and an import finds the one it read last.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PretrainedConfig

SENTENCES = Path(__file__).parent / "assets" / "sentences.txt"

VOCABULARY = 500
SPECIALS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
SPECIAL_IDS = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 3}


def save_checkpoint(
    config: PretrainedConfig,
    tokenizer: Path,
    folder: Path,
    auto_class: str = "AutoModelForCausalLM",
) -> Path:
    """A float32 checkpoint of seeded random weights in `folder`, its tokenizer beside it.

    Biases and norms are moved off 0 and 1 too: a merge that drops one must show.
    """
    import torch
    import transformers
    from transformers import AutoTokenizer

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(20261122)
        model = getattr(transformers, auto_class).from_config(config, dtype=torch.float32)
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tokenizer).save_pretrained(folder)
    return folder


def encoder_shape(**more: Any) -> dict[str, Any]:
    """What the tiny encoders have in common: 2 layers, width 32, 4 heads, 128 positions."""
    return {
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 128,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "initializer_range": 0.2,
        "pad_token_id": 0,
        **more,
    }
