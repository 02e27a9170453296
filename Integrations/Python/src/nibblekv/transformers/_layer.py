"""One layer of a cache, as transformers sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from transformers.cache_utils import CacheLayerMixin

from ..errors import InvalidArgumentError, UnsupportedError
from ..sequence import Sequence
from ._attention import uses_packed_attention
from ._packed import PackedRows

if TYPE_CHECKING:
    from ._cache import NibbleCache


class NibbleLayer(CacheLayerMixin):
    """The rows of one layer, of all sequences of the batch. ``NibbleCache`` makes them; what
    changes the tokens or the batch as a whole is the cache's."""

    is_compileable = False
    is_croppable = True
    supports_early_init = False

    def __init__(self, cache: NibbleCache, index: int, sliding_window: int | None = None) -> None:
        super().__init__()
        self.cache = cache
        self.index = index
        self.sliding_window = sliding_window
        self.is_sliding = sliding_window is not None
        self.length = 0

    @property
    def sequences(self) -> list[Sequence]:
        return self.cache.sequences

    @property
    def batch_size(self) -> int:
        return self.cache.batch_size

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.device, self.dtype = key_states.device, key_states.dtype
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Appends rows, (batch, kv_heads, tokens, head_dim).

        Returns:
            What stands for the layer's rows in attention on packed pages; with another attention
            implementation the rows themselves, decoded.
        """
        self._check(key_states, value_states)
        self.lazy_initialization(key_states, value_states)
        self.cache.append(self, key_states.transpose(1, 2), value_states.transpose(1, 2))
        self.length += key_states.shape[2]
        if self.cache.attention == "packed" and uses_packed_attention(self.cache.config):
            return PackedRows.of(key_states, self), PackedRows.of(value_states, self)
        return self.decoded()

    def decoded(self) -> tuple[torch.Tensor, torch.Tensor]:
        """All rows as full-precision tensors, (batch, kv_heads, tokens, head_dim) each."""
        model = self.cache.store
        shape = (len(self.sequences), self.length, model.kv_heads, model.head_dim)
        keys, values = torch.empty(shape), torch.empty(shape)
        for index, sequence in enumerate(self.sequences):
            sequence.rows(self.index, self.length, keys=keys[index], values=values[index])
        return keys.transpose(1, 2).to(self.dtype), values.transpose(1, 2).to(self.dtype)

    def _check(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        if torch.is_grad_enabled() and (keys.requires_grad or values.requires_grad):
            raise UnsupportedError(
                "keys and values require gradients, which packed rows do not have: use "
                "torch.no_grad() or torch.inference_mode()"
            )
        model = self.cache.store
        for name, rows in (("keys", keys), ("values", values)):
            shape = tuple(rows.shape)
            if len(shape) != 4 or (shape[1], shape[3]) != (model.kv_heads, model.head_dim):
                raise InvalidArgumentError(
                    f"{name} of layer {self.index} have the shape {shape}; expected "
                    f"(batch, {model.kv_heads}, tokens, {model.head_dim})"
                )
        if keys.shape != values.shape:
            raise InvalidArgumentError(
                f"keys have the shape {tuple(keys.shape)}, but values {tuple(values.shape)}"
            )

    def get_seq_length(self) -> int:
        return self.length

    def get_max_length(self) -> int:
        return -1

    get_max_cache_shape = get_max_length

    def get_mask_sizes(self, query_length: Any) -> tuple[int, int]:
        """Length and offset of the keys in masks: all tokens, in sliding layers too."""
        # Early versions of transformers pass the positions of the queries.
        tokens = query_length if isinstance(query_length, int) else int(query_length.shape[0])
        return self.length + tokens, 0

    def offload(self) -> None:
        """Nothing: rows are on the CPU."""

    def prefetch(self) -> None:
        """Nothing: rows are on the CPU."""

    def reset(self) -> None:
        raise UnsupportedError("a layer is not reset by itself; NibbleCache.reset resets all")

    def crop(self, tokens_to_remove: int) -> None:
        raise UnsupportedError("a layer is not cropped by itself; NibbleCache.crop crops all")

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        raise UnsupportedError("a layer is not reordered by itself; NibbleCache.reorder_cache is")

    def __repr__(self) -> str:
        window = "" if self.sliding_window is None else f", sliding_window={self.sliding_window}"
        return f"NibbleLayer({self.index}, length={self.length}{window})"
