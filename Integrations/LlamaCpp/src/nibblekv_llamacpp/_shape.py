"""Heads: a state tells the size of rows, not how heads divide them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nibblekv import FileFailedError, InvalidArgumentError, LibraryError, UnsupportedError

from ._files import StrPath
from ._layout import Stream

_ASSUMED_HEAD_DIM = 128


@dataclass(frozen=True)
class ModelHeads:
    """What a model's file says of its heads."""

    dim: int
    """Channels of a head in layers that see all tokens."""
    window_dim: int
    """The same of layers with a sliding window."""
    kv_heads: tuple[int, ...] = ()
    """Those that layers have; none if the file does not say."""

    def dim_of(self, channels: int, part: int, parts: int) -> int:
        """Channels of a head in a part; the second is that of layers with a sliding window.

        Raises:
            InvalidArgumentError: None fits, or two do.
        """
        dims = (self.dim, self.window_dim)
        possible = {dims[part]} if parts > 1 else set(dims)
        fitting = {dim for dim in possible if channels % dim == 0}
        if not fitting:
            listed = " or ".join(str(dim) for dim in sorted(possible, reverse=True))
            raise InvalidArgumentError(
                f"the model's heads have {listed} channels, which does not divide the {channels} "
                "channels that a row has; is it another model?"
            )
        if len(fitting) > 1:
            fitting = {dim for dim in fitting if channels // dim in self.kv_heads}
        if len(fitting) != 1:
            raise InvalidArgumentError(
                f"the model has heads of {dims[0]} and of {dims[1]} channels, and does not tell "
                f"which of them a row of {channels} channels has; expected kv_heads instead"
            )
        return fitting.pop()


@dataclass(frozen=True)
class Heads:
    """What is known of a model's heads; with neither, 128 channels a head are assumed, or less
    where that does not divide a row."""

    kv_heads: int | None = None
    model: ModelHeads | None = None

    def of(self, channels: int, part: int = 0, parts: int = 1) -> tuple[int, int]:
        """KV heads and channels of each, for rows of so many channels in a part of a state.

        Raises:
            InvalidArgumentError: What is known of the model does not fit the state, or not only in
                one way.
        """
        if self.kv_heads is not None:
            if self.kv_heads < 1 or channels % self.kv_heads:
                raise InvalidArgumentError(
                    f"kv_heads is {self.kv_heads}; expected a divisor of the {channels} channels "
                    "that a row has"
                )
            return self.kv_heads, channels // self.kv_heads
        if self.model is not None:
            head_dim = self.model.dim_of(channels, part, parts)
            return channels // head_dim, head_dim
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
        attention = f"{architecture}.attention"

        def numbers(name: str) -> list[int]:
            """What a field has: one number, or one a layer."""
            content = fields[name].contents()
            return content if isinstance(content, list) else [content]

        if f"{attention}.key_length" in fields:
            [dim] = numbers(f"{attention}.key_length")
        else:
            [width] = numbers(f"{architecture}.embedding_length")
            dim = width // max(numbers(f"{attention}.head_count"))
        window_dim, counts = dim, []
        if f"{attention}.key_length_swa" in fields:
            [window_dim] = numbers(f"{attention}.key_length_swa")
        if f"{attention}.head_count_kv" in fields:
            counts = numbers(f"{attention}.head_count_kv")
    except Exception as error:  # gguf raises whatever a damaged file leads to.
        raise FileFailedError(f"{path} cannot be read as a model: {error!r}") from error
    dims = [dim, window_dim] if dim != window_dim else [dim]
    if any(type(each) is not int or each < 1 for each in dims):
        raise FileFailedError(f"{path} has heads of {dims} channels")
    return Heads(model=ModelHeads(dim, window_dim, tuple(counts)))


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
