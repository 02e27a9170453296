"""The dynamic library: where it is, and its functions as ``nibblekv.h`` declares them."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import sys
from ctypes import POINTER, c_char_p, c_double, c_float, c_int32, c_uint32, c_uint64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

from .errors import LibraryError, error_of

NEEDED_ABI = 4
"""The version of ``nibblekv.h`` that these declarations are of."""

_NAME = "libnibblekv.dylib" if sys.platform == "darwin" else "libnibblekv.so"


class ModelShape(ctypes.Structure):
    _fields_ = [
        ("layers", c_uint32),
        ("query_heads", c_uint32),
        ("kv_heads", c_uint32),
        ("head_dim", c_uint32),
    ]


class CacheOptions(ctypes.Structure):
    _fields_ = [
        ("struct_bytes", c_uint64),
        ("policy", c_char_p),
        ("byte_budget", c_uint64),
        ("threads", c_uint64),
        ("fingerprint", c_char_p),
        ("prefix_limit", c_uint64),
        ("disk_folder", c_char_p),
        ("disk_limit", c_uint64),
        ("calibration", c_char_p),
        ("sliding_windows", POINTER(c_uint64)),
    ]


class CacheStatistics(ctypes.Structure):
    _fields_ = [
        ("held_bytes", c_uint64),
        ("pages", c_uint64),
        ("sequences", c_uint64),
        ("bits_per_value", c_double),
        ("disk_bytes", c_uint64),
        ("disk_page_bytes", c_uint64),
        ("prefix_lookups", c_uint64),
        ("prefix_hits", c_uint64),
        ("prefix_reused_tokens", c_uint64),
        ("prefix_sequences", c_uint64),
        ("prefix_bytes", c_uint64),
        ("prefix_evictions", c_uint64),
        ("page_tokens", c_uint64),
    ]


class SequenceStatistics(ctypes.Structure):
    _fields_ = [
        ("tokens", c_uint64),
        ("compressed_tokens", c_uint64),
        ("page_bytes", c_uint64),
        ("tail_bytes", c_uint64),
        ("sink_bytes", c_uint64),
        ("total_bytes", c_uint64),
        ("exact_bytes", c_uint64),
        ("bits_per_value", c_double),
        ("stored_pages", c_uint64),
    ]


_handle_out = POINTER(c_void_p)
# The functions that return a status; rows and ids are plain addresses.
_CALLS: dict[str, list[Any]] = {
    "cache_create_with_options": [POINTER(ModelShape), POINTER(CacheOptions), _handle_out],
    "cache_get_statistics": [c_void_p, POINTER(CacheStatistics), c_uint64],
    "sequence_create": [c_void_p, _handle_out],
    "sequence_fork": [c_void_p, _handle_out],
    "sequence_append": [c_void_p, c_uint32, c_uint64, c_void_p, c_void_p],
    "sequence_attend": [
        *[c_void_p, c_uint32, c_uint64, c_void_p],
        *[c_float, c_uint64, c_float, c_void_p],
    ],
    "sequence_get_rows": [c_void_p, c_uint32, c_uint64, c_void_p, c_void_p],
    "sequence_truncate": [c_void_p, c_uint64],
    "sequence_get_statistics": [c_void_p, POINTER(SequenceStatistics), c_uint64],
    "sequence_record_tokens": [c_void_p, c_uint64, c_void_p],
    "sequence_get_tokens": [c_void_p, c_uint64, c_void_p, POINTER(c_uint64)],
    "sequence_remember": [c_void_p],
    "sequence_create_continuing": [
        *[c_void_p, c_uint64, c_void_p, c_uint64],
        *[_handle_out, POINTER(c_uint64)],
    ],
    "sequence_move_to_disk": [c_void_p],
    "sequence_save": [c_void_p, c_char_p, c_uint32],
    "sequence_restore": [c_void_p, c_char_p, _handle_out],
}


class Library:
    """The functions of the library, without their prefix ``nibble_``."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            functions = ctypes.CDLL(path)
        except OSError as error:
            raise LibraryError(f"{path} cannot be loaded: {error}") from error
        try:
            functions.nibble_abi_version.restype = c_uint32
            self.abi_version: int = functions.nibble_abi_version()
        except AttributeError as error:
            raise LibraryError(f"{path} is no libnibblekv: {error}") from error
        if self.abi_version < NEEDED_ABI:
            raise LibraryError(
                f"{path} has version {self.abi_version} of the interface; this package needs "
                f"{NEEDED_ABI} or newer"
            )
        self._functions = {name: _declared(functions, name) for name in _CALLS}
        self._last_error = functions.nibble_last_error
        self._last_error.argtypes, self._last_error.restype = [], c_char_p
        self.cache_free = functions.nibble_cache_free
        self.sequence_free = functions.nibble_sequence_free
        for free in (self.cache_free, self.sequence_free):
            free.argtypes, free.restype = [c_void_p], None

    def call(self, name: str, *arguments: Any) -> None:
        """Calls a function, and raises what its status stands for."""
        status = self._functions[name](*arguments)
        if status != 0:
            message = self._last_error() or b""
            raise error_of(status, message.decode(errors="replace"))

    def handle(self, name: str, *arguments: Any) -> int:
        """Calls a function whose last argument receives a handle."""
        result = c_void_p()
        self.call(name, *arguments, ctypes.byref(result))
        assert result.value is not None
        return result.value


def _declared(functions: ctypes.CDLL, name: str) -> Any:
    function = getattr(functions, f"nibble_{name}")
    function.argtypes, function.restype = _CALLS[name], c_int32
    return function


def _find() -> str:
    """The library inside the package, or the one that NIBBLEKV_LIBRARY names, or the system's."""
    packaged = Path(__file__).parent / "lib" / _NAME
    if packaged.is_file():
        return str(packaged)
    if named := os.environ.get("NIBBLEKV_LIBRARY"):
        return named
    if found := ctypes.util.find_library("nibblekv"):
        return found
    raise LibraryError(
        f"there is no {_NAME}: it is not inside the package, NIBBLEKV_LIBRARY is not set, and the "
        "system has none. `swift build -c release --product nibblekv` in the repository makes it"
    )


@cache
def library() -> Library:
    """The library, loaded once."""
    return Library(_find())
