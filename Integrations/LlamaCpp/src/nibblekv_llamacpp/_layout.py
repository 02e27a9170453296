"""Where the bytes of a saved sequence of llama.cpp are; Specs/llama-state.md describes them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from nibblekv import FileFailedError, UnsupportedError

from ._reader import Reader
from ._rows import Floats, Raw, RowType, row_type

FILE_MAGIC = 0x67677371
FILE_VERSION = 3
BLOB_MAGIC = 0xAF143CD8
_WHOLE_CONTEXT_MAGIC = 0x6767736E
# Position, number of sequences and the sequence; between them, for some models, a 2D position
# and a token.
_CELL_NUMBERS, _EXTENDED_CELL_NUMBERS = 3, 6
# llama.cpp has at most so many streams and layers; its models have at most two KV caches.
_MOST_STREAMS, _MOST_LAYERS, _MOST_PARTS = 256, 512, 2


@dataclass(frozen=True)
class RowBlock:
    """The keys or the values of one layer in one stream."""

    type: RowType
    channels: int
    cells: int
    offset: int
    """In bytes, from the start of the state."""
    is_transposed: bool
    """Channel after channel, each with all cells; else cell after cell."""

    @property
    def size(self) -> int:
        return self.type.row_bytes(self.channels) * self.cells

    def decode(self, content: Raw, cells: np.ndarray[Any, np.dtype[np.intp]]) -> Floats:
        """The rows of some cells from the bytes of all: (cells, channels)."""
        if not self.is_transposed:
            return self.type.decode(content.reshape(self.cells, -1)[cells])
        elements = content.reshape(self.channels, self.cells, self.type.block_bytes)
        picked = np.ascontiguousarray(elements[:, cells].swapaxes(0, 1))
        return self.type.decode(picked.reshape(len(cells), self.type.row_bytes(self.channels)))

    def encode(self, rows: Floats) -> bytes:
        """The bytes of all rows, (cells, channels)."""
        content = self.type.encode(rows)
        if self.is_transposed:
            elements = content.reshape(self.cells, self.channels, self.type.block_bytes)
            content = elements.swapaxes(0, 1)
        return content.tobytes()


@dataclass(frozen=True)
class Stream:
    """The cells of one stream, and their rows."""

    index: int
    """Which of the part's streams it is; empty ones have no cells and are not listed."""
    positions: np.ndarray[Any, np.dtype[np.int32]]
    keys: tuple[RowBlock, ...]
    values: tuple[RowBlock, ...]

    @property
    def cells(self) -> int:
        return len(self.positions)

    def order(self) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
        """Cells by their position, as a sequence has its tokens; they lie where there was room."""
        return np.argsort(self.positions, kind="stable")


@dataclass(frozen=True)
class Part:
    """One KV cache of the context. A model with a sliding window in some layers has two."""

    stream_count: int
    streams: tuple[Stream, ...]


@dataclass(frozen=True)
class State:
    """A saved sequence."""

    is_blob: bool
    """As of ``llama_state_seq_get_data``, not of ``llama_state_seq_save_file``."""
    tokens: int
    """Token ids that the file lists; a blob has none."""
    parts: tuple[Part, ...]
    size: int

    @property
    def streams(self) -> list[Stream]:
        """All that have cells, in the order of the state."""
        return [stream for part in self.parts for stream in part.streams]

    def blocks(self) -> Iterator[RowBlock]:
        """All rows, in the order of the state."""
        for stream in self.streams:
            yield from stream.keys
            yield from stream.values

    def gaps(self) -> Iterator[tuple[int, int]]:
        """Offsets and sizes of what is no row, in the order of the state."""
        begin = 0
        for block in self.blocks():
            yield begin, block.offset - begin
            begin = block.offset + block.size
        yield begin, self.size - begin


def read_state(file: BinaryIO, size: int, name: str) -> State:
    """The layout of a file or a blob.

    Raises:
        FileFailedError: It is damaged, cut short, too long, or no sequence state.
        UnsupportedError: Another version, or contents that are not covered.
    """
    return _read(file, size, name, has_rows=True)


def read_frame(frame: bytes, name: str) -> State:
    """The layout of the state that a frame, a state without its rows, was made from."""
    return _read(io.BytesIO(frame), len(frame), name, has_rows=False)


def _read(file: BinaryIO, size: int, name: str, has_rows: bool) -> State:
    begin = file.tell()
    try:
        return _parsed(Reader(file, size, name, has_rows), _CELL_NUMBERS)
    except FileFailedError:
        # Nothing in the file says that cells are longer; but then all else fits.
        file.seek(begin)
        if _has_extended_cells(Reader(file, size, name, has_rows)):
            raise UnsupportedError(
                f"{name} has cells with a 2D position and a token (M-RoPE, or a model that hashes "
                "tokens), which are not covered"
            ) from None
        raise


def _has_extended_cells(reader: Reader) -> bool:
    try:
        return bool(_parsed(reader, _EXTENDED_CELL_NUMBERS).streams)
    except UnsupportedError:
        return True
    except FileFailedError:
        return False


def _parsed(reader: Reader, cell_numbers: int) -> State:
    magic = reader.number("I", "the magic")
    tokens = 0
    if magic == FILE_MAGIC:
        version = reader.number("I", "the version")
        if version != FILE_VERSION:
            raise UnsupportedError(
                f"{reader.name} has version {version} of llama.cpp's sequence state files; known "
                f"is {FILE_VERSION}"
            )
        tokens = reader.number("I", "the number of tokens")
        reader.read(4 * tokens, f"{tokens} tokens")
    elif magic == BLOB_MAGIC:
        reader.number("i", "the sequence")
    elif magic == _WHOLE_CONTEXT_MAGIC:
        raise UnsupportedError(
            f"{reader.name} is the state of a whole context (llama_state_save_file); covered are "
            "those of one sequence"
        )
    else:
        raise FileFailedError(
            f"{reader.name} begins with {magic:08x}, not with the magic of a sequence state file "
            f"({FILE_MAGIC:08x}) or of sequence data ({BLOB_MAGIC:08x})"
        )
    parts = [_part(reader, cell_numbers)]
    while not reader.is_at_end:
        if len(parts) == _MOST_PARTS:
            raise reader.failure(f"more follows, after {_MOST_PARTS} KV caches")
        parts.append(_part(reader, cell_numbers))
    return State(magic == BLOB_MAGIC, tokens, tuple(parts), reader.position)


def _part(reader: Reader, cell_numbers: int) -> Part:
    begin = reader.mark()
    try:
        count = _count(reader, "streams", _MOST_STREAMS)
        streams = [_stream(reader, index, cell_numbers) for index in range(count)]
    except FileFailedError:
        reader.rewind(begin)
        if _is_recurrent(reader):
            raise UnsupportedError(
                f"{reader.name} has the state of recurrent layers; covered are KV caches alone"
            ) from None
        raise
    return Part(count, tuple(stream for stream in streams if stream.cells > 0))


def _is_recurrent(reader: Reader) -> bool:
    """Whether a recurrent state begins here. Its cells name no sequence."""
    try:
        cells = reader.number("I", "the number of cells")
        fields = reader.array("<i4", cells * 2, f"{cells} cells")
        transposed = reader.number("I", "whether states are transposed")
        _count(reader, "layers", _MOST_LAYERS)
    except FileFailedError:
        return False
    return cells > 0 and not fields[1::2].any() and transposed == 0


def _stream(reader: Reader, index: int, cell_numbers: int) -> Stream:
    cells = reader.number("I", f"the number of cells of stream {index}")
    if cells == 0:
        return Stream(index, np.empty(0, np.int32), (), ())
    fields = reader.array("<i4", cells * cell_numbers, f"{cells} cells").reshape(cells, -1)
    sequences = fields[:, 1]
    if (sequences != 1).any():
        cell = int((sequences != 1).argmax())
        raise reader.failure(f"cell {cell} is of {sequences[cell]} sequences; expected 1")
    transposed = reader.number("I", "whether values are transposed")
    if transposed > 1:
        raise reader.failure(f"whether values are transposed is {transposed}; expected 0 or 1")
    layers = range(_count(reader, "layers", _MOST_LAYERS))
    keys = [_rows(reader, cells, f"keys of layer {layer}") for layer in layers]
    if reader.is_at_end:
        raise UnsupportedError(
            f"{reader.name} ends after the keys: it was cut short, or the model keeps no values "
            "(multi-head latent attention), which is not covered"
        )
    read_values = _transposed_rows if transposed else _rows
    values = [read_values(reader, cells, f"values of layer {layer}") for layer in layers]
    return Stream(index, fields[:, 0].copy(), tuple(keys), tuple(values))


def _count(reader: Reader, what: str, limit: int) -> int:
    count = reader.number("I", f"the number of {what}")
    if not 1 <= count <= limit:
        raise reader.failure(f"there are {count} {what}; expected 1 to {limit}")
    return count


def _rows(reader: Reader, cells: int, what: str) -> RowBlock:
    kind = _type(reader, what)
    row_bytes = reader.number("Q", f"the row size of {what}")
    if row_bytes == 0 or row_bytes % kind.block_bytes:
        raise reader.failure(
            f"a row of {what} has {row_bytes} bytes; expected a multiple of {kind.block_bytes}"
        )
    offset = reader.pass_rows(row_bytes * cells, f"{what}, {cells} cells of {row_bytes} bytes,")
    channels = row_bytes // kind.block_bytes * kind.block_values
    return RowBlock(kind, channels, cells, offset, is_transposed=False)


def _transposed_rows(reader: Reader, cells: int, what: str) -> RowBlock:
    kind = _type(reader, what)
    if kind.block_values != 1:
        raise reader.failure(f"{what} are transposed and of type {kind.name}, which has blocks")
    element_bytes = reader.number("I", f"the element size of {what}")
    if element_bytes != kind.block_bytes:
        raise reader.failure(
            f"an element of {what} has {element_bytes} bytes; {kind.name} has {kind.block_bytes}"
        )
    channels = reader.number("I", f"the channels of {what}")
    if channels == 0:
        raise reader.failure(f"{what} have 0 channels; expected at least 1")
    size = element_bytes * channels * cells
    offset = reader.pass_rows(size, f"{what}, {channels} channels of {cells} cells,")
    return RowBlock(kind, channels, cells, offset, is_transposed=True)


def _type(reader: Reader, what: str) -> RowType:
    number = reader.number("i", f"the type of {what}")
    kind = row_type(number, f"{reader.name}, byte {reader.position - 4}: {what}")
    if kind is None:
        raise reader.failure(f"{what} are of type {number}, which no cache of llama.cpp has")
    return kind
