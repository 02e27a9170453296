"""Files that are there as a whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import FileFailedError


@contextmanager
def replacing(path: Path, suffix: str = "") -> Iterator[Path]:
    """An empty file beside ``path`` to write to, which takes the place of ``path`` at the end of
    the block. Until then, and if the block fails, what was there before stays.

    It is for its owner's eyes alone, as session files are.

    Raises:
        FileFailedError: It cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(6)}{suffix}")
    try:
        unfinished.touch(mode=0o600, exist_ok=False)
        yield unfinished
        _wait_until_stored(unfinished)
        unfinished.replace(path)
        _wait_until_stored(path.parent)
    except OSError as error:
        raise FileFailedError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        unfinished.unlink(missing_ok=True)


def _wait_until_stored(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
