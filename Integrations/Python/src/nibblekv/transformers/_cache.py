"""The cache of a model of transformers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import torch
from transformers.cache_utils import Cache as TransformersCache

from ..cache import Cache
from ..errors import InvalidArgumentError, UnsupportedError
from ..sequence import Sequence
from ._attention import use_packed_attention
from ._layer import NibbleLayer

_SLIDING, _FULL = "sliding_attention", "full_attention"


class NibbleCache(TransformersCache):
    """A cache whose rows stay packed: ``model.generate(..., past_key_values=NibbleCache(config))``.

    Attention is computed on the packed pages, in decoding and in prefill: making the cache lets
    ``config`` name an attention function that does it. That function hands whatever is not of a
    ``NibbleCache`` to the model's own, so other caches work with the model as before.

    A batch is one sequence for each row, all of the same length. Prompts that are padded are
    refused when they are attended to, and so are masks that are not causal.

    Args:
        config: ``model.config`` itself, not a copy.
        policy: As for ``nibblekv.Cache``.
        attention: ``"packed"``, or ``"decoded"``: the model's own attention on rows that are
            decoded for each call, which costs time and, for one layer at a time, memory.
        **options: ``budget``, ``threads`` and the others of ``nibblekv.Cache``.

    Raises:
        UnsupportedError: A model that has more than full and sliding-window attention, or whose
            layers share their rows.
    """

    def __init__(
        self,
        config: Any,
        policy: Any = "balanced",
        *,
        attention: Literal["packed", "decoded"] = "packed",
        **options: Any,
    ) -> None:
        if attention not in ("packed", "decoded"):
            raise InvalidArgumentError(
                f"attention is {attention!r}; expected 'packed' or 'decoded'"
            )
        self.config = config.get_text_config(decoder=True)
        self.attention = attention
        windows = _windows(self.config)
        heads = self.config.num_attention_heads
        self.store = Cache(
            len(windows),
            heads,
            getattr(self.config, "num_key_value_heads", None) or heads,
            getattr(self.config, "head_dim", None) or self.config.hidden_size // heads,
            policy,
            **options,
        )
        self.sequences: list[Sequence] = []
        """One for each row of the batch; empty before the first token."""
        super().__init__(
            layers=[NibbleLayer(self, index, window) for index, window in enumerate(windows)]
        )
        if attention == "packed":
            use_packed_attention(self.config)

    @property
    def batch_size(self) -> int:
        """Sequences of the batch; -1 before the first token."""
        return len(self.sequences) or -1

    @property
    def total_bytes(self) -> int:
        """What the sequences hold: pages, tails and sinks. Pages that forks share count in each."""
        return sum(sequence.statistics.total_bytes for sequence in self.sequences)

    def adopt(self, sequences: Iterable[Sequence]) -> None:
        """Goes on from sequences of ``store`` in place of what the cache holds: those of
        ``store.restore(path)`` or ``store.continuing(ids)``, one for each row of the batch.

        ``generate`` then takes the whole prompt and computes what the cache does not have.
        """
        adopted = list(sequences)
        lengths = {sequence.length for sequence in adopted}
        if len(lengths) != 1:
            raise InvalidArgumentError(
                f"the sequences have {sorted(lengths)} tokens; expected one length"
            )
        if any(sequence.cache is not self.store for sequence in adopted):
            raise InvalidArgumentError("a sequence is of another cache; store makes those of this")
        self.reset()
        self.sequences = adopted
        self._set_length(lengths.pop())

    def append(self, layer: NibbleLayer, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Appends rows to one layer of all sequences; (batch, tokens, kv_heads, head_dim) each.

        A batch with a row that cannot be appended leaves all sequences as they were before the
        step.
        """
        if not self.sequences:
            self.sequences = [self.store.sequence() for _ in range(len(keys))]
        if len(keys) != len(self.sequences):
            raise InvalidArgumentError(
                f"the batch has {len(keys)} rows, but the cache {len(self.sequences)}"
            )
        try:
            for sequence, key_rows, value_rows in zip(self.sequences, keys, values, strict=True):
                sequence.append(layer.index, key_rows, value_rows)
        except BaseException:
            self.undo()
            raise

    def undo(self) -> None:
        """Takes back a step that did not reach all layers."""
        complete = min(layer.length for layer in self.layers)
        if complete == 0:
            self.reset()
            return
        for sequence in self.sequences:
            sequence.truncate(complete)
        self._set_length(complete)

    def crop(self, tokens_to_remove: int) -> None:
        """Removes the newest tokens: as many as a negative number says. Of a positive one, which
        early versions of transformers pass, as many are left."""
        length = self.get_seq_length()
        left = tokens_to_remove if tokens_to_remove > 0 else length + tokens_to_remove
        if left < 0:
            raise InvalidArgumentError(
                f"{-tokens_to_remove} tokens cannot be removed; the cache has {length}"
            )
        if left < length:
            for sequence in self.sequences:
                sequence.truncate(left)
            self._set_length(left)

    def reset(self) -> None:
        """Forgets all tokens; the batch may have another size then."""
        self.sequences = []
        self._set_length(0)

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Puts sequence ``beam_idx[i]`` in place ``i``; those that are taken twice share pages."""
        self._select(beam_idx.tolist())

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keeps the sequences of these indices, in this order, or those where a mask is true."""
        if indices.dtype == torch.bool:
            indices = indices.nonzero().flatten()
        self._select(indices.tolist())

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Puts as many forks of each sequence in its place."""
        self._select([index for index in range(len(self.sequences)) for _ in range(repeats)])

    def close(self) -> None:
        """Frees the sequences and the cache."""
        for sequence in self.sequences:
            sequence.close()
        self.reset()
        self.store.close()

    def __enter__(self) -> NibbleCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _select(self, indices: list[int]) -> None:
        if not self.sequences:
            return
        count = len(self.sequences)
        for index in indices:
            if not -count <= index < count:
                raise InvalidArgumentError(f"sequence {index} does not exist; there are {count}")
        taken: set[int] = set()  # the first use of each needs no fork
        chosen = []
        for index in (index % count for index in indices):
            sequence = self.sequences[index]
            chosen.append(sequence.fork() if index in taken else sequence)
            taken.add(index)
        self.sequences = chosen

    def _set_length(self, length: int) -> None:
        for layer in self.layers:
            layer.length = length


def _windows(config: Any) -> list[int | None]:
    """The sliding window of each layer, or None where all tokens are seen."""
    if getattr(config, "is_encoder_decoder", False):
        raise UnsupportedError(
            "encoder-decoder models are not supported; their caches have two parts"
        )
    if getattr(config, "num_kv_shared_layers", 0):
        raise UnsupportedError(
            f"{config.num_kv_shared_layers} layers share the rows of others, which is not supported"
        )
    window = getattr(config, "sliding_window", None)
    layers = config.num_hidden_layers
    types = getattr(config, "layer_types", None) or [_FULL if window is None else _SLIDING] * layers
    for index, kind in enumerate(types):
        if kind not in (_FULL, _SLIDING):
            raise UnsupportedError(
                f"layer {index} is of the type {kind}; {_FULL} and {_SLIDING} are supported"
            )
    return [window if kind == _SLIDING else None for kind in types]
