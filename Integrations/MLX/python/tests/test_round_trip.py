"""What a restored prompt cache has in common with the one that was compressed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from conftest import (
    HEAD_DIM,
    KV_HEADS,
    LAYERS,
    VOCABULARY,
    KVCache,
    QuantizedKVCache,
    RotatingKVCache,
    Save,
    assert_same_file,
    filled,
    held_rows,
    small_model,
)
from mlx_lm.models.cache import (
    load_prompt_cache,
    make_prompt_cache,
    save_prompt_cache,
    trim_prompt_cache,
)

import nibblekv_mlx


def there_and_back(path: Path, policy: str, **options: Any) -> Path:
    """The restored file of a prompt cache."""
    session, restored = path.with_suffix(".session"), path.with_name("restored.safetensors")
    nibblekv_mlx.compress(path, session, policy, **options)
    nibblekv_mlx.restore(session, restored)
    return restored


LOSSLESS = [
    (mx.float16, "exact"),
    (mx.float16, "float16"),
    (mx.bfloat16, "exact"),
    (mx.float32, "exact"),
]


@pytest.mark.parametrize(("dtype", "policy"), LOSSLESS)
def test_lossless_policies_give_the_same_file(save: Save, dtype: mx.Dtype, policy: str) -> None:
    model = small_model(dtype)
    caches = make_prompt_cache(model)
    prompt = mx.random.randint(0, VOCABULARY, (1, 200))
    mx.eval(model(prompt, cache=caches))
    path = save(caches)

    restored = there_and_back(path, policy)

    assert_same_file(path, restored)
    again, metadata = load_prompt_cache(str(restored), return_metadata=True)
    assert metadata == {"model": "random", "title": "Mäuse"}
    assert mx.array_equal(model(prompt[:, :7], cache=caches), model(prompt[:, :7], cache=again))


ROTATING = [
    pytest.param([20, 1, 1], id="has-room"),
    pytest.param([64], id="just-full"),
    pytest.param([60, *[1] * 9], id="begun-anew"),
    pytest.param([30, *[1] * 100], id="begun-anew-twice"),
    pytest.param([100], id="long-prompt"),
    pytest.param([100, 1], id="long-prompt-and-a-token"),
    pytest.param([60, *[1] * 9, 20], id="begun-anew-and-a-prompt"),
]


@pytest.mark.parametrize("steps", ROTATING)
@pytest.mark.parametrize("keep", [0, 4])
def test_rotating_caches_turn_as_before(save: Save, steps: list[int], keep: int) -> None:
    cache = filled(RotatingKVCache(max_size=64, keep=keep), steps)
    path = save([cache])

    restored = there_and_back(path, "float16")

    assert_same_file(path, restored)
    (again,) = load_prompt_cache(str(restored))
    # The next tokens take the places of the same rows.
    for both in (cache, again):
        filled(both, [1] * 30, seed=8)
    for first, second in zip(held_rows(cache), held_rows(again), strict=True):
        assert mx.array_equal(first, second)


def test_sessions_hold_rotating_rows_from_the_oldest_on(save: Save) -> None:
    keys = mx.arange(80.0).reshape(1, 1, 80, 1) * mx.ones((1, KV_HEADS, 1, HEAD_DIM))
    cache = RotatingKVCache(max_size=64, keep=4)
    for token in range(80):
        row = keys[:, :, token : token + 1]
        cache.update_and_fetch(row, row)
    path = save([cache])
    nibblekv_mlx.compress(path, path.with_suffix(".session"), "exact")

    from nibblekv import Cache

    with Cache(1, KV_HEADS, KV_HEADS, HEAD_DIM, "exact") as store:
        held = store.restore(path.with_suffix(".session")).rows(0, 64)[0][:, 0, 0]
    assert np.array_equal(held, [0, 1, 2, 3, *range(20, 80)])


def test_layers_may_hold_different_numbers_of_tokens(save: Save) -> None:
    caches = [
        filled(KVCache(), [150]),
        filled(RotatingKVCache(max_size=32), [140, *[1] * 10]),
    ]
    path = save(caches)
    assert_same_file(path, there_and_back(path, "float16"))


def test_rows_behind_a_trim_are_gone(save: Save) -> None:
    caches = [filled(KVCache(), [90], seed=seed) for seed in range(LAYERS)]
    trim_prompt_cache(caches, 25)

    again = load_prompt_cache(str(there_and_back(save(caches), "float16")))

    for cache, other in zip(caches, again, strict=True):
        assert other.offset == 65
        for first, second in zip(held_rows(cache), held_rows(other), strict=True):
            assert mx.array_equal(first, second)
        assert not mx.any(other.keys[:, :, 65:])


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
@pytest.mark.parametrize("group_size", [32, 64])
def test_quantized_caches_stay_quantized(save: Save, bits: int, group_size: int) -> None:
    cache = filled(KVCache(), [90]).to_quantized(group_size=group_size, bits=bits)
    (again,) = load_prompt_cache(str(there_and_back(save([cache]), "exact")))

    assert isinstance(again, QuantizedKVCache)
    assert (again.offset, again.group_size, again.bits) == (90, group_size, bits)
    for first, second, arrays in zip(
        held_rows(cache), held_rows(again), (cache.keys, cache.values), strict=True
    ):
        step = mx.repeat(mx.abs(arrays[1][:, :, :90].astype(mx.float32)), group_size, axis=-1)
        # MLX may choose another scale and zero for codes than for the rows that they stand for.
        assert bool(mx.all(mx.abs(first - second) <= 1.15 * step))
        assert float(mx.mean(first == second)) > 0.7


def swift_file(path: Path, caches: list[tuple[str, list[mx.array], list[str]]]) -> Path:
    """A file as ``savePromptCache`` of mlx-swift-lm writes it: class, arrays, state of each."""
    arrays = {
        f"{i}.{j}": array for i, cache in enumerate(caches) for j, array in enumerate(cache[1])
    }
    metadata = {
        f"0.{i}.{j}": text for i, cache in enumerate(caches) for j, text in enumerate(cache[2])
    }
    metadata |= {f"2.{i}": cache[0] for i, cache in enumerate(caches)}
    mx.save_safetensors(str(path), arrays, metadata | {"1.model": "random"})
    return path


def test_files_of_mlx_swift_lm(tmp_path: Path) -> None:
    rows = list(mx.random.normal((2, 1, KV_HEADS, 64, HEAD_DIM)).astype(mx.float16))
    path = swift_file(
        tmp_path / "swift.safetensors",
        [
            ("KVCache", rows, [""]),
            ("RotatingKVCache", rows, ["4", "64", "256", "90", "30", "modelNative"]),
            ("RotatingKVCache", rows, ["0", "128", "256", "64", "64"]),
        ],
    )
    assert_same_file(path, there_and_back(path, "float16"))
    summary = nibblekv_mlx.describe(path)
    assert (summary.caches, summary.tokens, summary.offset) == (
        {"KVCache": 1, "RotatingKVCache": 2},
        64,
        90,
    )


def test_quantized_files_of_mlx_swift_lm(tmp_path: Path) -> None:
    mx.random.seed(4)
    rows = mx.random.normal((2, 1, KV_HEADS, 50, HEAD_DIM))
    codes = [array for part in rows for array in mx.quantize(part, group_size=64, bits=8)]
    path = swift_file(
        tmp_path / "swift.safetensors", [("QuantizedKVCache", codes, ["256", "50", "64", "8"])]
    )

    restored = there_and_back(path, "exact")

    arrays, metadata = mx.load(str(restored), return_metadata=True)
    assert metadata == mx.load(str(path), return_metadata=True)[1]
    for part, first in zip(rows, (0, 3), strict=True):
        again = mx.dequantize(*[arrays[f"0.{first + j}"] for j in range(3)], group_size=64, bits=8)
        assert float(mx.max(mx.abs(again - part))) < 0.05


def test_token_ids_and_other_hosts(simple: Path) -> None:
    from nibblekv import Cache

    session = simple.with_suffix(".session")
    summary = nibblekv_mlx.compress(
        simple, session, "linear:4", tokens=range(130), query_heads=8, fingerprint="random"
    )
    assert (summary.recorded_tokens, summary.policy) == (130, "linear:4")
    assert summary.session_bytes is not None and summary.prompt_cache_bytes is not None
    cache = Cache(LAYERS, 8, KV_HEADS, HEAD_DIM, "linear:4", fingerprint="random")
    with cache, cache.restore(session) as sequence:
        assert list(sequence.tokens) == list(range(130))
        output = sequence.attend(0, np.ones((1, 8, HEAD_DIM), np.float32))
        assert np.isfinite(output).all()


def test_policies_in_files_travel_with_the_session(simple: Path) -> None:
    policy = simple.with_name("policy.yaml")
    policy.write_text("version: 1\nkeys: int8\nvalues: linear:4\nrecent: 16\n")
    session = simple.with_suffix(".session")
    nibblekv_mlx.compress(simple, session, policy)
    policy.unlink()
    assert nibblekv_mlx.restore(session, simple.with_name("again.safetensors")).tokens == 130
    policy.write_text(' {"version": 1, "keys": "int8", "values": "int8"}')
    nibblekv_mlx.compress(simple, session, policy)
    policy.unlink()
    assert nibblekv_mlx.restore(session, simple.with_name("again.safetensors")).tokens == 130


def test_more_tokens_than_are_appended_at_once(save: Save) -> None:
    path = save([filled(KVCache(), [9000], shape=(1, 1, 8))])
    assert_same_file(path, there_and_back(path, "float16"))


def test_a_prompt_cache_without_metadata(tmp_path: Path) -> None:
    path = tmp_path / "prompt.safetensors"
    save_prompt_cache(str(path), [filled(KVCache(), [20])])
    assert_same_file(path, there_and_back(path, "float16"))
    assert nibblekv_mlx.describe(path).metadata == {}
