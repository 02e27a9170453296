"""The types that llama.cpp keeps keys and values in, to float32 and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from nibblekv import UnsupportedError

Floats = np.ndarray[Any, np.dtype[np.float32]]
Raw = np.ndarray[Any, np.dtype[np.uint8]]

_LARGEST_FLOAT16 = np.float32(65504)
_Q8_0 = np.dtype([("scale", "<f2"), ("codes", "i1", 32)])


@dataclass(frozen=True)
class RowType:
    """A type of ggml: its number, and the bytes of a block of values."""

    name: str
    number: int
    block_values: int
    block_bytes: int
    decode: Callable[[Raw], Floats]
    """Bytes (n, row bytes) to values (n, channels)."""
    encode: Callable[[Floats], Raw]
    """The reverse, rounded to the nearest; what the type has no number for becomes its largest."""

    def row_bytes(self, channels: int) -> int:
        return channels // self.block_values * self.block_bytes


def row_type(number: int, what: str) -> RowType | None:
    """The type with a number; ``None`` if ggml has no such type for a cache.

    Raises:
        UnsupportedError: A type that llama.cpp's cache may have and this package cannot read.
    """
    if number in _OTHER_CACHE_TYPES:
        covered = ", ".join(each.name for each in ROW_TYPES.values())
        raise UnsupportedError(
            f"{what} are of type {_OTHER_CACHE_TYPES[number]}; covered are {covered}"
        )
    return ROW_TYPES.get(number)


def _float32_values(raw: Raw) -> Floats:
    return raw.view("<f4").astype(np.float32, copy=False)


def _float32_bytes(values: Floats) -> Raw:
    return _bytes(values.astype("<f4", copy=False))


def _float16_values(raw: Raw) -> Floats:
    return raw.view("<f2").astype(np.float32)


def _float16_bytes(values: Floats) -> Raw:
    return _bytes(np.clip(values, -_LARGEST_FLOAT16, _LARGEST_FLOAT16).astype("<f2"))


def _bfloat16_values(raw: Raw) -> Floats:
    return (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)


def _bfloat16_bytes(values: Floats) -> Raw:
    # To the nearest, ties to even: the upper half, after half a step less where it is even.
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    # Above the largest finite number, rounding up gives infinity; one step less is that number.
    rounded -= (rounded & 0x7FFF) == 0x7F80
    return _bytes(rounded.astype("<u2"))


def _q8_0_values(raw: Raw) -> Floats:
    blocks = raw.view(_Q8_0)
    values = blocks["codes"] * blocks["scale"].astype(np.float32)[..., np.newaxis]
    return values.reshape(len(raw), 32 * blocks.shape[1])


def _q8_0_bytes(values: Floats) -> Raw:
    """As llama.cpp quantizes: the largest magnitude of 32 values becomes 127."""
    grouped = values.reshape(len(values), -1, 32)
    scales = np.minimum(np.abs(grouped).max(axis=-1) / np.float32(127), _LARGEST_FLOAT16)
    inverse = np.divide(1, scales, out=np.zeros_like(scales), where=scales > 0)
    blocks = np.empty(grouped.shape[:2], _Q8_0)
    blocks["scale"] = scales
    blocks["codes"] = np.clip(np.rint(grouped * inverse[..., np.newaxis]), -127, 127)
    return _bytes(blocks)


def _bytes(rows: np.ndarray[Any, Any]) -> Raw:
    return np.ascontiguousarray(rows).view(np.uint8).reshape(len(rows), -1)


ROW_TYPES = {
    each.number: each
    for each in (
        RowType("f32", 0, 1, 4, _float32_values, _float32_bytes),
        RowType("f16", 1, 1, 2, _float16_values, _float16_bytes),
        RowType("q8_0", 8, 32, 34, _q8_0_values, _q8_0_bytes),
        RowType("bf16", 30, 1, 2, _bfloat16_values, _bfloat16_bytes),
    )
}
_OTHER_CACHE_TYPES = {2: "q4_0", 3: "q4_1", 6: "q5_0", 7: "q5_1", 20: "iq4_nl"}
