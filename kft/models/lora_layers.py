"""LoRA layers that add their update inside the matrix product, for PEFT's own registry.

What is not plain LoRA (DoRA, dropout, several adapters, a trained base layer) goes through
PEFT's own forward.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from peft import LoraConfig
from peft.tuners import lora
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from kft.ops.autocast import computed_dtype
from kft.ops.lora import lora_linear, lora_product


def plain_adapter(layer: Any) -> str | None:
    """The name of the one adapter that a layer adds as plain LoRA; ``None``: it does otherwise."""
    names = [name for name in layer.active_adapters if name in layer.lora_A]
    if layer.disable_adapters or layer.merged or len(names) != 1 or names[0] in layer.lora_variant:
        return None
    (name,) = names
    if layer.training and getattr(layer.lora_dropout[name], "p", 0.0) > 0.0:
        return None
    if layer.lora_A[name].bias is not None or layer.lora_B[name].bias is not None:
        return None
    if any(parameter.requires_grad for parameter in layer.base_layer.parameters()):
        return None
    return str(name)


class FastLoraLinear(lora.Linear):  # type: ignore[misc] # peft has no types
    """PEFT's LoRA on a Linear or Conv1D, with its update inside the product."""

    def __init__(self, base_layer: Any, adapter_name: str, **kwargs: Any) -> None:
        is_conv1d = isinstance(base_layer, Conv1D)
        super().__init__(base_layer, adapter_name, is_target_conv_1d_layer=is_conv1d, **kwargs)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """As PEFT's, to rounding."""
        name = None if args or kwargs else plain_adapter(self)
        base: Any = self.base_layer
        if name is None or type(base) not in (nn.Linear, Conv1D):
            other: Tensor = super().forward(x, *args, **kwargs)
            return other
        weight = base.weight if isinstance(base, Conv1D) else base.weight.T
        down, up = self.lora_A[name].weight, self.lora_B[name].weight
        return lora_linear(x, weight, base.bias, down, up, self.scaling[name])


@cache
def fast_4bit_layer() -> Any:
    """The same for a 4-bit base; made when it is asked for, as it imports bitsandbytes."""
    from peft.tuners.lora.bnb import Linear4bit

    class FastLora4bit(Linear4bit):  # type: ignore[misc] # peft has no types
        """PEFT's LoRA on a 4-bit layer, with its update inside the product."""

        def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            """As PEFT's, to rounding."""
            name = None if args or kwargs else plain_adapter(self)
            if name is None:
                other: Tensor = super().forward(x, *args, **kwargs)
                return other
            down, up = self.lora_A[name].weight, self.lora_B[name].weight
            base = self.base_layer
            return lora_product(x, base, _weight_of(base, x), down, up, self.scaling[name])

    return FastLora4bit


def _weight_of(layer: Any, x: Tensor) -> Callable[[], Tensor]:
    """Makes a 4-bit layer's weight (O, I) in the precision in which ``x`` is computed with."""
    from bitsandbytes.functional import dequantize_4bit

    # Those of now: FSDP has another parameter there once the block has run.
    packed = layer.weight.detach().view(-1, 1)
    state = getattr(layer.weight, "quant_state", None) or layer.quant_state  # as bitsandbytes
    dtype = computed_dtype(x)

    def weight() -> Tensor:
        made: Tensor = dequantize_4bit(packed, state).to(dtype)
        return made

    return weight


def register_fast_layers(config: LoraConfig, model: nn.Module) -> None:
    """Have PEFT make these layers where it would make its own; 8-bit ones stay PEFT's.

    Args:
        config: Before ``get_peft_model`` sees it; nothing of this is saved with it.
        model: The base, whose layers tell whether it is quantized.
    """
    kinds = {type(module).__name__: type(module) for module in model.modules()}
    if "Linear4bit" in kinds:
        config._register_custom_module({kinds["Linear4bit"]: fast_4bit_layer()})
    elif "Linear8bitLt" not in kinds:
        config._register_custom_module({nn.Linear: FastLoraLinear, Conv1D: FastLoraLinear})
