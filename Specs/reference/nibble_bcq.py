"""The block-clustered code of codecs.md, in Python: where selectors lie, and the encoder's choice."""

import functools
import json
import pathlib

import numpy as np

TABLES = pathlib.Path(__file__).resolve().parent.parent / "tables" / "bcq.json"
BOOKS = 8
QUARTERS = 4  # of a unit, in which the encoder measures


@functools.cache
def codebooks(bits):
    """Entries, (BOOKS, 2^bits)."""
    return np.array(json.loads(TABLES.read_text())[f"bcq:{bits}"], np.int32)


def selector_count(blocks, is_values, block_tokens, channels):
    """Of a group of channels of a block."""
    width = (channels + 15) // 16 * 16 if is_values else channels
    return width // 8 * block_tokens if blocks == "channels" else width


def selector_number(blocks, is_values, block_tokens, t, d):
    """The place of an element's selector in the group's stream."""
    if blocks == "tokens":
        return d
    if is_values:
        return d // 16 * 2 * block_tokens + t // 4 * 8 + d // 8 % 2 * 4 + t % 4
    return d // 8 * block_tokens + t


def read_selectors(data, first_bit):
    """The three bits, lowest first, that begin at each bit of the bytes `data`."""
    bits = np.unpackbits(data, bitorder="little").astype(np.int32)
    return bits[first_bit] | bits[first_bit + 1] << 1 | bits[first_bit + 2] << 2


def write_selectors(data, first_bit, selectors):
    """Puts selectors there, into bytes that are zero; returns them."""
    bits = np.unpackbits(data, bitorder="little")
    for bit in range(3):
        bits[first_bit + bit] = selectors >> bit & 1
    return np.packbits(bits, bitorder="little")


def choose(bits, positions, block_of):
    """Codebooks of blocks and codes of values.

    positions: values in quarters of a unit. block_of: the block of each. Returns a codebook for
    every block and a code for every value.
    """
    books = codebooks(bits)
    values = np.arange(-127, 128)
    distance = (values[:, None, None] - QUARTERS * books) ** 2  # of equal ones, the first wins
    nearest, squares = distance.argmin(axis=-1), distance.min(axis=-1)
    sums = np.zeros((block_of.max() + 1, BOOKS), np.int64)
    np.add.at(sums, block_of, squares[positions + 127])
    chosen = sums.argmin(axis=-1)
    return chosen, nearest[positions + 127, chosen[block_of]]
