"""The trellis code of codecs.md, in Python: entries of packed codes, and the encoder's search."""

import functools
import json
import pathlib

import numpy as np

F = np.float32
TABLES = pathlib.Path(__file__).resolve().parent.parent / "tables" / "trellis.json"
UNIT = 256  # samples, in a table unit


@functools.cache
def trellis_table(bits):
    """Signed entries, and the value of one unit."""
    table = json.loads(TABLES.read_text())[f"trellis:{bits}"]
    unit = np.array([int(table["unit"], 16)], np.uint32).view(F)[0]
    return np.array(table["entries"], np.int32), unit


def index(bits, tile, codes):
    """The table index of a window: codes by age, the current one first."""
    width = 2 if bits == 3 else bits
    places = 8 // width
    place = tile % places if bits == 4 else places - 1
    result = 0
    for age, code in enumerate(codes[: 3 if bits == 3 else places]):
        result = result | (code & ((1 << width) - 1)) << (place - age) % places * width
    if bits == 3:
        result = result | ((codes[1] >> 2) | (codes[0] >> 2) << 1) << (place + 1) % places * width
    return result


def entries_of(bits, chains):
    """Codes (..., tiles, 64) of circular chains along the tiles, to table entries."""
    table, _ = trellis_table(bits)
    tiles = chains.shape[-2]
    ages = [np.roll(chains, age, axis=-2) for age in range(8)]
    result = np.empty_like(chains)
    for tile in range(tiles):
        result[..., tile, :] = table[index(bits, tile, [a[..., tile, :] for a in ages])]
    return result


# ---- The search


class Search:
    """Viterbi over windows of eight bits for many chains at once: samples (tiles, chains).

    Tile `t` has the entries times roots[t].
    """

    def __init__(self, bits, samples, roots):
        self.bits, self.samples = bits, samples
        self.tiles, self.chains = samples.shape
        self.states = 256 >> bits
        windows = np.arange(256)
        by_age = [windows >> age * bits & ((1 << bits) - 1) for age in range(8 // bits)]
        if bits == 3:
            by_age = [windows & 7, windows >> 3 & 7, windows >> 6]
        table, _ = trellis_table(bits)
        entries = [(table[index(bits, phase, by_age)] * UNIT).astype(F) for phase in range(2)]
        self.entries = [
            np.rint(entries[tile % 2 if bits == 4 else 0] * root).astype(np.int64)  # ties to even
            for tile, root in enumerate(roots)
        ]
        # Windows that end in a state: (dropped bits, state).
        self.windows = np.arange(1 << bits)[:, None] << 8 - bits | np.arange(self.states)
        self.dropped = np.zeros((self.tiles, self.states, self.chains), np.int32)

    def step(self, tile, cost):
        x = self.samples[tile]
        m = self.entries[tile][self.windows][..., None]
        d = np.clip(x - m, -32768, 32767)
        total = np.minimum(cost[self.windows >> self.bits] + (d * d + 0x4000 >> 15), 0xFFFF)
        self.dropped[tile] = np.argmin(total, axis=0)
        # Where every path has reached the limit, none is chosen before another.
        least = total.min(axis=0)
        self.dropped[tile][least == 0xFFFF] = 0
        return least - least.min(axis=0)

    def walk_back(self, tiles, state, codes=None):
        for tile in tiles:
            if codes is not None:
                codes[tile] = state & ((1 << self.bits) - 1)
            top = self.dropped[tile][state, np.arange(self.chains)]
            state = (top << 8 - self.bits | state) >> self.bits
        return state

    def run(self):
        """Codes (tiles, chains)."""
        reach = min(64 // self.bits, self.tiles)
        cost = np.zeros((self.states, self.chains), np.int64)
        for tile in [*range(self.tiles - reach, self.tiles), *range(reach)]:
            cost = self.step(tile, cost)
        seam = self.walk_back(range(reach - 1, -1, -1), np.argmin(cost, axis=0))
        cost = np.where(np.arange(self.states)[:, None] == seam, 0, 0xFFFF)
        for tile in range(self.tiles):
            cost = self.step(tile, cost)
        codes = np.zeros((self.tiles, self.chains), np.int32)
        self.walk_back(range(self.tiles - 1, -1, -1), seam, codes)
        return codes


def search(bits, samples, roots):
    """Samples (blocks, tiles, 64) in units of 1/256 of a table unit, to codes of the same shape.

    Samples of tile `t` are already multiplied by roots[t].
    """
    blocks, tiles, lanes = samples.shape
    flat = samples.swapaxes(0, 1).reshape(tiles, blocks * lanes).astype(np.int64)
    return Search(bits, flat, roots).run().reshape(tiles, blocks, lanes).swapaxes(0, 1)
