"""Attention on packed pages, under the name of an attention function of transformers."""

from __future__ import annotations

import sys
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from transformers import AttentionInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from ..errors import UnsupportedError
from ._packed import PackedRows

if TYPE_CHECKING:
    from ._layer import NibbleLayer

_PREFIX = "nibblekv_over_"


def use_packed_attention(config: Any) -> None:
    """Lets a model attend to packed rows. For all others its own implementation goes on."""
    own = config._attn_implementation or "sdpa"
    if not own.startswith(_PREFIX):
        config._attn_implementation = _PREFIX + (own if own in ("eager", "sdpa") else "sdpa")


def uses_packed_attention(config: Any) -> bool:
    return (config._attn_implementation or "").startswith(_PREFIX)


def _attend(
    own: str,
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The attention function: (batch, heads, tokens, head_dim) in, (batch, tokens, heads, head_dim)
    out."""
    if not isinstance(key, PackedRows):
        function = _eager_of(module) if own == "eager" else ALL_ATTENTION_FUNCTIONS[own]
        return function(module, query, key, value, attention_mask, **options)
    layer = key.layer
    _refuse(options)
    window = None
    if attention_mask is not None:
        # Without a mask all tokens so far are seen, however the layer is called.
        window = layer.sliding_window
        _check_mask(attention_mask, layer, query.shape[2], window)
    batch, heads, tokens, dim = query.shape
    output = torch.empty((batch, tokens, heads, dim), dtype=query.dtype)
    rows = query.transpose(1, 2)
    for index, sequence in enumerate(layer.sequences):
        sequence.attend(
            layer.index,
            rows[index],
            output[index],
            scale=options.get("scaling"),
            window=window,
            soft_cap=options.get("softcap"),
        )
    return output, None


def _eager_of(module: torch.nn.Module) -> Any:
    """The eager attention of the file that a model's attention is written in."""
    return sys.modules[type(module).__module__].eager_attention_forward


def _refuse(options: dict[str, Any]) -> None:
    if options.get("dropout"):
        raise UnsupportedError(
            f"attention dropout is {options['dropout']}; packed rows are for inference only"
        )
    if options.get("is_causal") is False:
        raise UnsupportedError("attention that is not causal cannot run on packed rows")
    for name in ("s_aux", "sinks", "position_bias", "head_mask"):
        if options.get(name) is not None:
            raise UnsupportedError(
                f"attention with {name} cannot run on packed rows; attention='decoded' can"
            )


# The last mask that was found to be causal, and for which lengths: layers share masks.
_accepted: tuple[weakref.ref[torch.Tensor], tuple[int, int | None]] | None = None


def _check_mask(mask: torch.Tensor, layer: NibbleLayer, tokens: int, window: int | None) -> None:
    """Refuses what is not plain causal attention: padding, packing, bidirectional parts."""
    global _accepted
    length = layer.get_seq_length()
    case = (length, window)
    if _accepted is not None and _accepted[0]() is mask and _accepted[1] == case:
        return
    if mask.dim() != 4 or mask.shape[-2:] != (tokens, length):
        layer.cache.undo()
        raise UnsupportedError(
            f"the attention mask has the shape {tuple(mask.shape)}; expected "
            f"(batch, 1, {tokens}, {length})"
        )
    position = torch.arange(length - tokens, length)[:, None]
    other = torch.arange(length)[None, :]
    expected = other <= position
    if window is not None:
        expected &= other > position - window
    for index, rows in enumerate(mask.flatten(0, 1)):
        seen = rows if rows.dtype == torch.bool else rows > torch.finfo(rows.dtype).min
        wrong = seen != expected
        # A mask that adds anything to what is seen is a bias.
        if rows.dtype != torch.bool:
            wrong |= seen & (rows != 0)
        if wrong.any():
            query, key = (int(part) for part in wrong.nonzero()[0])
            layer.cache.undo()
            raise UnsupportedError(
                f"the attention mask is not plain causal attention: in sequence "
                f"{index // mask.shape[1]}, query {int(position[query, 0])} "
                f"{'sees' if seen[query, key] else 'does not see'} key {key}. Prompts that are "
                "padded to one length are not supported: give each a cache of its own"
            )
    _accepted = (weakref.ref(mask), case)


for _own in ("eager", "sdpa"):
    AttentionInterface.register(_PREFIX + _own, partial(_attend, _own))
    AttentionMaskInterface.register(_PREFIX + _own, ALL_MASK_ATTENTION_FUNCTIONS[_own])
