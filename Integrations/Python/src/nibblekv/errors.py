"""What can go wrong, one class a status of the C interface."""

from __future__ import annotations


class NibbleError(Exception):
    """A call that failed; its cache and its sequences are as they were.

    ``status`` is the number that ``nibblekv.h`` gives the failure, and the text what was wrong,
    with the values and the limits.
    """

    status = 4

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidArgumentError(NibbleError, ValueError):
    """A shape, a length, a layer, an option or a value that is not finite."""

    status = 1


class UnsupportedError(InvalidArgumentError):
    """Something that a host asked for and this package cannot do."""


class InvalidPolicyError(NibbleError, ValueError):
    """The policy has a mistake or does not fit the shape."""

    status = 2


class OverBudgetError(NibbleError, MemoryError):
    """The byte budget of the cache or its disk limit would be exceeded."""

    status = 3


class FileFailedError(NibbleError):
    """A file cannot be read or written, is damaged, or is no session."""

    status = 5


class OtherSessionError(NibbleError):
    """A session of another model, another policy or another calibration."""

    status = 6


class LibraryError(NibbleError, ImportError):
    """The dynamic library cannot be found or loaded, or is too old."""


_ERRORS = {
    error.status: error
    for error in (
        NibbleError,
        InvalidArgumentError,
        InvalidPolicyError,
        OverBudgetError,
        FileFailedError,
        OtherSessionError,
    )
}


def error_of(status: int, message: str) -> NibbleError:
    """The error for a status; one that is not known yet is a plain ``NibbleError`` with it."""
    error = _ERRORS.get(status, NibbleError)(message)
    error.status = status
    return error
