"""Fields of a file one after the other, checked against what is left of it."""

from __future__ import annotations

import os
import struct
from typing import Any, BinaryIO

import numpy as np
from nibblekv import FileFailedError


class Reader:
    """Reads little-endian fields, and counts where they are in the whole state.

    Args:
        file: Positioned at its start.
        size: Its bytes.
        name: What messages call it.
        has_rows: Whether the rows of keys and values are there. In a frame they are not: they
            count, but nothing is read.
    """

    def __init__(self, file: BinaryIO, size: int, name: str, has_rows: bool = True) -> None:
        self._file = file
        self._left = size
        self._has_rows = has_rows
        self.name = name
        self.position = 0
        """Bytes of the state before the next field, rows included."""

    @property
    def is_at_end(self) -> bool:
        return self._left == 0

    def read(self, size: int, what: str) -> bytes:
        """Raises FileFailedError before it allocates anything if so much is not left."""
        self.require(size, what)
        content = self._file.read(size)
        if len(content) != size:
            raise self.failure(f"{what} cannot be read; the file became shorter")
        self._left -= size
        self.position += size
        return content

    def require(self, size: int, what: str) -> None:
        if size > self._left:
            raise self.failure(f"{what} would take {size} bytes, but {self._left} are left")

    def number(self, form: str, what: str) -> int:
        """One integer, by the letter that ``struct`` has for it."""
        value: int = struct.unpack(f"<{form}", self.read(struct.calcsize(f"<{form}"), what))[0]
        return value

    def array(self, kind: str, count: int, what: str) -> np.ndarray[Any, Any]:
        dtype = np.dtype(kind)
        return np.frombuffer(self.read(count * dtype.itemsize, what), dtype)

    def pass_rows(self, size: int, what: str) -> int:
        """Passes rows over, and says where in the state they begin."""
        begin = self.position
        if self._has_rows:
            self.require(size, what)
            self._file.seek(size, os.SEEK_CUR)
            self._left -= size
        self.position += size
        return begin

    def mark(self) -> tuple[int, int, int]:
        """Where reading is, for ``rewind``."""
        return self._file.tell(), self._left, self.position

    def rewind(self, mark: tuple[int, int, int]) -> None:
        offset, self._left, self.position = mark
        self._file.seek(offset)

    def failure(self, message: str) -> FileFailedError:
        return FileFailedError(f"{self.name}, byte {self.position}: {message}")
