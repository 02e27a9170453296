"""Rows of numbers of NumPy and PyTorch as addresses, without copies where they are float32."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from .errors import InvalidArgumentError

if TYPE_CHECKING:
    import torch

    Array: TypeAlias = np.ndarray[Any, np.dtype[Any]] | torch.Tensor
else:
    Array: TypeAlias = Any


def is_tensor(array: object) -> bool:
    """Whether it is a tensor of PyTorch, which is not imported for the question."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, torch.Tensor)


class Rows:
    """Dense float32 rows, and what keeps them alive: the array itself where it is such rows."""

    def __init__(self, array: Array, heads: int, dim: int, name: str) -> None:
        self.tokens = _tokens(array, heads, dim, name)
        if is_tensor(array):
            self.array, self.address = _dense_tensor(array, name)
        else:
            dense = np.ascontiguousarray(_numbers(array, name), np.float32)
            self.array, self.address = dense, dense.ctypes.data
        self.is_copy = self.address != _address(array)


class Output:
    """Where rows are written: the given array if it is dense float32, else a buffer that is
    copied, and converted, to it by ``finish``."""

    def __init__(self, like: Rows, out: Array | None, queries: Array, heads: int, dim: int) -> None:
        if out is not None:
            self._check(out, like.tokens, heads, dim)
        self._target = _empty_like(queries) if out is None else out
        self._buffer = self._target if _is_dense(self._target) else _dense_like(self._target)
        self.address = _address(self._buffer)

    @staticmethod
    def _check(out: Any, tokens: int, heads: int, dim: int) -> None:
        if is_tensor(out):
            _check_tensor(out, "out")
        else:
            _numbers(out, "out")
        held = _tokens(out, heads, dim, "out")
        if held != tokens:
            raise InvalidArgumentError(f"out has {held} tokens, but there are {tokens} queries")
        if not is_tensor(out) and not out.flags.writeable:
            raise InvalidArgumentError("out is an array that cannot be written to")
        if is_tensor(out) and out.requires_grad:
            raise InvalidArgumentError("out requires a gradient, which attention does not have")

    def finish(self) -> Array:
        if self._buffer is not self._target:
            self._target[...] = self._buffer
        return self._target


def token_ids(ids: Any, name: str = "ids") -> np.ndarray[Any, np.dtype[np.int32]]:
    """Token ids of a list, an array or a tensor as dense int32."""
    array = np.asarray(ids.tolist() if is_tensor(ids) else ids)
    if array.ndim != 1 or (array.size and not np.issubdtype(array.dtype, np.integer)):
        raise InvalidArgumentError(
            f"{name} is {array.dtype} of shape {array.shape}; expected integers of shape (tokens,)"
        )
    limit = np.iinfo(np.int32).max
    if array.size and (array.min() < 0 or array.max() > limit):
        wrong = array.min() if array.min() < 0 else array.max()
        raise InvalidArgumentError(f"{name} has {wrong}; expected 0 to {limit}")
    return np.ascontiguousarray(array, np.int32)


def _tokens(array: Array, heads: int, dim: int, name: str) -> int:
    shape = tuple(getattr(array, "shape", ()))
    if len(shape) == 3 and shape[1:] == (heads, dim):
        return int(shape[0])
    if len(shape) == 2 and shape[1] == heads * dim:
        return int(shape[0])
    raise InvalidArgumentError(
        f"{name} has the shape {shape}; expected (tokens, {heads}, {dim}) or "
        f"(tokens, {heads * dim})"
    )


def _numbers(array: Any, name: str) -> Any:
    if not isinstance(array, np.ndarray):
        raise InvalidArgumentError(
            f"{name} is a {type(array).__name__}; expected a NumPy array or a PyTorch tensor"
        )
    # bfloat16 of ml_dtypes is of kind V.
    if array.dtype.kind not in "fV":
        raise InvalidArgumentError(f"{name} holds {array.dtype}; expected floating-point numbers")
    return array


def _check_tensor(tensor: Any, name: str) -> None:
    if tensor.device.type != "cpu":
        raise InvalidArgumentError(f"{name} is on {tensor.device}; expected the CPU")
    if not tensor.is_floating_point():
        raise InvalidArgumentError(f"{name} holds {tensor.dtype}; expected floating-point numbers")


def _dense_tensor(tensor: Any, name: str) -> tuple[Any, int]:
    _check_tensor(tensor, name)
    dense = tensor.detach().to(sys.modules["torch"].float32).contiguous()
    return dense, dense.data_ptr()


def _address(array: Any) -> int:
    return int(array.data_ptr() if is_tensor(array) else array.ctypes.data)


def _is_dense(array: Any) -> bool:
    if is_tensor(array):
        return array.dtype == sys.modules["torch"].float32 and bool(array.is_contiguous())
    return array.dtype == np.float32 and bool(array.flags.c_contiguous)


def _dense_like(array: Any) -> Array:
    if is_tensor(array):
        torch = sys.modules["torch"]
        return torch.empty(array.shape, dtype=torch.float32)
    return np.empty(array.shape, np.float32)


def _empty_like(array: Any) -> Array:
    if is_tensor(array):
        return sys.modules["torch"].empty(array.shape, dtype=array.dtype)
    return np.empty(array.shape, array.dtype)
