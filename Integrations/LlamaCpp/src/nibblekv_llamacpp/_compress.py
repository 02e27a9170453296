"""From a saved state to a container."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import nibblekv
import numpy as np
from nibblekv import InvalidArgumentError
from nibblekv.policies import policy_text

from . import _container
from ._container import Container, Description, Session
from ._files import StrPath, copy, naming, opened, read_at, temporary_folder
from ._layout import Stream, read_state
from ._shape import Heads, channels_of, heads_of_model


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
        shapes = [
            heads.of(channels_of(stream, str(source)), index, len(layout.parts))
            for index, part in enumerate(layout.parts)
            for stream in part.streams
        ]
        file.seek(0)
        sha256 = copy(file, size, None, str(source))
        frame = b"".join(read_at(file, *gap, str(source)) for gap in layout.gaps())
        with temporary_folder(target) as folder:
            paths = [folder / str(index) for index in range(len(shapes))]
            sessions = []
            for stream, shape, path in zip(layout.streams, shapes, paths, strict=True):
                cache = nibblekv.Cache(
                    len(stream.keys), shape[0], *shape, policy=text, threads=threads
                )
                with cache, naming(f"{source}, stream {stream.index}"):
                    sessions.append(_save(cache, file, stream, path))
            description = Description(text, size, sha256, tuple(sessions))
            _container.write(target, description, frame, paths)
    with opened(target) as (written, written_bytes):
        return _container.read(written, written_bytes, target)


def _save(cache: nibblekv.Cache, file: BinaryIO, stream: Stream, path: Path) -> Session:
    """Saves the rows of a stream as a session file."""
    with cache.sequence() as sequence:
        for layer in range(cache.layers):
            with naming(f"layer {layer}"):
                _append(sequence, layer, file, stream)
        sequence.save(path, compress=True)
    with opened(path) as (session, size):
        sha256 = copy(session, size, None, str(path))
    return Session(cache.kv_heads, cache.head_dim, size, sha256)


def _append(sequence: nibblekv.Sequence, layer: int, file: BinaryIO, stream: Stream) -> None:
    """Appends the rows of all cells to a layer."""
    keys, values = stream.keys[layer], stream.values[layer]
    key_bytes, value_bytes = (
        np.frombuffer(read_at(file, block.offset, block.size, "the state"), np.uint8)
        for block in (keys, values)
    )
    order = stream.order()
    for step in sequence.prompt_steps(stream.cells):
        cells = order[step]
        sequence.append(layer, keys.decode(key_bytes, cells), values.decode(value_bytes, cells))
