"""From a container back to a state that llama.cpp loads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import nibblekv
import numpy as np
from nibblekv import FileFailedError

from . import _container
from ._container import Container
from ._files import StrPath, copy, naming, opened, replacing, temporary_folder
from ._layout import Stream


@dataclass(frozen=True)
class Restored:
    """A state that was written."""

    path: Path
    bytes: int
    is_identical: bool
    """Whether it is the state that was compressed, byte for byte."""


def restore(container: StrPath, out: StrPath, *, threads: int | None = None) -> Restored:
    """Writes the state that a container holds: rows decoded and converted to the type that they
    had, all other bytes as they were.

    Args:
        container: A file that ``compress`` wrote.
        out: A file for ``llama_state_seq_load_file``, or the bytes for ``llama_state_seq_set_data``
            if it was those; what is there is replaced at the end, by one rename.
        threads: Threads that decode; ``None`` chooses.

    Raises:
        FileFailedError: The container is damaged, or a file cannot be written.
        UnsupportedError: It has another version.
    """
    source, target = Path(container), Path(out)
    with opened(source) as (file, size):
        content = _container.read(file, size, source)
        with temporary_folder(target) as folder, replacing(target) as written:
            _write_gaps(content, written)
            for index, stream in enumerate(content.state.streams):
                path = folder / str(index)
                _container.extract(content, index, file, path)
                with naming(f"session {index} of {source}"):
                    _write_rows(content, index, stream, path, threads, written)
                path.unlink()
            written.seek(0)
            digest = copy(written, content.state.size, None, str(target))
    return Restored(target, content.state.size, digest == content.description.state_sha256)


def _write_gaps(content: Container, written: BinaryIO) -> None:
    begin = 0
    for offset, size in content.state.gaps():
        written.seek(offset)
        written.write(content.frame[begin : begin + size])
        begin += size


def _write_rows(
    content: Container,
    index: int,
    stream: Stream,
    path: Path,
    threads: int | None,
    written: BinaryIO,
) -> None:
    """Writes the rows of one stream from its session file."""
    session = content.description.sessions[index]
    shape = (len(stream.keys), session.kv_heads, session.kv_heads, session.head_dim)
    order = stream.order()
    with (
        nibblekv.Cache(*shape, content.description.policy, threads=threads) as cache,
        cache.restore(path) as sequence,
    ):
        # Before anything is made for so many cells.
        if sequence.length != stream.cells:
            raise FileFailedError(
                f"it has {sequence.length} tokens; its stream has {stream.cells} cells"
            )
        for layer, blocks in enumerate(zip(stream.keys, stream.values, strict=True)):
            for rows, block in zip(sequence.rows(layer, stream.cells), blocks, strict=True):
                in_cells = np.empty((stream.cells, block.channels), np.float32)
                in_cells[order] = rows.reshape(stream.cells, -1)
                written.seek(block.offset)
                written.write(block.encode(in_cells))
