"""Bytes of a model's weights: quantized, as pages of a file, and gathered from other ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kft.models.sizes import ModelSizes
    from kft.train.memory import Setting

_FLOAT32 = 4


def quantized_bytes(quantization: str, *, double_quant: bool) -> float:
    """Bytes of a quantized weight with its share of the constants.

    4-bit weights have a float32 for each 64 of them; doubly quantized one byte for each 64, and
    a float32 for each 256 of those.

    Source:
        Dettmers et al. 2023, "QLoRA: Efficient Finetuning of Quantized LLMs", section 3.

    Example:
        >>> 8 * quantized_bytes("nf4", double_quant=True)  # bits
        4.126953125
    """
    if quantization == "int8":
        return 1.0
    return 0.5 + (1 / 64 + 4 / (64 * 256) if double_quant else 4 / 64)


def gathered_bytes(sizes: ModelSizes, setting: Setting) -> int:
    """Weights that a rank has whole for a while, of those that ranks share.

    Those outside the blocks, one block's, and the next one's, which are fetched meanwhile, each
    with its adapter. Under ZeRO, unless activations are computed again, all: what layers keep for
    the backward pass are views of the weights, and while there is one the gathered bytes stay.

    Source:
        torch's ``fully_shard``: https://docs.pytorch.org/docs/stable/distributed.fsdp.fully_shard.html
    """
    if setting.sharing.is_zero and not setting.recomputes:
        return sizes.frozen * setting.weight_bytes + sizes.trained * _FLOAT32
    each: float = setting.weight_bytes
    if sizes.quantized:
        each = quantized_bytes(setting.quantization, double_quant=setting.double_quant)
    gathered = sizes.beside_blocks * setting.weight_bytes + 2 * sizes.largest_block * each
    if sizes.frozen or sizes.quantized:  # what is trained stands beside them
        gathered += 2 * sizes.trained * _FLOAT32 / max(len(sizes.blocks), 1)
    return round(gathered)


def mapped_bytes(sizes: ModelSizes, setting: Setting) -> int:
    """Pages of the checkpoint's file that stay mapped although their weights were quantized.

    On a CPU weights that are neither converted nor quantized aren't copied: they are the file's
    pages, and as long as one of them is in use the others stay as well.
    """
    return sizes.quantized * setting.weight_bytes if _is_mapped(sizes, setting) else 0


def loading_bytes(sizes: ModelSizes, setting: Setting) -> int:
    """Beside the weights: the pages of a file whose weights are all converted, until they are."""
    is_copied = setting.device == "cpu" and not _is_mapped(sizes, setting)
    return setting.file_bytes if is_copied else 0


def _is_mapped(sizes: ModelSizes, setting: Setting) -> bool:
    return setting.device == "cpu" and setting.weight_bytes == round(
        setting.file_bytes / max(sizes.file, 1)
    )
