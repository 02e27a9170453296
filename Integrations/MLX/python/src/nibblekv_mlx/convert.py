"""From prompt caches of MLX to sessions, and back."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import mlx.core as mx
import numpy as np

import nibblekv
from nibblekv import InvalidArgumentError, UnsupportedError
from nibblekv.policies import policy_text

from ._layers import Layer, Rows, layers_of
from ._prompt_cache import PromptCacheFile, opened, user_metadata, write
from ._sidecar import Shape, Sidecar, path_for

StrPath: TypeAlias = "str | os.PathLike[str]"


@dataclass(frozen=True)
class Summary:
    """What a prompt cache and its session hold. Bytes are integers."""

    layers: int
    kv_heads: int
    head_dim: int
    caches: dict[str, int]
    """Layers of each class."""
    dtype: str
    """Of the rows, or of the scales of quantized ones."""
    tokens: int
    """Most tokens that a layer holds."""
    offset: int
    """Tokens that the caches have seen; more than ``tokens`` where all of them dropped some."""
    compressed_tokens: int | None
    """Of the tokens that all layers hold, those in compressed pages; none for a prompt cache file,
    as the two that follow."""
    recorded_tokens: int | None
    """Token ids in the session."""
    policy: str | None
    prompt_cache_bytes: int | None
    """Of the prompt cache file."""
    session_bytes: int | None
    """Of the session and of what lies beside it."""
    metadata: dict[str, str]
    """What whoever saved the prompt cache wrote to it."""


def compress(
    prompt_cache: StrPath,
    session: StrPath,
    policy: StrPath = "balanced",
    *,
    tokens: Iterable[int] | None = None,
    query_heads: int | None = None,
    fingerprint: str | None = None,
    threads: int | None = None,
) -> Summary:
    """Writes a prompt cache as a session, and beside it what a session has no place for.

    Layer by layer: one layer of the prompt cache, and all compressed pages, are in memory.

    Args:
        prompt_cache: A file of ``save_prompt_cache`` of mlx-lm, or of mlx-swift-lm.
        session: The session file; ``NAME.mlx.json`` is written beside it. What is there is
            replaced.
        policy: As for ``nibblekv.Cache``.
        tokens: The ids of all tokens, which the session then has too.
        query_heads: The model's, where other hosts of NibbleKV shall go on with the session; as
            many as there are KV heads without it.
        fingerprint: What names the model's weights, for the same hosts.
        threads: As for ``nibblekv.Cache``.

    Raises:
        UnsupportedError: Caches of a class that is not covered, layers of different shapes, a
            batch, an empty cache.
        FileFailedError: A file cannot be read or written, or is damaged.
        InvalidPolicyError: A policy that cannot be read, has a mistake, or does not fit the shape.
        InvalidArgumentError: Rows that the policy cannot hold, or a wrong number of token ids.
    """
    source, target = Path(prompt_cache), Path(session)
    file = opened(source)
    layers = layers_of(file)
    sidecar = Sidecar(
        shape=_shape(file, layers, query_heads),
        policy=policy_text(policy),
        fingerprint=fingerprint,
        metadata=file.metadata,
        scalars={
            name: number
            for layer in range(len(layers))
            for name, number in file.scalars(layer).items()
        },
        layers=layers,
    )
    with sidecar.cache(threads) as cache, cache.sequence() as sequence:
        for number, layer in enumerate(layers):
            _append(sequence, number, layer, file)
        _record(sequence, layers, tokens)
        sequence.save(target)
    sidecar.write(target)
    return describe(target, prompt_cache_bytes=source.stat().st_size)


def restore(session: StrPath, prompt_cache: StrPath, *, threads: int | None = None) -> Summary:
    """Writes the prompt cache that a session was made of, with the rows that the session holds.

    Arrays have the shapes, types and places that they had, and all metadata is there. Room for
    tokens to come is zero. Quantized caches are quantized again.

    Raises:
        FileFailedError: A file cannot be read or written, or is damaged.
        OtherSessionError: The session is not the one that was written with the file beside it.
    """
    source, target = Path(session), Path(prompt_cache)
    sidecar = Sidecar.read(source)
    arrays = {name: mx.array(value) for name, value in sidecar.scalars.items()}
    with sidecar.cache(threads) as cache, cache.restore(source) as sequence:
        for number, layer in enumerate(sidecar.layers):
            pair = sequence.rows(number, layer.tokens)
            for names, rows in zip((layer.keys, layer.values), pair, strict=True):
                encoded = layer.encoded(np.asarray(rows))
                mx.eval(encoded)
                arrays.update(zip(names, encoded, strict=True))
    write(target, arrays, sidecar.metadata)
    return describe(source, prompt_cache_bytes=target.stat().st_size)


def describe(path: StrPath, *, prompt_cache_bytes: int | None = None) -> Summary:
    """What a session that ``compress`` wrote holds, or a prompt cache file.

    Raises:
        FileFailedError: The file, or the one beside it, cannot be read or is damaged.
    """
    source = Path(path)
    if not path_for(source).exists():
        file = opened(source)
        layers = layers_of(file)
        return _summary(
            layers,
            _shape(file, layers, None),
            user_metadata(file.metadata),
            prompt_cache_bytes=source.stat().st_size,
        )
    sidecar = Sidecar.read(source)
    with sidecar.cache() as cache, cache.restore(source) as sequence:
        return _summary(
            sidecar.layers,
            sidecar.shape,
            user_metadata(sidecar.metadata),
            compressed_tokens=sequence.statistics.compressed_tokens,
            recorded_tokens=len(sequence.tokens),
            policy=sidecar.policy,
            prompt_cache_bytes=prompt_cache_bytes,
            session_bytes=source.stat().st_size + path_for(source).stat().st_size,
        )


def _summary(
    layers: list[Layer],
    shape: Shape,
    metadata: dict[str, str],
    *,
    compressed_tokens: int | None = None,
    recorded_tokens: int | None = None,
    policy: str | None = None,
    prompt_cache_bytes: int | None = None,
    session_bytes: int | None = None,
) -> Summary:
    return Summary(
        layers=shape.layers,
        kv_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        caches=dict(Counter(layer.kind for layer in layers)),
        dtype=", ".join(sorted({layer.dtype for layer in layers})),
        tokens=max(layer.tokens for layer in layers),
        offset=max(layer.offset for layer in layers),
        compressed_tokens=compressed_tokens,
        recorded_tokens=recorded_tokens,
        policy=policy,
        prompt_cache_bytes=prompt_cache_bytes,
        session_bytes=session_bytes,
        metadata=metadata,
    )


def _shape(file: PromptCacheFile, layers: list[Layer], query_heads: int | None) -> Shape:
    """The one shape of all layers."""
    shapes = set()
    for layer in layers:
        heads, dim = file.shapes[layer.keys[0]][1], file.shapes[layer.keys[-1]][3]
        shapes.add((heads, dim * max(1, layer.group_size)))
    if len(shapes) > 1:
        raise UnsupportedError(
            f"{file.path} has layers of different KV heads and head dimensions: {sorted(shapes)}"
        )
    heads, dim = shapes.pop()
    return Shape(len(layers), heads if query_heads is None else query_heads, heads, dim)


def _append(sequence: nibblekv.Sequence, number: int, layer: Layer, file: PromptCacheFile) -> None:
    """Appends the rows of a layer."""
    keys, values = (
        layer.decoded([file.array(name) for name in names]) for names in (layer.keys, layer.values)
    )
    mx.eval(keys, values)
    for step in sequence.prompt_steps(layer.tokens):
        sequence.append(number, _rows(keys[:, :, step]), _rows(values[:, :, step]))


def _rows(array: mx.array) -> Rows:
    """Rows of the shape (tokens, heads, head_dim) of an array of (1, heads, tokens, head_dim)."""
    return np.array(array[0].transpose(1, 0, 2).astype(mx.float32), copy=False)


def _record(sequence: nibblekv.Sequence, layers: list[Layer], tokens: Iterable[int] | None) -> None:
    if tokens is None:
        return
    ids: list[Any] = list(tokens)
    held = {layer.tokens for layer in layers}
    if held != {len(ids)}:
        raise InvalidArgumentError(
            f"{len(ids)} token ids, but layers hold {min(held)} to {max(held)} tokens"
        )
    sequence.record_tokens(ids)
