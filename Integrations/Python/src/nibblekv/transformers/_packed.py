"""What stands for the keys and values of a layer whose rows stay packed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ..errors import UnsupportedError

if TYPE_CHECKING:
    from ._layer import NibbleLayer

# What may be asked of packed rows without reading them.
_HARMLESS = {
    torch.Tensor.shape.__get__,
    torch.Tensor.dtype.__get__,
    torch.Tensor.device.__get__,
    torch.Tensor.ndim.__get__,
    torch.Tensor.size,
    torch.Tensor.dim,
    torch.Tensor.is_floating_point,
    torch.Tensor.as_subclass,
}


class PackedRows(torch.Tensor):
    """The new rows of a layer, on their way from the cache to its attention function.

    The rows before them are in packed pages, so code that reads this tensor would see the new ones
    alone: every operation on it is an error, instead of a wrong result.
    """

    layer: NibbleLayer

    @staticmethod
    def of(rows: torch.Tensor, layer: NibbleLayer) -> PackedRows:
        packed = rows.as_subclass(PackedRows)
        packed.layer = layer
        return packed

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function in _HARMLESS:
            with torch._C.DisableTorchFunctionSubclass():
                return function(*args, **(kwargs or {}))
        name = getattr(function, "__name__", str(function))
        raise UnsupportedError(
            f"the model's attention reads keys and values itself ({name}), but they are packed: "
            "give NibbleCache the model's own config, or attention='decoded'"
        )
