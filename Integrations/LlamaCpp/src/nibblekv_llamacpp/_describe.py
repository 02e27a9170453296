"""What a state or a compressed state holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from . import _container
from ._container import Container
from ._files import StrPath, opened
from ._layout import State, Stream, read_state


@dataclass(frozen=True)
class StreamSummary:
    """The cells of one sequence in one KV cache. Types and channels are those of layer 0 where
    layers differ, which only a state that is not compressed may have."""

    part: int
    """0, or 1 for the second cache of a model with a sliding window in some layers."""
    stream: int
    streams: int
    """Of the part, empty ones too."""
    cells: int
    first_position: int
    last_position: int
    layers: int
    channels: int
    key_type: str
    value_type: str
    values_transposed: bool
    row_bytes: int
    """Of all keys and values in the state."""
    kv_heads: int | None
    """``None`` in a state that is not compressed, as what follows."""
    head_dim: int | None
    session_bytes: int | None


@dataclass(frozen=True)
class Summary:
    """One file."""

    file: str
    bytes: int
    is_compressed: bool
    is_blob: bool
    """As of ``llama_state_seq_get_data``; else as of ``llama_state_seq_save_file``."""
    tokens: int
    state_bytes: int
    """Of the state before compression; of a state, its bytes."""
    policy: str | None
    """``None`` in a state that is not compressed."""
    streams: tuple[StreamSummary, ...]


def describe(path: StrPath) -> Summary:
    """Reads a state or a compressed state, without its rows.

    Raises:
        FileFailedError: It is damaged, or neither.
        UnsupportedError: A version, a type or a part of a state that is not covered.
    """
    file_path = Path(path)
    with opened(file_path) as (file, size):
        if _container.is_container(file):
            return summary(_container.read(file, size, file_path))
        state = read_state(file, size, str(file_path))
    return Summary(str(file_path), size, False, state.is_blob, state.tokens, size, None, _of(state))


def summary(container: Container) -> Summary:
    """What a container holds."""
    return Summary(
        file=str(container.path),
        bytes=container.size,
        is_compressed=True,
        is_blob=container.state.is_blob,
        tokens=container.state.tokens,
        state_bytes=container.description.state_bytes,
        policy=container.description.policy,
        streams=_of(container.state, container),
    )


def _of(state: State, container: Container | None = None) -> tuple[StreamSummary, ...]:
    sessions = iter(container.description.sessions if container else ())
    return tuple(
        _stream(index, part.stream_count, stream, next(sessions, None))
        for index, part in enumerate(state.parts)
        for stream in part.streams
    )


def _stream(
    part: int, streams: int, stream: Stream, session: _container.Session | None
) -> StreamSummary:
    keys, values = stream.keys[0], stream.values[0]
    return StreamSummary(
        part=part,
        stream=stream.index,
        streams=streams,
        cells=stream.cells,
        first_position=int(stream.positions.min()),
        last_position=int(stream.positions.max()),
        layers=len(stream.keys),
        channels=keys.channels,
        key_type=keys.type.name,
        value_type=values.type.name,
        values_transposed=values.is_transposed,
        row_bytes=sum(block.size for block in (*stream.keys, *stream.values)),
        kv_heads=session.kv_heads if session else None,
        head_dim=session.head_dim if session else None,
        session_bytes=session.bytes if session else None,
    )
