"""Which models llama.cpp computes as transformers does, and what a GGUF file must say of them.

llama.cpp has each architecture's arithmetic in its own code and takes only sizes from the file, so
a configuration that asks for anything else is refused here, by the key that asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kft.errors import UsageError, name_list

Value = int | float | bool | str


@dataclass(frozen=True)
class Architecture:
    """A model as llama.cpp names and sizes it.

    Args:
        name: Of llama.cpp's architectures.
        num_blocks: Layers.
        num_heads: Of queries.
        num_kv_heads: Of keys and values.
        fields: What the file says of it: key, behind the architecture's name -> value.
        pairs_neighbours: Rotary positions turn neighbouring numbers of a head, not those half a
            head apart as in transformers.
        keeps_head: The output matrix is written also where it is the embedding's.
    """

    name: str
    num_blocks: int
    num_heads: int
    num_kv_heads: int
    fields: Mapping[str, Value] = field(default_factory=dict)
    pairs_neighbours: bool = False
    keeps_head: bool = False


def describe(config: Any) -> Architecture:
    """What a GGUF file says of a model.

    Args:
        config: The model's transformers configuration.

    Raises:
        UsageError: If llama.cpp has no such architecture, or computes it otherwise.

    Example:
        >>> from transformers import GPT2Config
        >>> describe(GPT2Config(n_embd=32, n_layer=2, n_head=4)).fields["feed_forward_length"]
        128
    """
    maker = _MAKERS.get(config.model_type)
    if maker is None:
        raise UsageError(
            f"Models of the type `{config.model_type}` aren't written as GGUF",
            expected=f"one of {name_list(list(_MAKERS), len(_MAKERS))}, whose logits were compared",
        )
    return maker(config)


def _gpt2(config: Any) -> Architecture:
    _require(config, "activation_function", ("gelu_new", "gelu_pytorch_tanh", "gelu_fast"))
    _require(config, "scale_attn_weights", (True,))
    _require(config, "scale_attn_by_inverse_layer_idx", (False,))
    _require(config, "add_cross_attention", (False,))
    fields: dict[str, Value] = {
        "context_length": config.n_positions,
        "embedding_length": config.n_embd,
        "feed_forward_length": config.n_inner or 4 * config.n_embd,
        "block_count": config.n_layer,
        "attention.head_count": config.n_head,
        "attention.layer_norm_epsilon": float(config.layer_norm_epsilon),
    }
    return Architecture("gpt2", config.n_layer, config.n_head, config.n_head, fields)


def _gpt_neox(config: Any) -> Architecture:
    # llama.cpp's GELU is the tanh form; how far that is from the exact one: docs/evidence/gguf.md.
    _require(config, "hidden_act", ("gelu", "gelu_new", "gelu_pytorch_tanh", "gelu_fast"))
    _require(config, "attention_bias", (True,))
    width, heads = config.hidden_size, config.num_attention_heads
    turned = int(width // heads * config.rope_parameters.get("partial_rotary_factor", 1.0))
    fields: dict[str, Value] = {
        "context_length": config.max_position_embeddings,
        "embedding_length": width,
        "feed_forward_length": config.intermediate_size,
        "block_count": config.num_hidden_layers,
        "attention.head_count": heads,
        "attention.layer_norm_epsilon": float(config.layer_norm_eps),
        "use_parallel_residual": bool(config.use_parallel_residual),
        "rope.dimension_count": turned,
        **_rope(config, ("default", "linear")),
    }
    blocks = config.num_hidden_layers
    return Architecture("gptneox", blocks, heads, heads, fields, keeps_head=True)


def _llama(config: Any) -> Architecture:
    # The `llama` of llama.cpp also reads `rope_freqs`, where Llama 3.1's scaling goes.
    return _llama_like(config, "llama", ("default", "linear", "llama3"))


def _qwen2(config: Any) -> Architecture:
    return _llama_like(config, "qwen2", ("default", "linear"))


def _qwen3(config: Any) -> Architecture:
    _require(config, "attention_bias", (False,))
    return _llama_like(config, "qwen3", ("default", "linear"))


def _exaone4(config: Any) -> Architecture:
    # Of the 32B, llama.cpp knows by its 64 layers which of them see a window, and turn positions.
    if config.sliding_window is not None or config.num_hidden_layers == 64:
        raise _other(config, "sliding_window", "`None`, in a model of fewer than 64 layers")
    return _llama_like(config, "exaone4", ("default", "llama3"))


def _llama_like(config: Any, name: str, rope_types: tuple[str, ...]) -> Architecture:
    _require(config, "hidden_act", ("silu",))
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    if config.rope_parameters.get("partial_rotary_factor", 1.0) != 1.0:
        raise _other(config, "rope_parameters.partial_rotary_factor", "1.0")
    fields: dict[str, Value] = {
        "vocab_size": config.vocab_size,
        "context_length": _context_length(config),
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "block_count": config.num_hidden_layers,
        "attention.head_count": heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.key_length": width,
        "attention.value_length": width,
        "attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        "rope.dimension_count": width,
        **_rope(config, rope_types),
    }
    return Architecture(
        name,
        config.num_hidden_layers,
        heads,
        config.num_key_value_heads,
        fields,
        pairs_neighbours=name == "llama",
    )


_MAKERS: dict[str, Callable[[Any], Architecture]] = {
    "gpt2": _gpt2,
    "gpt_neox": _gpt_neox,
    "llama": _llama,
    "mistral": _llama,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "exaone4": _exaone4,
}


def _context_length(config: Any) -> int:
    """Positions for which llama.cpp, whose attention sees all of them, computes the same."""
    positions: int = config.max_position_embeddings
    window = getattr(config, "sliding_window", None)
    slides = "sliding_attention" in (getattr(config, "layer_types", None) or ())
    if window is not None and (slides or config.model_type == "mistral"):
        return min(positions, int(window))
    return positions


def _rope(config: Any, known: tuple[str, ...]) -> dict[str, Value]:
    parameters = config.rope_parameters
    kind = parameters.get("rope_type", "default")
    if kind not in known:
        raise _other(config, "rope_parameters.rope_type", name_list(list(known)), kind)
    fields: dict[str, Value] = {"rope.freq_base": float(parameters["rope_theta"])}
    if kind == "linear":
        fields |= {
            "rope.scaling.type": "linear",
            "rope.scaling.factor": float(parameters["factor"]),
        }
    return fields


def _require(config: Any, key: str, values: tuple[Any, ...]) -> None:
    if getattr(config, key) not in values:
        raise _other(config, key, name_list([str(value) for value in values]))


def _other(config: Any, key: str, expected: str, given: Any = None) -> UsageError:
    value = getattr(config, key, given) if given is None else given
    return UsageError(
        f"llama.cpp computes `{config.model_type}` otherwise than this model",
        where=f"`{key}: {value}` in its `config.json`",
        expected=expected,
    )
