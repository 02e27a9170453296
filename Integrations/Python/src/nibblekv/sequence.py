"""A sequence: the tokens of one text, layer by layer."""

from __future__ import annotations

import ctypes
import operator
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _library
from ._arrays import Array, Output, Rows, is_tensor, token_ids
from ._handle import Owner
from ._library import library
from ._statistics import SequenceStatistics, value_of
from .errors import InvalidArgumentError

if TYPE_CHECKING:
    from .cache import Cache


class Sequence(Owner):
    """Keys and values of one text. ``Cache.sequence``, ``Cache.continuing``, ``Cache.restore`` and
    ``fork`` make one.

    Rows are NumPy arrays or PyTorch tensors on the CPU, of shape (tokens, heads, head_dim) or
    (tokens, heads · head_dim), with rotary positions applied. Dense float32 rows are taken without
    a copy, others are converted.

    A sequence is for one thread at a time; only ``save`` may go on while other calls use it.
    """

    def __init__(self, cache: Cache, handle: int) -> None:
        super().__init__(handle, library().sequence_free)
        self.cache = cache

    def append(self, layer: int, keys: Array, values: Array) -> None:
        """Appends the rows of new tokens to one layer; (tokens, kv_heads, head_dim) each.

        Raises:
            InvalidArgumentError: Shapes, a layer, or values that are not finite or too large.
            OverBudgetError: The budget has no room.
        """
        heads, dim = self.cache.kv_heads, self.cache.head_dim
        key_rows, value_rows = Rows(keys, heads, dim, "keys"), Rows(values, heads, dim, "values")
        if key_rows.tokens != value_rows.tokens:
            raise InvalidArgumentError(
                f"keys have {key_rows.tokens} tokens, but values {value_rows.tokens}"
            )
        layer, handle = self._layer(layer), self._handle
        if key_rows.tokens == 0:
            return
        library().call(
            "sequence_append",
            *(handle, layer, key_rows.tokens, key_rows.address, value_rows.address),
        )

    def prompt_steps(self, tokens: int) -> list[slice]:
        """The steps in which to append the rows of a whole prompt so that they are compressed.

        An append seals the pages that were due before it. So a page at a time, which also bounds
        rows that have to be converted, and the last token by itself.
        """
        if tokens == 0:
            return []
        page, last = self.cache.statistics.page_tokens, tokens - 1
        starts = [*range(0, last, page), last]
        return [slice(*bounds) for bounds in zip(starts, [*starts[1:], tokens], strict=True)]

    def attend(
        self,
        layer: int,
        queries: Array,
        out: Array | None = None,
        *,
        scale: float | None = None,
        window: int | None = None,
        soft_cap: float | None = None,
    ) -> Array:
        """Causal attention of the newest tokens of one layer over all tokens of the layer.

        Args:
            layer: 0 to ``cache.layers`` - 1.
            queries: (tokens, query_heads, head_dim); the last row belongs to the newest token.
            out: Where the output is written, of the same shape. ``None`` makes an array or a
                tensor like ``queries``.
            scale: Factor of the scores; ``None`` is 1 / sqrt(head_dim).
            window: A query sees this many newest keys, its own among them; ``None`` is all.
            soft_cap: Scores s become soft_cap · tanh(s / soft_cap); ``None`` leaves them.

        Returns:
            ``out``, or what was made for it.
        """
        heads, dim = self.cache.query_heads, self.cache.head_dim
        rows = Rows(queries, heads, dim, "queries")
        output = Output(rows, out, queries, heads, dim)
        layer, handle = self._layer(layer), self._handle
        for name, option in (("scale", scale), ("window", window), ("soft_cap", soft_cap)):
            if option is not None and not option > 0:
                raise InvalidArgumentError(f"{name} is {option}; expected more than 0, or None")
        if rows.tokens == 0:
            return output.finish()
        library().call(
            "sequence_attend",
            *(handle, layer, rows.tokens, rows.address),
            *(scale or 0, window or 0, soft_cap or 0, output.address),
        )
        return output.finish()

    def rows(
        self, layer: int, tokens: int, *, keys: Array | None = None, values: Array | None = None
    ) -> tuple[Array, Array]:
        """The keys and values of the first tokens of a layer, decoded as attention sees them.

        It costs the memory that packed pages save. ``keys`` and ``values`` are where they are
        written, (tokens, kv_heads, head_dim) of float32; without them NumPy arrays are made.

        Complexity: O(tokens of the layer · kv_heads · head_dim).
        """
        heads, dim = self.cache.kv_heads, self.cache.head_dim
        pair: list[Any] = []
        for name, given in (("keys", keys), ("values", values)):
            target = np.empty((tokens, heads, dim), np.float32) if given is None else given
            rows = Rows(target, heads, dim, name)
            if rows.is_copy or rows.tokens != tokens:
                raise InvalidArgumentError(
                    f"{name} must be dense float32 of shape ({tokens}, {heads}, {dim})"
                )
            pair.append(target)
        layer = self._layer(layer)
        if tokens > 0:
            addresses = [a.data_ptr() if is_tensor(a) else a.ctypes.data for a in pair]
            library().call("sequence_get_rows", self._handle, layer, tokens, *addresses)
        return pair[0], pair[1]

    def fork(self) -> Sequence:
        """A second sequence with the same tokens, which shares the sealed pages."""
        return Sequence(self.cache, library().handle("sequence_fork", self._handle))

    def truncate(self, tokens: int) -> None:
        """Drops all tokens after the first ``tokens``, in all layers."""
        if tokens < 0:
            raise InvalidArgumentError(f"tokens is {tokens}; expected 0 or more")
        library().call("sequence_truncate", self._handle, tokens)

    @property
    def length(self) -> int:
        """Tokens that every layer has."""
        return self.statistics.tokens

    @property
    def statistics(self) -> SequenceStatistics:
        """What the sequence holds now."""
        structure = _library.SequenceStatistics()
        library().call(
            "sequence_get_statistics",
            self._handle,
            ctypes.byref(structure),
            ctypes.sizeof(structure),
        )
        return value_of(structure, SequenceStatistics)

    # Token ids and prefixes

    def record_tokens(self, ids: Any) -> None:
        """Says which tokens the newest rows belong to. Prompts are found by ids, and ids are saved
        with a sequence; attention does not need them."""
        dense = token_ids(ids)
        if dense.size:
            library().call("sequence_record_tokens", self._handle, dense.size, dense.ctypes.data)

    @property
    def tokens(self) -> np.ndarray[Any, np.dtype[np.int32]]:
        """The ids that are known, from the first token on."""
        known = ctypes.c_uint64()
        library().call("sequence_get_tokens", self._handle, 0, None, ctypes.byref(known))
        ids = np.empty(known.value, np.int32)
        if ids.size:
            library().call(
                "sequence_get_tokens",
                *(self._handle, ids.size, ids.ctypes.data, ctypes.byref(known)),
            )
        return ids

    def remember(self) -> None:
        """Remembers the sequence as it is now for later prompts that begin like it; see
        ``Cache.continuing``. One some of whose ids are not known is passed over."""
        library().call("sequence_remember", self._handle)

    # Files

    def save(self, path: str | os.PathLike[str], *, compress: bool = False) -> None:
        """Saves the sequence to a session file. Whatever ends the process, the file then holds the
        session that was there before or this one.

        ``compress`` tries LZ4 on new pages; codes have little to compress.

        Raises:
            FileFailedError: The file cannot be written.
        """
        library().call("sequence_save", self._handle, os.fsencode(path), int(compress))

    def move_to_disk(self) -> None:
        """Moves all pages to the cache's disk tier, which ``disk`` must have named. They come back,
        or are read in place, when they are needed."""
        library().call("sequence_move_to_disk", self._handle)

    def __repr__(self) -> str:
        return "Sequence(closed)" if self.is_closed else f"Sequence(length={self.length})"

    def _layer(self, layer: int) -> int:
        index = operator.index(layer)
        if not 0 <= index < self.cache.layers:
            raise InvalidArgumentError(f"layer is {layer}; expected 0 to {self.cache.layers - 1}")
        return index
