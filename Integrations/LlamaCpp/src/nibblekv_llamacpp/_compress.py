"""From a saved state to a container."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import nibblekv
import numpy as np
from nibblekv import FileFailedError, InvalidArgumentError

from . import _container
from ._container import Container, Description, Session
from ._files import copy, naming, opened, read_at
from ._layout import Stream, read_state
from ._policy import policy_text
from ._shape import Heads, channels_of, heads_of_model

StrPath = str | os.PathLike[str]


def compress(
    state: StrPath,
    out: StrPath,
    *,
    policy: StrPath = "balanced",
    kv_heads: int | None = None,
    model: StrPath | None = None,
    threads: int | None = None,
) -> Container:
    """Compresses a saved sequence of llama.cpp.

    Args:
        state: A file of ``llama_state_seq_save_file``, or the bytes of
            ``llama_state_seq_get_data``.
        out: The compressed state; what is there is replaced at the end, by one rename.
        policy: A preset, a short form, a policy file or its text, as ``nibblekv.Cache`` takes it.
        kv_heads: KV heads of the model.
        model: The model's GGUF file, which tells them. With neither, heads of 128 channels are
            assumed, or of the largest multiple of 8 below that divides a row.
        threads: Threads that encode; ``None`` chooses.

    Returns:
        What was written.

    Raises:
        FileFailedError: The state is damaged or no state, or a file cannot be written.
        UnsupportedError: A version, a type or a part of a state that is not covered.
        InvalidArgumentError: Heads that do not fit, or rows that are not finite.
        InvalidPolicyError: A policy with a mistake, or one that does not fit the shape.
    """
    if kv_heads is not None and model is not None:
        raise InvalidArgumentError("kv_heads and model are both given; expected one")
    heads = Heads(kv_heads) if model is None else heads_of_model(model)
    source, target, text = Path(state), Path(out), policy_text(policy)
    with opened(source) as (file, size):
        layout = read_state(file, size, str(source))
        shapes = [heads.of(channels_of(each, str(source))) for each in layout.streams]
        file.seek(0)
        sha256 = copy(file, size, None, str(source))
        frame = b"".join(read_at(file, *gap, str(source)) for gap in layout.gaps())
        with session_folder(target) as folder:
            sessions, paths = [], []
            for index, (stream, shape) in enumerate(zip(layout.streams, shapes, strict=True)):
                path = folder / str(index)
                with (
                    nibblekv.Cache(
                        len(stream.keys), shape[0], *shape, text, threads=threads
                    ) as cache,
                    cache.sequence() as sequence,
                ):
                    for layer in range(cache.layers):
                        with naming(f"{source}, stream {stream.index}, layer {layer}"):
                            _append(sequence, layer, file, stream)
                    sequence.save(path, compress=True)
                sessions.append(_session(path, shape))
                paths.append(path)
            description = Description(text, size, sha256, tuple(sessions))
            _container.write(target, description, frame, paths)
    with opened(target) as (written, written_bytes):
        return _container.read(written, written_bytes, target)


@contextmanager
def session_folder(target: Path) -> Iterator[Path]:
    """A folder for session files, on the disk that the result goes to."""
    try:
        folder = tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise FileFailedError(f"{target} cannot be written: {error.strerror}") from error
    with folder as name:
        yield Path(name)


def order_of(stream: Stream) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Cells by their position, as a sequence has its tokens; llama.cpp keeps them as they fit."""
    return np.argsort(stream.positions, kind="stable")


def _append(sequence: nibblekv.Sequence, layer: int, file: BinaryIO, stream: Stream) -> None:
    """Appends the rows of all cells to a layer.

    An append seals the pages that were due before it; so a page at a time, which bounds the rows
    in float32 too, and the last row by itself.
    """
    keys, values = stream.keys[layer], stream.values[layer]
    name = f"the file of stream {stream.index}"
    key_bytes = np.frombuffer(read_at(file, keys.offset, keys.size, name), np.uint8)
    value_bytes = np.frombuffer(read_at(file, values.offset, values.size, name), np.uint8)
    page = sequence.cache.statistics.page_tokens
    ends = [*range(page, stream.cells - 1, page), stream.cells - 1]
    for cells in np.split(order_of(stream), ends):
        sequence.append(layer, keys.decode(key_bytes, cells), values.decode(value_bytes, cells))


def _session(path: Path, shape: tuple[int, int]) -> Session:
    with opened(path) as (file, size):
        return Session(*shape, size, copy(file, size, None, str(path)))
