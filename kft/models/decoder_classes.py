"""The classes of encoders that write: transformers' own, with the two attentions mixed in.

Importing them imports transformers' modelling code, which takes seconds: only
:func:`kft.models.decoders.model_class` does, where a model is made.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    BertLMHeadModel,
    BertModel,
    CamembertForCausalLM,
    CamembertModel,
    ElectraForCausalLM,
    ElectraModel,
    RobertaForCausalLM,
    RobertaModel,
    XLMRobertaForCausalLM,
    XLMRobertaModel,
)
from transformers.masking_utils import create_causal_mask

from kft.models.decoders import PROMPT, first_position, is_prefix


class _Body:
    """The part of each that makes hidden states; mixed into transformers' own classes."""

    config: Any

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        past_key_values: Any | None = None,
        **kwargs: Any,
    ) -> Any:
        """As transformers' own; ``attention_mask`` (B, T) may hold :data:`PROMPT`."""
        given = kwargs.get("inputs_embeds") if input_ids is None else input_ids
        if attention_mask is not None and attention_mask.dim() == 2 and given is not None:
            if is_prefix(self.config):
                attention_mask = self._prefix_mask(given, attention_mask, past_key_values)
            else:
                attention_mask = (attention_mask > 0).long()
        return super().forward(  # type: ignore[misc] # of the other parent
            input_ids=input_ids,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
            **kwargs,
        )

    def _prefix_mask(self, given: torch.Tensor, mask: torch.Tensor, cache: Any) -> Any:
        """The four-dimensional mask in the form that the attention in use takes."""
        parameter = next(self.parameters())  # type: ignore[attr-defined] # of the other parent
        size = torch.empty(*given.shape[:2], 0, dtype=parameter.dtype, device=given.device)
        return create_causal_mask(
            self.config,
            size,
            (mask > 0).long(),
            cache,
            block_sequence_ids=torch.where(mask == PROMPT, 0, -1),
        )


class _Decoder:
    """What the models around those have in common."""

    config: Any

    @classmethod
    def from_config(cls, config: Any, **options: Any) -> Any:
        """A model with random weights, as transformers' auto classes make it."""
        options.pop("trust_remote_code", None)
        return cls._from_config(config, **options)  # type: ignore[attr-defined] # of the other parent

    def prepare_inputs_for_generation(self, input_ids: torch.Tensor, **kwargs: Any) -> Any:
        """As transformers' own, which counts every model's positions from 0."""
        parent: Any = super()
        inputs = parent.prepare_inputs_for_generation(input_ids, **kwargs)
        if inputs.get("position_ids") is not None:
            inputs["position_ids"] = inputs["position_ids"] + first_position(self.config)
        return inputs


class BertBody(_Body, BertModel):
    """BERT's hidden states, its prompt seen as the mask says."""


class ElectraBody(_Body, ElectraModel):
    """ELECTRA's likewise."""


class RobertaBody(_Body, RobertaModel):
    """RoBERTa's likewise."""


class XLMRobertaBody(_Body, XLMRobertaModel):
    """XLM-RoBERTa's likewise."""


class CamembertBody(_Body, CamembertModel):
    """CamemBERT's likewise."""


class BertDecoder(_Decoder, BertLMHeadModel):
    """BERT with the head of its masked language model, reading from left to right."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.bert = BertBody(config, add_pooling_layer=False)
        self.post_init()


class ElectraDecoder(_Decoder, ElectraForCausalLM):
    """ELECTRA likewise; a discriminator has no such head, so it is new."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.electra = ElectraBody(config)
        self.post_init()


class RobertaDecoder(_Decoder, RobertaForCausalLM):
    """RoBERTa likewise."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.roberta = RobertaBody(config, add_pooling_layer=False)
        self.post_init()


class XLMRobertaDecoder(_Decoder, XLMRobertaForCausalLM):
    """XLM-RoBERTa likewise."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.roberta = XLMRobertaBody(config, add_pooling_layer=False)
        self.post_init()


class CamembertDecoder(_Decoder, CamembertForCausalLM):
    """CamemBERT likewise."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.roberta = CamembertBody(config, add_pooling_layer=False)
        self.post_init()


CLASSES: dict[str, Any] = {
    "bert": BertDecoder,
    "electra": ElectraDecoder,
    "roberta": RobertaDecoder,
    "xlm-roberta": XLMRobertaDecoder,
    "camembert": CamembertDecoder,
}
"""Architecture of an encoder -> what it becomes with ``task: causal_lm``."""
