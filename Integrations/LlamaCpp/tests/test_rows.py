"""Types of rows, against definitions that go value by value."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from _states import TYPES, row_bytes, transposed
from nibblekv import UnsupportedError

from nibblekv_llamacpp._layout import RowBlock
from nibblekv_llamacpp._rows import ROW_TYPES, row_type


def values_of(kind: str, content: bytes) -> list[float]:
    match kind:
        case "f32":
            return list(struct.unpack(f"<{len(content) // 4}f", content))
        case "f16":
            return list(struct.unpack(f"<{len(content) // 2}e", content))
        case "bf16":
            halves = [content[i : i + 2] for i in range(0, len(content), 2)]
            return [struct.unpack("<f", b"\0\0" + half)[0] for half in halves]
    blocks = [struct.unpack("<e32b", content[i : i + 34]) for i in range(0, len(content), 34)]
    return [float(np.float32(scale) * code) for scale, *codes in blocks for code in codes]


def encoded(kind: str, values: list[float]) -> bytes:
    rows = np.array([values], np.float32)
    return ROW_TYPES[TYPES[kind]].encode(rows).tobytes()


@pytest.mark.parametrize(
    ("kind", "is_transposed"),
    [(kind, False) for kind in TYPES] + [(kind, True) for kind in TYPES if kind != "q8_0"],
)
def test_rows_of_all_types_come_back_as_the_same_bytes(kind, is_transposed):
    cells, channels = 9, 64
    rows = row_bytes(kind, cells, channels, np.random.default_rng(3))
    expected = np.array(values_of(kind, rows), np.float32).reshape(cells, channels)
    block = RowBlock(ROW_TYPES[TYPES[kind]], channels, cells, 0, is_transposed)
    content = transposed(rows, cells, len(rows) // cells // channels) if is_transposed else rows
    assert block.size == len(content)
    raw = np.frombuffer(content, np.uint8)
    order = np.array([4, 0, 8, 2])
    assert np.array_equal(block.decode(raw, order), expected[order])
    assert block.decode(raw, order[:0]).shape == (0, channels)
    assert block.encode(expected) == content


@pytest.mark.parametrize("kind", ["f16", "bf16"])
def test_rounding_is_to_the_nearest_and_ties_to_even(kind):
    step = {"f16": 2.0**-10, "bf16": 2.0**-7}[kind]
    values = [1 + step / 2, 1 + 1.5 * step, 1 + 0.51 * step, 1 + 0.49 * step, -(1 + step / 2), -0.0]
    expected = [1, 1 + 2 * step, 1 + step, 1, -1, -0.0]
    assert encoded(kind, values) == encoded(kind, expected)
    assert values_of(kind, encoded(kind, values)) == expected


@pytest.mark.parametrize("kind", ["f16", "bf16"])
def test_what_is_too_large_becomes_the_largest_number(kind):
    largest = {"f16": 65504.0, "bf16": 3.3895313892515355e38}[kind]
    above = {"f16": 65530.0, "bf16": 3.4e38}[kind]
    assert values_of(kind, encoded(kind, [above, -above])) == [largest, -largest]


def test_blocks_round_to_the_nearest_code():
    values = np.random.default_rng(4).standard_normal((5, 96)).astype(np.float32)
    content = ROW_TYPES[8].encode(values).tobytes()
    scale = np.abs(values.reshape(-1, 32)).max(axis=1).repeat(32) / 127
    error = np.abs(np.array(values_of("q8_0", content)) - values.reshape(-1))
    # Half a step, and what rounding the scale to float16 moves 127 steps by.
    assert (error <= scale * (0.5 + 127 * 2.0**-11 + 1e-3)).all()
    assert error.max() > 0.3 * scale.max()


def test_a_block_of_zeros_has_a_scale_of_zero():
    assert encoded("q8_0", [0.0] * 32) == bytes(34)


def test_types_of_caches_that_are_not_covered_are_named():
    with pytest.raises(UnsupportedError, match=r"keys are of type q4_0; covered are f32, f16, q8"):
        row_type(2, "keys")
    assert row_type(99, "keys") is None
