"""A cache: a model's shape, a policy, and the pages of all its sequences."""

from __future__ import annotations

import ctypes
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import _library
from ._arrays import token_ids
from ._handle import Owner
from ._library import library
from ._statistics import CacheStatistics, value_of
from .errors import InvalidArgumentError
from .sequence import Sequence

if TYPE_CHECKING:
    from collections.abc import Iterable

    StrPath = str | os.PathLike[str]
    Size = int | str

_UNITS = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


class Cache(Owner):
    """An empty cache for sequences of one model.

    It may be used from several threads, each of its sequences from one thread at a time. Calls
    release the interpreter's lock.

    Args:
        layers: Attention layers.
        query_heads: A multiple of ``kv_heads``.
        kv_heads: Heads that keys and values have.
        head_dim: Channels of a head: a multiple of 8, at most 512.
        policy: A preset (``"balanced"``), a short form (``"k=int8+v=linear:4"``), a policy file
            (a path that contains ``/`` or ends in ``.yaml``, ``.yml`` or ``.json``, or any
            ``os.PathLike``), or the text of one.
        budget: Most bytes that the cache may hold, working memory included: a number, or a text
            such as ``"512MiB"``. ``None`` is no limit.
        threads: Threads that one call uses; ``None`` chooses. Results do not depend on it.
        fingerprint: What names the model's weights; sessions of a model with another one, or with
            none, are refused.
        prefix_limit: Most bytes of pages that are remembered for later prompts, within the budget;
            ``None`` is a quarter of it, or 1 GiB where there is none; 0 remembers nothing.
        disk: A folder that exists, for pages that the budget has no room for; their file is gone
            with the cache or the process. ``None`` keeps all pages in memory.
        disk_limit: Most bytes of that file; ``None`` is no limit.
        calibration: A file of ``nibble calibrate``, for policies with ``rotation=aligned`` or
            ``shaping=queries``; it must have the shape and the fingerprint, and names the weights
            where ``fingerprint`` is ``None``.
        sliding_windows: For each layer the newest tokens that it ever sees, ``None`` for all. Pages
            behind a window are freed; ``attend`` must not ask for more. ``None`` is all in every
            layer.

    Raises:
        InvalidArgumentError: A shape or a size that is not possible.
        InvalidPolicyError: A policy with a mistake, or one that does not fit the shape.
        FileFailedError: A calibration that cannot be read, or is none.
        LibraryError: The dynamic library is missing, or too old.
    """

    def __init__(
        self,
        layers: int,
        query_heads: int,
        kv_heads: int,
        head_dim: int,
        policy: StrPath = "balanced",
        *,
        budget: Size | None = None,
        threads: int | None = None,
        fingerprint: str | None = None,
        prefix_limit: Size | None = None,
        disk: StrPath | None = None,
        disk_limit: Size | None = None,
        calibration: StrPath | None = None,
        sliding_windows: Iterable[int | None] | None = None,
    ) -> None:
        self.layers = _count(layers, "layers")
        self.query_heads = _count(query_heads, "query_heads")
        self.kv_heads = _count(kv_heads, "kv_heads")
        self.head_dim = _count(head_dim, "head_dim")
        self.policy = policy if isinstance(policy, str) else str(Path(policy).absolute())
        options = _library.CacheOptions(
            struct_bytes=ctypes.sizeof(_library.CacheOptions),
            policy=_text(self.policy, "policy"),
            byte_budget=_limit(budget, "budget"),
            threads=0 if threads is None else _count(threads, "threads"),
            fingerprint=None if fingerprint is None else _text(fingerprint, "fingerprint"),
            # Less than a page is nothing; 0 would be the library's own choice.
            prefix_limit=0 if prefix_limit is None else max(1, size(prefix_limit, "prefix_limit")),
            disk_folder=None if disk is None else os.fsencode(disk),
            disk_limit=_limit(disk_limit, "disk_limit"),
            calibration=None if calibration is None else os.fsencode(calibration),
            sliding_windows=_windows(sliding_windows, self.layers),
        )
        shape = _library.ModelShape(self.layers, self.query_heads, self.kv_heads, self.head_dim)
        handle = library().handle(
            "cache_create_with_options", ctypes.byref(shape), ctypes.byref(options)
        )
        super().__init__(handle, library().cache_free)

    def sequence(self) -> Sequence:
        """An empty sequence."""
        return Sequence(self, library().handle("sequence_create", self._handle))

    def continuing(self, ids: Any, *, leave: int = 1) -> Sequence:
        """A sequence that holds as much of a prompt as remembered ones have of its beginning.

        Args:
            ids: The prompt: a list, an array or a tensor of token ids, 0 or more each.
            leave: Tokens at the end that are left to compute in any case.

        Returns:
            A sequence whose ``length`` says what was found; 0 if nothing.
        """
        dense = token_ids(ids)
        handle, found = ctypes.c_void_p(), ctypes.c_uint64()
        library().call(
            "sequence_create_continuing",
            self._handle,
            dense.size,
            dense.ctypes.data,
            _whole(leave, "leave"),
            ctypes.byref(handle),
            ctypes.byref(found),
        )
        assert handle.value is not None
        return Sequence(self, handle.value)

    def restore(self, path: StrPath) -> Sequence:
        """The sequence of a session file; it goes on as the one that was saved, bit for bit.

        Pages are read and checked when they are first used.

        Raises:
            FileFailedError: The file cannot be read, is damaged, or is no session.
            OtherSessionError: It is of another model, policy or calibration.
        """
        handle = library().handle("sequence_restore", self._handle, os.fsencode(path))
        return Sequence(self, handle)

    @property
    def statistics(self) -> CacheStatistics:
        """What the cache holds now."""
        structure = _library.CacheStatistics()
        library().call(
            "cache_get_statistics",
            self._handle,
            ctypes.byref(structure),
            ctypes.sizeof(structure),
        )
        return value_of(structure, CacheStatistics)

    def __repr__(self) -> str:
        return (
            f"Cache(layers={self.layers}, query_heads={self.query_heads}, "
            f"kv_heads={self.kv_heads}, head_dim={self.head_dim}, policy={self.policy!r})"
        )


def size(value: Size, name: str) -> int:
    """Bytes of a number, or of a text such as ``"512MiB"``."""
    if isinstance(value, str):
        match = re.fullmatch(r"(\d+)\s*([KMGT]iB|B|)", value.strip())
        if match is None:
            raise InvalidArgumentError(
                f"{name} is {value!r}; expected bytes, or a number of KiB, MiB, GiB or TiB"
            )
        return _whole(int(match[1]) * _UNITS[match[2]], name, limit=2**63 - 1)
    return _whole(value, name, limit=2**63 - 1)


def _windows(values: Iterable[int | None] | None, layers: int) -> Any:
    """One window a layer as the library takes them, where 0 is all."""
    if values is None:
        return None
    windows = [0 if value is None else _count(value, "sliding_windows") for value in values]
    if len(windows) != layers:
        raise InvalidArgumentError(
            f"sliding_windows has {len(windows)} windows, but there are {layers} layers"
        )
    return (ctypes.c_uint64 * layers)(*windows)


def _limit(value: Size | None, name: str) -> int:
    """A limit as the library takes it, where 0 is none."""
    if value is None:
        return 0
    count = size(value, name)
    if count == 0:
        raise InvalidArgumentError(f"{name} is 0; expected at least 1 byte, or None for no limit")
    return count


def _count(value: int, name: str) -> int:
    if _whole(value, name) == 0:
        raise InvalidArgumentError(f"{name} is 0; expected at least 1")
    return int(value)


def _whole(value: int, name: str, limit: int = 2**32 - 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidArgumentError(f"{name} is {value!r}; expected a whole number")
    if not 0 <= value <= limit:
        raise InvalidArgumentError(f"{name} is {value}; expected 0 to {limit}")
    return value


def _text(value: str, name: str) -> bytes:
    if "\0" in value:
        raise InvalidArgumentError(f"{name} has a null character")
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgumentError(
            f"{name} cannot be encoded in UTF-8: half of a surrogate pair at character "
            f"{error.start}"
        ) from error
