"""The caches that are compared: policies of NibbleKV, and those of transformers."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from typing import Any

import torch
from transformers import DynamicCache, QuantizedCache

from ..errors import InvalidArgumentError, UnsupportedError
from ..transformers import NibbleCache

_BACKENDS = {"quanto": "optimum.quanto", "hqq": "hqq"}


class MeasuredCache(ABC):
    """One cache, document after document."""

    compresses = True
    step_tokens: int | None = None
    """The tokens of a page, where there are pages."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.cache: Any = None

    @abstractmethod
    def begin(self) -> None:
        """Makes ``cache`` an empty one."""

    @abstractmethod
    def compressed_tokens(self) -> int:
        """Tokens that are compressed now."""

    @abstractmethod
    def total_bytes(self) -> int:
        """Bytes that all tokens hold now."""

    @abstractmethod
    def bits_per_value(self) -> float:
        """Of the compressed tokens, with everything that is stored for them."""

    def sees_compressed(self, before: int) -> bool:
        """Whether the last step, before which ``before`` tokens were compressed, saw some."""
        return before > 0


class _Packed(MeasuredCache):
    def __init__(self, policy: str, config: Any, threads: int | None) -> None:
        super().__init__(policy)
        self.cache = NibbleCache(config, policy, threads=threads)
        statistics = self.cache.store.statistics
        self.step_tokens = statistics.page_tokens
        # Exact rows alone have 16 bits or more.
        self.compresses = statistics.bits_per_value < 16

    def begin(self) -> None:
        self.cache.reset()

    def compressed_tokens(self) -> int:
        return sum(sequence.statistics.compressed_tokens for sequence in self.cache.sequences)

    def total_bytes(self) -> int:
        return int(self.cache.total_bytes)

    def bits_per_value(self) -> float:
        return float(self.cache.sequences[0].statistics.bits_per_value)

    def sees_compressed(self, before: int) -> bool:
        # Pages are sealed before a step's rows are attended to.
        return self.compressed_tokens() > 0


class _Dynamic(MeasuredCache):
    compresses = False

    def __init__(self, config: Any) -> None:
        super().__init__("dynamic")
        self._config = config

    def begin(self) -> None:
        self.cache = DynamicCache(config=self._config)

    def compressed_tokens(self) -> int:
        return 0

    def total_bytes(self) -> int:
        return sum(stored_bytes((layer.keys, layer.values)) for layer in self.cache.layers)

    def bits_per_value(self) -> float:
        rows = next((layer.keys for layer in self.cache.layers if layer.is_initialized), None)
        return 0.0 if rows is None else 8.0 * rows.element_size()


class _Quantized(MeasuredCache):
    def __init__(self, backend: str, bits: int, config: Any) -> None:
        super().__init__(f"{backend}:{bits}")
        self._values_per_token = 2 * config.num_hidden_layers * row_values(config)
        self._make = lambda: QuantizedCache(
            backend=backend,
            config=config,
            nbits=bits,
            # The backends number axes in their own ways; these are the last ones: channels.
            axis_key=0 if backend == "quanto" else 1,
            axis_value=0 if backend == "quanto" else 1,
        )

    def begin(self) -> None:
        self.cache = self._make()

    def _packed(self) -> list[Any]:
        return [
            (layer._quantized_keys, layer._quantized_values)
            for layer in self.cache.layers
            if getattr(layer, "_quantized_keys", None) is not None
        ]

    def _residual(self) -> int:
        rows = next((layer.keys for layer in self.cache.layers), None)
        return rows.shape[-2] if rows is not None and rows.dim() == 4 else 0

    def compressed_tokens(self) -> int:
        return self.cache.get_seq_length() - self._residual() if self._packed() else 0

    def total_bytes(self) -> int:
        exact = sum(stored_bytes((layer.keys, layer.values)) for layer in self.cache.layers)
        return exact + stored_bytes(self._packed())

    def bits_per_value(self) -> float:
        tokens = self.compressed_tokens()
        if tokens == 0:
            return 0.0
        return 8 * stored_bytes(self._packed()) / (tokens * self._values_per_token)


def measured_cache(name: str, config: Any, threads: int | None = None) -> MeasuredCache:
    """The cache that a name stands for: ``dynamic``, ``quanto:4``, ``hqq:4``, or a policy."""
    if name == "dynamic":
        return _Dynamic(config)
    backend, _, bits = name.partition(":")
    if backend not in _BACKENDS:
        return _Packed(name, config, threads)
    if not _is_installed(_BACKENDS[backend]):
        raise UnsupportedError(f"{name} needs the package {_BACKENDS[backend]}, which is missing")
    if bits and not bits.isdecimal():
        raise InvalidArgumentError(f"{name!r} has no number of bits; expected {backend}:4")
    return _Quantized(backend, int(bits or 4), config)


def row_values(config: Any) -> int:
    """Values of a token's keys in one layer."""
    heads: int = config.num_attention_heads
    dim: int = getattr(config, "head_dim", None) or config.hidden_size // heads
    return (getattr(config, "num_key_value_heads", None) or heads) * dim


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def stored_bytes(value: Any) -> int:
    """Bytes of all tensors in a structure, wherever a quantized one keeps its parts."""
    if isinstance(value, torch.Tensor):
        if hasattr(value, "__tensor_flatten__"):
            names, _ = value.__tensor_flatten__()
            return sum(stored_bytes(getattr(value, name)) for name in names)
        return value.numel() * value.element_size()
    if isinstance(value, dict):
        return sum(stored_bytes(part) for part in value.values())
    if isinstance(value, (list, tuple)):
        return sum(stored_bytes(part) for part in value)
    return 0
