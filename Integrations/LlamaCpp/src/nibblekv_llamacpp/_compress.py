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
from ._files import copy, naming, opened
from ._layout import RowBlock, State, Stream, read_state
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
        file.seek(0)
        sha256 = copy(file, size, None, str(source))
        frame = b"".join(_gaps(file, layout))
        with session_folder(target) as folder:
            sessions, paths = [], []
            for index, stream in enumerate(layout.streams):
                paths.append(folder / str(index))
                shape = heads.of(channels_of(stream, str(source)))
                _save_session(file, stream, shape, text, threads, paths[-1])
                with opened(paths[-1]) as (session, session_bytes):
                    digest = copy(session, session_bytes, None, str(paths[-1]))
                sessions.append(Session(*shape, session_bytes, digest))
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


def _gaps(file: BinaryIO, layout: State) -> Iterator[bytes]:
    for offset, size in layout.gaps():
        file.seek(offset)
        yield file.read(size)


def _save_session(
    file: BinaryIO,
    stream: Stream,
    shape: tuple[int, int],
    policy: str,
    threads: int | None,
    path: Path,
) -> None:
    kv_heads, head_dim = shape
    with (
        nibblekv.Cache(
            len(stream.keys), kv_heads, kv_heads, head_dim, policy, threads=threads
        ) as cache,
        cache.sequence() as sequence,
    ):
        # An append seals the pages that were due before it: so a page at a time, which also bounds
        # the float32 rows in memory, and the last row by itself.
        ends = [
            *range(cache.statistics.page_tokens, stream.cells - 1, cache.statistics.page_tokens)
        ]
        pieces = np.split(order_of(stream), [*ends, stream.cells - 1])
        for layer, blocks in enumerate(zip(stream.keys, stream.values, strict=True)):
            keys, values = (np.frombuffer(_bytes(file, block), np.uint8) for block in blocks)
            for piece in pieces:
                with naming(f"layer {layer} of stream {stream.index}"):
                    sequence.append(
                        layer, blocks[0].decode(keys, piece), blocks[1].decode(values, piece)
                    )
        sequence.save(path, compress=True)


def _bytes(file: BinaryIO, block: RowBlock) -> bytes:
    file.seek(block.offset)
    return file.read(block.size)
