"""Small models with random weights, and rows with a seed."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

REPOSITORY = Path(__file__).resolve().parents[3]
EMBEDDED_MODEL = REPOSITORY / "Examples" / "Models" / "harbour-3m"
VOCABULARY = 211

torch.set_num_threads(1)

_SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 1024,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": None,
    "initializer_range": 0.2,
}
_MIXED = ["sliding_attention", "full_attention"] * 2


def configuration(family: str) -> Any:
    """A family of transformers in miniature."""
    match family:
        case "llama":
            return transformers.LlamaConfig(**_SHAPE)
        case "qwen2":
            return transformers.Qwen2Config(**_SHAPE)
        case "qwen3":
            return transformers.Qwen3Config(**_SHAPE)
        case "mistral":
            return transformers.MistralConfig(**_SHAPE, sliding_window=24)
        case "gemma2":
            return transformers.Gemma2Config(
                **_SHAPE,
                sliding_window=24,
                layer_types=_MIXED,
                query_pre_attn_scalar=20,
                attn_logit_softcapping=3.0,
            )
        case "gemma3":
            return transformers.Gemma3TextConfig(
                **_SHAPE, sliding_window=24, layer_types=_MIXED, query_pre_attn_scalar=20
            )
    raise AssertionError(family)


FAMILIES = ["llama", "qwen2", "qwen3", "mistral", "gemma2", "gemma3"]


def small_model(family: str, seed: int = 7) -> Any:
    torch.manual_seed(seed)
    # Only eager attention has soft caps; early versions of transformers 5 leave them out in others.
    own = {"attn_implementation": "eager"} if family == "gemma2" else {}
    return transformers.AutoModelForCausalLM.from_config(configuration(family), **own).eval()


def prompt(tokens: int, batch: int = 1, seed: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(2, VOCABULARY, (batch, tokens), generator=generator)


def generate(model: Any, ids: torch.Tensor, cache: Any = None, **options: Any) -> torch.Tensor:
    """Greedy output with a cache, or with the one that transformers chooses."""
    options = {"max_new_tokens": 40, "do_sample": False, "pad_token_id": 0, **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.generate(ids, past_key_values=cache, **options)


@torch.no_grad()
def logits(model: Any, ids: torch.Tensor, cache: Any = None, chunk: int = 1024) -> torch.Tensor:
    """Logits of all positions, fed in chunks: (batch, tokens, vocabulary)."""
    from nibblekv.eval._run import cache_argument

    cache = transformers.DynamicCache(config=model.config) if cache is None else cache
    name = cache_argument(model.forward)
    parts = [
        model(input_ids=ids[:, first : first + chunk], use_cache=True, **{name: cache}).logits
        for first in range(0, ids.shape[1], chunk)
    ]
    return torch.cat(parts, dim=1)


class RandomRows:
    """Rows of a layer of the shape that most tests of the cache use."""

    layers, query_heads, kv_heads, head_dim = 2, 4, 2, 32

    def __init__(self, tokens: int, seed: int = 5) -> None:
        numbers = np.random.default_rng(seed)
        self.queries = numbers.standard_normal((tokens, 4, 32), np.float32)
        self.keys = numbers.standard_normal((tokens, 2, 32), np.float32)
        self.values = numbers.standard_normal((tokens, 2, 32), np.float32)

    @classmethod
    def cache(cls, policy: str = "linear:4@page_tokens=16@recent=16", **options: Any) -> Any:
        import nibblekv

        return nibblekv.Cache(
            cls.layers, cls.query_heads, cls.kv_heads, cls.head_dim, policy, **options
        )

    def append(self, sequence: Any, first: int = 0, end: int | None = None) -> None:
        for layer in range(self.layers):
            sequence.append(layer, self.keys[first:end], self.values[first:end])


@pytest.fixture
def rows() -> RandomRows:
    return RandomRows(100)
