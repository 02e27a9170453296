"""What caches and sequences share: a handle of the library that is freed once."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

from .errors import InvalidArgumentError

_Self = TypeVar("_Self", bound="Owner")


class Owner:
    """The owner of a handle. ``close``, the end of a ``with`` block, or the garbage collector
    frees it, whichever is first."""

    def __init__(self, handle: int, free: Callable[[int], None]) -> None:
        self.__handle = handle
        self._finalizer = weakref.finalize(self, free, handle)

    @property
    def _handle(self) -> int:
        if not self._finalizer.alive:
            raise InvalidArgumentError(f"this {type(self).__name__.lower()} is closed")
        return self.__handle

    @property
    def is_closed(self) -> bool:
        return not self._finalizer.alive

    def close(self) -> None:
        """Frees it; no call may use it any more. Closing again does nothing."""
        self._finalizer()

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
