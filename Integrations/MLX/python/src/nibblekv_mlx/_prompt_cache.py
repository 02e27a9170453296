"""Prompt cache files: safetensors with a list of caches and their metadata, in two layouts.

===================  ===========================================  =================================
layout               metadata                                     arrays of cache ``i``
===================  ===========================================  =================================
``meta_state``       ``0.i`` or ``0.i.j`` the cache's state,      rows alone, cut to the tokens
                     ``1.NAME`` the user's, ``2.i`` classes
``scalars``          ``0.NAME`` the user's, ``1.i`` classes,      rows with the room that the cache
                     ``2.0`` empty, ``2.k.0`` names of scalars,   has for more, then the state as
                     ``2.k.1`` their kinds                        arrays without a dimension
===================  ===========================================  =================================

mlx-lm up to 0.31 and mlx-swift-lm write the first, mlx-lm from 0.32 on the second.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
from safetensors import SafetensorError, safe_open

from nibblekv import FileFailedError, UnsupportedError
from nibblekv.files import replacing

_MODEL_STATE = "__mlx_lm_state_"


class PromptCacheFile:
    """What a prompt cache file holds; arrays are read when they are asked for.

    Attributes:
        metadata: All of it, as it is in the file.
        classes: The class names of the caches, one a layer.
        has_scalars: Whether the layout is ``scalars``.
        shapes: Of each array.
        dtypes: Of each array, as safetensors names them (``"BF16"``).
    """

    def __init__(self, path: Path, reader: Any) -> None:
        self.path = path
        self.metadata: dict[str, str] = dict(reader.metadata() or {})
        slices = {name: reader.get_slice(name) for name in reader.keys()}  # noqa: SIM118
        self.shapes = {name: tuple(part.get_shape()) for name, part in slices.items()}
        self.dtypes: dict[str, str] = {name: part.get_dtype() for name, part in slices.items()}
        if "2.0" not in self.metadata:
            raise FileFailedError(f"{path} is no prompt cache: its metadata names no caches")
        self.has_scalars = _has_scalars(self.metadata)
        self.classes = self._listed("1" if self.has_scalars else "2")
        self._check()

    def state(self, layer: int) -> list[str]:
        """The state of a cache beside its rows, as texts in the order of its class."""
        if self.has_scalars:
            return [str(number) for number in self.scalars(layer).values()]
        whole = self.metadata.get(f"0.{layer}")
        return self._listed(f"0.{layer}") if whole is None else [whole]

    def scalars(self, layer: int) -> dict[str, int]:
        """The arrays without a dimension that belong to a cache, by their names."""
        names = [name for name in self.names(layer) if self.shapes[name] == ()]
        if wrong := [name for name in names if self.dtypes[name] != "I32"]:
            raise FileFailedError(f"{self.path}, array {wrong[0]}: expected a whole number")
        return {name: int(self.array(name).item()) for name in names}  # type: ignore[arg-type]

    def names(self, layer: int) -> list[str]:
        """Names of the arrays of a cache, sorted."""
        return sorted(name for name in self.shapes if name.split(".")[0] == str(layer))

    def array(self, name: str) -> mx.array:
        """An array of the file, read when it is used; it is kept nowhere else."""
        arrays: Any = mx.load(str(self.path), format="safetensors")
        return arrays[name]

    def _listed(self, name: str) -> list[str]:
        """The texts ``name.0``, ``name.1``, … as far as they go."""
        texts: list[str] = []
        while (text := self.metadata.get(f"{name}.{len(texts)}")) is not None:
            texts.append(text)
        return texts

    def _check(self) -> None:
        if any(name.startswith(_MODEL_STATE) for name in (*self.classes, *self.shapes)):
            raise UnsupportedError(f"{self.path} holds a model's state beside its caches")
        owned = {name for layer in range(len(self.classes)) for name in self.names(layer)}
        if others := sorted(set(self.shapes) - owned):
            raise FileFailedError(
                f"{self.path} has {len(self.classes)} caches, and the array {others[0]} of none"
            )


def opened(path: Path) -> PromptCacheFile:
    """A prompt cache file to read.

    Raises:
        FileFailedError: It cannot be read, is damaged, or is no prompt cache.
        UnsupportedError: It holds more than caches.
    """
    try:
        # It checks the header; MLX reads arrays, bfloat16 too, but trusts the header.
        with safe_open(path, framework="numpy") as reader:
            return PromptCacheFile(path, reader)
    except (OSError, SafetensorError) as error:
        raise FileFailedError(f"{path} is no safetensors file that can be read: {error}") from error


def user_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """What whoever saved a prompt cache gave, of all the metadata of its file."""
    prefix = "0." if _has_scalars(metadata) else "1."
    return {
        name.removeprefix(prefix): text
        for name, text in metadata.items()
        if name.startswith(prefix)
    }


def _has_scalars(metadata: Mapping[str, str]) -> bool:
    return metadata["2.0"] == ""


def write(path: Path, arrays: dict[str, mx.array], metadata: Mapping[str, str]) -> None:
    """Writes a prompt cache file; whatever stops it, the path has the old file or the whole new."""
    with replacing(path, suffix=".safetensors") as unfinished:
        try:
            mx.save_safetensors(str(unfinished), arrays, dict(metadata))
        except RuntimeError as error:
            raise FileFailedError(f"{path} cannot be written: {error}") from error
