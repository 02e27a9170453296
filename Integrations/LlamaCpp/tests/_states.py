"""Saved sequences, written field by field as Specs/llama-state.md has them."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numpy as np

TYPES = {"f32": 0, "f16": 1, "q8_0": 8, "bf16": 30}


def row_bytes(kind: str, rows: int, channels: int, generator: np.random.Generator) -> bytes:
    """Random rows as llama.cpp has them, row after row."""
    values = generator.standard_normal((rows, channels)).astype(np.float32)
    match kind:
        case "f32":
            return values.astype("<f4").tobytes()
        case "f16":
            return values.astype("<f2").tobytes()
        case "bf16":
            return (values.view(np.uint32) >> 16).astype("<u2").tobytes()
        case "q8_0":
            blocks = []
            for _ in range(rows * channels // 32):
                codes = generator.integers(-127, 128, 32)
                codes[generator.integers(32)] = 127  # a block's largest, as quantizing leaves it
                scale = abs(float(generator.standard_normal())) + 0.01
                blocks.append(struct.pack("<e32b", scale, *codes))
            return b"".join(blocks)
    raise AssertionError(kind)


def transposed(rows: bytes, cells: int, element: int) -> bytes:
    """Channel after channel instead of cell after cell."""
    channels = len(rows) // cells // element
    pieces = [rows[i : i + element] for i in range(0, len(rows), element)]
    return b"".join(pieces[c * channels + j] for j in range(channels) for c in range(cells))


@dataclass
class Cells:
    """One stream."""

    positions: list[int]
    layers: int = 2
    channels: int = 32
    keys: str = "f16"
    values: str = "f16"
    is_transposed: bool = False
    seed: int = 1
    sequence: int = 0
    extension: bytes = b""
    value_channels: int | None = None
    with_values: bool = True

    def encoded(self) -> bytes:
        cells = len(self.positions)
        result = struct.pack("<I", cells)
        if cells == 0:
            return result
        for position in self.positions:
            result += struct.pack("<iI", position, 1) + self.extension
            result += struct.pack("<i", self.sequence)
        result += struct.pack("<II", int(self.is_transposed), self.layers)
        generator = np.random.default_rng(self.seed)
        for _ in range(self.layers):
            rows = row_bytes(self.keys, cells, self.channels, generator)
            result += struct.pack("<iQ", TYPES[self.keys], len(rows) // cells) + rows
        channels = self.value_channels or self.channels
        for _ in range(self.layers if self.with_values else 0):
            rows = row_bytes(self.values, cells, channels, generator)
            if self.is_transposed:
                element = len(rows) // cells // channels
                result += struct.pack("<iII", TYPES[self.values], element, channels)
                result += transposed(rows, cells, element)
            else:
                result += struct.pack("<iQ", TYPES[self.values], len(rows) // cells) + rows
        return result


@dataclass
class Saved:
    """A file of ``llama_state_seq_save_file``: parts, each a list of streams."""

    parts: list[list[Cells]]
    tokens: list[int] = field(default_factory=list)
    tail: bytes = b""

    def body(self) -> bytes:
        result = b""
        for streams in self.parts:
            result += struct.pack("<I", len(streams))
            result += b"".join(stream.encoded() for stream in streams)
        return result + self.tail

    def file(self) -> bytes:
        head = struct.pack("<III", 0x67677371, 3, len(self.tokens))
        return head + struct.pack(f"<{len(self.tokens)}i", *self.tokens) + self.body()

    def blob(self, sequence: int = 0) -> bytes:
        """The bytes of ``llama_state_seq_get_data``."""
        return struct.pack("<Ii", 0xAF143CD8, sequence) + self.body()


def saved(cells: int = 100, **options: object) -> Saved:
    """One cache, one stream, positions in order."""
    stream = Cells(list(range(cells)), **options)  # type: ignore[arg-type]
    return Saved([[stream]], tokens=list(range(7, 7 + cells)))
