"""Small models and caches with random rows, as mlx-lm makes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.models import llama
from mlx_lm.models.cache import KVCache, QuantizedKVCache, RotatingKVCache, save_prompt_cache

REPOSITORY = Path(__file__).resolve().parents[4]
EMBEDDED_MODEL = REPOSITORY / "Examples" / "Models" / "harbour-3m"
LAYERS, KV_HEADS, HEAD_DIM = 3, 2, 64
VOCABULARY = 97

Save = Callable[..., Path]


def small_model(dtype: mx.Dtype) -> Any:
    """A Llama with random weights."""
    mx.random.seed(11)
    model = llama.Model(
        llama.ModelArgs(
            model_type="llama",
            hidden_size=96,
            num_hidden_layers=LAYERS,
            intermediate_size=128,
            num_attention_heads=4,
            num_key_value_heads=KV_HEADS,
            head_dim=HEAD_DIM,
            rms_norm_eps=1e-5,
            vocab_size=VOCABULARY,
        )
    )
    model.set_dtype(dtype)
    return model


def filled(
    cache: Any, steps: list[int], dtype: mx.Dtype = mx.float16, seed: int = 5, shape: Any = None
) -> Any:
    """A cache after random rows of so many tokens at a time; ``shape`` is (batch, heads, dim)."""
    batch, heads, dim = shape or (1, KV_HEADS, HEAD_DIM)
    mx.random.seed(seed)
    for tokens in steps:
        keys, values = mx.random.normal((2, batch, heads, tokens, dim)).astype(dtype)
        cache.update_and_fetch(keys, values)
    return cache


def held_rows(cache: Any) -> list[mx.array]:
    """Keys and values of a cache that hold tokens, in float32."""
    pair = (cache.keys, cache.values)
    if isinstance(cache, QuantizedKVCache):
        pair = tuple(
            mx.dequantize(*part, group_size=cache.group_size, bits=cache.bits) for part in pair
        )
    tokens = min(cache.offset, pair[0].shape[2])
    return [part[:, :, :tokens].astype(mx.float32) for part in pair]


def assert_same_file(first: Path, second: Path) -> None:
    """Metadata and arrays are the same, bit for bit."""
    (arrays, metadata), (others, other_metadata) = (
        mx.load(str(path), return_metadata=True) for path in (first, second)
    )
    assert metadata == other_metadata
    assert arrays.keys() == others.keys()
    for name, array in arrays.items():
        assert (array.dtype, array.shape) == (others[name].dtype, others[name].shape), name
        assert bool(mx.all(array == others[name])), name


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Saves caches to a prompt cache file with some metadata."""

    def save(caches: list[Any], name: str = "prompt.safetensors", **metadata: str) -> Path:
        path = tmp_path / name
        save_prompt_cache(str(path), caches, metadata or {"model": "random", "title": "Mäuse"})
        return path

    return save


@pytest.fixture
def simple(save: Save) -> Path:
    """A prompt cache of 130 tokens in float16."""
    return save([filled(KVCache(), [100, 30], seed=seed) for seed in range(LAYERS)])


__all__ = ["KVCache", "QuantizedKVCache", "RotatingKVCache"]
