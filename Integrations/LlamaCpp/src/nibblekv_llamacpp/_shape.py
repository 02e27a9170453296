"""Heads: a state tells the size of rows, not how heads divide them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nibblekv import FileFailedError, InvalidArgumentError, LibraryError, UnsupportedError

from ._files import StrPath
from ._layout import Stream

_ASSUMED_HEAD_DIM = 128


@dataclass(frozen=True)
class Heads:
    """What is known of a model's heads; with neither, 128 channels a head are assumed, or less
    where that does not divide a row."""

    kv_heads: int | None = None
    head_dims: tuple[int, ...] = ()

    def of(self, channels: int) -> tuple[int, int]:
        """KV heads and channels of each, for rows of so many channels.

        Raises:
            InvalidArgumentError: What is known of the model does not fit the state.
        """
        if self.kv_heads is not None:
            if self.kv_heads < 1 or channels % self.kv_heads:
                raise InvalidArgumentError(
                    f"kv_heads is {self.kv_heads}; expected a divisor of the {channels} channels "
                    "that a row has"
                )
            return self.kv_heads, channels // self.kv_heads
        if self.head_dims:
            fitting = [dim for dim in self.head_dims if channels % dim == 0]
            if not fitting:
                raise InvalidArgumentError(
                    f"the model's heads have {_listed(self.head_dims)} channels, which does not "
                    f"divide the {channels} channels that a row has; is it another model?"
                )
            return channels // fitting[0], fitting[0]
        dim = next((d for d in range(_ASSUMED_HEAD_DIM, 7, -8) if channels % d == 0), None)
        if dim is None:
            raise UnsupportedError(
                f"rows have {channels} channels; expected a multiple of 8, which heads are of"
            )
        return channels // dim, dim


def heads_of_model(path: StrPath) -> Heads:
    """Reads the metadata of a GGUF file; it takes the package ``gguf``.

    Raises:
        FileFailedError: The file cannot be read, or says nothing of heads.
        LibraryError: ``gguf`` is not installed.
    """
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise LibraryError("reading a model takes the package gguf: pip install gguf") from error
    try:
        fields = GGUFReader(Path(path)).fields
        architecture = fields["general.architecture"].contents()
        dims = [
            fields[name].contents()
            for key in ("key_length", "key_length_swa")
            if (name := f"{architecture}.attention.{key}") in fields
        ]
        if not dims:
            width = fields[f"{architecture}.embedding_length"].contents()
            dims = [width // _largest(fields[f"{architecture}.attention.head_count"].contents())]
    except Exception as error:  # gguf raises whatever a damaged file leads to.
        raise FileFailedError(f"{path} cannot be read as a model: {error!r}") from error
    if any(type(dim) is not int or dim < 1 for dim in dims):
        raise FileFailedError(f"{path} has heads of {dims} channels")
    return Heads(head_dims=tuple(dims))


def channels_of(stream: Stream, name: str) -> int:
    """The channels that all rows of a stream have.

    Raises:
        UnsupportedError: Layers differ, or keys and values do.
    """
    channels = stream.keys[0].channels
    for side, blocks in (("keys", stream.keys), ("values", stream.values)):
        for layer, block in enumerate(blocks):
            if block.channels != channels:
                raise UnsupportedError(
                    f"{name}: {side} of layer {layer} have {block.channels} channels, keys of "
                    f"layer 0 have {channels}; covered are states whose rows all have the same"
                )
    return channels


def _largest(count: Any) -> int:
    """Of a number, or of one number a layer, where some layers have no attention."""
    return max(count) if isinstance(count, list) else int(count)


def _listed(numbers: Iterable[int]) -> str:
    return " or ".join(str(number) for number in numbers)
