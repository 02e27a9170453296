"""One cache of a prompt cache file: which of its rows hold tokens, and how they are stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import mlx.core as mx
import numpy as np

from nibblekv import FileFailedError, UnsupportedError

from ._prompt_cache import PromptCacheFile

MOST_ROWS = 1 << 24
"""Most rows of a cache, those without tokens included."""

_DTYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32"}
_GROUP_SIZES = (32, 64, 128)
_BITS = (2, 3, 4, 5, 6, 8)

Rows: TypeAlias = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Layer:
    """How the cache of one layer lies in its file. Arrays have the shape (1, heads, rows, …)."""

    kind: str
    """Its class."""
    keys: list[str]
    """Names of the arrays: the rows, or codes, scales and biases of quantized ones."""
    values: list[str]
    dtype: str
    """Of the rows, or of the scales."""
    tokens: int
    """Rows that hold tokens."""
    rows: int
    """Those, and the room for more."""
    offset: int
    """Tokens that the cache has seen; more than ``tokens`` where it dropped some."""
    keep: int = 0
    """Rows at the start that a rotating cache never drops."""
    turn: int = 0
    """Where the oldest of the other rows lies, in a rotating cache that has begun anew; else 0."""
    group_size: int = 0
    """Channels that share a scale; 0 where rows are not quantized."""
    bits: int = 0

    def slots(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Where the tokens lie among the rows, from the oldest on."""
        if self.turn == 0:
            return np.arange(self.tokens)
        parts = (range(self.keep), range(self.turn, self.rows), range(self.keep, self.turn))
        return np.concatenate([np.arange(part.start, part.stop) for part in parts])

    def decoded(self, arrays: list[mx.array]) -> mx.array:
        """The rows of ``arrays`` that hold tokens, in order, as numbers: (1, heads, tokens, …)."""
        picked = [array[:, :, mx.array(self.slots())] for array in arrays]
        if self.bits == 0:
            return picked[0]
        codes, scales, biases = picked
        return mx.dequantize(codes, scales, biases, group_size=self.group_size, bits=self.bits)

    def encoded(self, rows: Rows) -> list[mx.array]:
        """The arrays of the file for rows of the shape (tokens, heads, head_dim)."""
        numbers = mx.array(rows).transpose(1, 0, 2)[None].astype(getattr(mx, self.dtype))
        if self.bits == 0:
            return [self._placed(numbers)]
        codes = mx.quantize(numbers, group_size=self.group_size, bits=self.bits)
        return [self._placed(array) for array in codes]

    def _placed(self, array: mx.array) -> mx.array:
        if self.turn == 0 and self.rows == self.tokens:
            return array
        buffer = mx.zeros((*array.shape[:2], self.rows, array.shape[3]), array.dtype)
        buffer[:, :, mx.array(self.slots())] = array
        return buffer


def check_placed(layer: Layer, where: str) -> None:
    """Refuses a layer whose tokens cannot lie in its rows, or be encoded.

    Raises:
        ValueError: Which names the values.
    """
    wrapped = layer.turn != 0
    if not 0 < layer.tokens <= layer.rows <= MOST_ROWS or (wrapped and layer.tokens < layer.rows):
        raise ValueError(
            f"{where}: {layer.tokens} tokens in {layer.rows} rows; expected at most {MOST_ROWS}"
        )
    if layer.keep < 0 or (wrapped and not layer.keep <= layer.turn < layer.rows):
        raise ValueError(
            f"{where}: begins anew at row {layer.turn} of {layer.rows}, keeping {layer.keep}"
        )
    if layer.dtype not in _DTYPES.values():
        raise ValueError(f"{where}: numbers of {layer.dtype}")
    names = [*layer.keys, *layer.values]
    each = 3 if layer.bits else 1
    if any(type(name) is not str for name in names) or len(layer.keys) != len(layer.values):
        raise ValueError(f"{where}: arrays {names}; expected {each} for keys and for values")
    if len(layer.keys) != each:
        raise ValueError(f"{where}: {len(layer.keys)} arrays of keys; expected {each}")
    if layer.bits and (layer.group_size not in _GROUP_SIZES or layer.bits not in _BITS):
        raise ValueError(
            f"{where}: groups of {layer.group_size}, {layer.bits} bits; "
            f"expected groups of {_GROUP_SIZES}, {_BITS} bits"
        )


def layers_of(file: PromptCacheFile) -> list[Layer]:
    """The layers of a file.

    Raises:
        UnsupportedError: A cache of a class that is not covered, an empty one, a batch.
        FileFailedError: State and arrays that do not fit each other.
    """
    if not file.classes:
        raise UnsupportedError(f"{file.path} holds no caches")
    return [_layer(file, index, kind) for index, kind in enumerate(file.classes)]


def _layer(file: PromptCacheFile, index: int, kind: str) -> Layer:
    where = f"{file.path}, cache {index} ({kind})"
    read = {
        "KVCache": _simple,
        "KVCacheSimple": _simple,
        "RotatingKVCache": _rotating,
        "QuantizedKVCache": _quantized,
    }.get(kind)
    if read is None:
        raise UnsupportedError(
            f"{where}: expected KVCache, RotatingKVCache or QuantizedKVCache; "
            "other caches have no rows that can be compressed"
        )
    arrays = [name for name in file.names(index) if len(file.shapes[name]) == 4]
    if not arrays:
        raise UnsupportedError(f"{where}: it is empty; expected at least 1 token")
    if len(arrays) + len(file.scalars(index)) != len(file.names(index)):
        raise FileFailedError(f"{where}: expected arrays of four dimensions")
    try:
        state = [int(text) for text in file.state(index) if text not in _WORDS]
        layer = read(kind, file, arrays, state)
    except UnsupportedError:
        raise  # It is a ValueError, too.
    except ValueError as error:
        raise FileFailedError(f"{where}: {error}") from error
    _check(layer, file, where)
    return layer


_WORDS = ("", "modelNative", "requested")
"""What a state may have beside numbers."""


def _simple(kind: str, file: PromptCacheFile, arrays: list[str], state: list[int]) -> Layer:
    keys, values = _pair(arrays, each=1)
    rows = file.shapes[keys[0]][2]
    (offset,) = state or [rows]
    return Layer(kind, keys, values, _dtype(file, arrays), offset, rows, offset)


def _rotating(kind: str, file: PromptCacheFile, arrays: list[str], state: list[int]) -> Layer:
    keys, values = _pair(arrays, each=1)
    rows = file.shapes[keys[0]][2]
    if file.has_scalars:
        offset, keep, limit, index = state
    elif len(state) == 4:
        keep, limit, offset, index = state
    else:
        keep, limit, _, offset, index = state
    if not 0 <= keep < limit or not 0 <= index <= rows or index > offset:
        raise ValueError(
            f"keeps {keep} of at most {limit} rows, has {rows}, seen {offset} tokens, "
            f"and writes to row {index}"
        )
    # A cache that still has room writes after its newest token.
    wrapped = index < min(offset, rows)
    if wrapped and rows > offset:
        raise ValueError(f"has {rows} rows of {offset} tokens, and writes to row {index}")
    tokens, turn = (rows, index) if wrapped else (index, 0)
    return Layer(
        kind, keys, values, _dtype(file, arrays), tokens, rows, offset, keep=keep, turn=turn
    )


def _quantized(kind: str, file: PromptCacheFile, arrays: list[str], state: list[int]) -> Layer:
    if len(arrays) == 4:
        raise UnsupportedError(f"{file.path}: quantized rows without biases; expected affine codes")
    keys, values = _pair(arrays, each=3)
    offset, group_size, bits = state[-3:]
    for codes, scales, biases in (keys, values):
        dim = file.shapes[scales][3] * group_size
        if (
            file.dtypes[codes] != "U32"
            or file.shapes[codes][3] * 32 != dim * bits
            or file.shapes[codes][:3] != file.shapes[scales][:3]
            or file.shapes[biases] != file.shapes[scales]
        ):
            raise ValueError(f"{codes}, {scales} and {biases} are no codes of {bits} bits")
    rows = file.shapes[keys[0]][2]
    dtype = _dtype(file, [*keys[1:], *values[1:]])
    return Layer(kind, keys, values, dtype, offset, rows, offset, group_size=group_size, bits=bits)


def _pair(arrays: list[str], each: int) -> tuple[list[str], list[str]]:
    """The arrays of keys, and those of values."""
    if len(arrays) != 2 * each:
        raise ValueError(f"has {len(arrays)} arrays; expected {2 * each}")
    return arrays[:each], arrays[each:]


def _dtype(file: PromptCacheFile, arrays: list[str]) -> str:
    kinds = {file.dtypes[name] for name in arrays}
    if len(kinds) != 1 or not kinds <= _DTYPES.keys():
        raise UnsupportedError(
            f"{file.path}, {arrays[0]}: numbers of {', '.join(sorted(kinds))}; "
            f"expected one of {', '.join(_DTYPES)}"
        )
    return _DTYPES[kinds.pop()]


def _check(layer: Layer, file: PromptCacheFile, where: str) -> None:
    shapes = [file.shapes[name] for name in (layer.keys[0], layer.values[0])]
    if shapes[0] != shapes[1]:
        raise UnsupportedError(f"{where}: keys of the shape {shapes[0]}, values of {shapes[1]}")
    if shapes[0][0] != 1:
        raise UnsupportedError(f"{where}: a batch of {shapes[0][0]}; expected 1")
    if layer.tokens == 0:
        raise UnsupportedError(f"{where}: it is empty; expected at least 1 token")
    try:
        check_placed(layer, where)
    except ValueError as error:
        raise FileFailedError(str(error)) from error
