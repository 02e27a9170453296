"""Files that are there as a whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from nibblekv import FileFailedError, NibbleError, files

StrPath = str | os.PathLike[str]

_PIECE = 1 << 20


@contextlib.contextmanager
def opened(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """A file to read, and its bytes."""
    try:
        with path.open("rb") as file:
            yield file, os.fstat(file.fileno()).st_size
    except OSError as error:
        raise FileFailedError(f"{path} cannot be read: {error.strerror}") from error


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write and read that takes the place of ``path`` at the end of the block. Until
    then, and if the block fails, what was there before stays."""
    with files.replacing(path) as unfinished, unfinished.open("r+b") as file:
        yield file


def read_at(file: BinaryIO, offset: int, size: int, name: str) -> bytes:
    """Bytes that were there when the file was opened."""
    file.seek(offset)
    content = file.read(size)
    if len(content) != size:
        raise FileFailedError(f"{name} became shorter than {offset + size} bytes")
    return content


def copy(source: BinaryIO, size: int, target: BinaryIO | None, name: str) -> str:
    """Copies bytes piece by piece, or only reads them; returns their SHA-256 in hexadecimal."""
    digest = hashlib.sha256()
    left = size
    while left > 0:
        piece = source.read(min(left, _PIECE))
        if not piece:
            raise FileFailedError(f"{name} ends {left} bytes too early")
        digest.update(piece)
        if target is not None:
            target.write(piece)
        left -= len(piece)
    return digest.hexdigest()


@contextlib.contextmanager
def temporary_folder(target: Path) -> Iterator[Path]:
    """A folder on the disk that ``target`` goes to, for what is needed while it is made."""
    try:
        folder = tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise FileFailedError(f"{target} cannot be written: {error.strerror}") from error
    with folder as name:
        yield Path(name)


@contextlib.contextmanager
def naming(what: str) -> Iterator[None]:
    """Failures of the library in the block say what they are about."""
    try:
        yield
    except NibbleError as error:
        raise type(error)(f"{what}: {error.message}") from error
