"""Caches and sequences on arrays."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from conftest import RandomRows

import nibblekv
from nibblekv._arrays import Output, Rows


def exact_attention(
    rows: RandomRows, keys: np.ndarray, values: np.ndarray, window: int | None = None
) -> np.ndarray:
    """The last token's attention in double precision."""
    first = 0 if window is None else len(keys) - window
    heads = np.repeat(keys[first:], 2, axis=1).astype(np.float64)
    scores = np.einsum("hd,thd->ht", rows.queries[-1], heads) / np.sqrt(rows.head_dim)
    weights = np.exp(scores - scores.max(1, keepdims=True))
    weights /= weights.sum(1, keepdims=True)
    return np.einsum("ht,thd->hd", weights, np.repeat(values[first:], 2, axis=1))


@pytest.mark.parametrize("policy", ["exact", "balanced", "linear:4@page_tokens=16@recent=16"])
@pytest.mark.parametrize("window", [None, 20])
def test_attends_to_the_rows_that_it_decodes(rows, policy, window):
    sequence = rows.cache(policy).sequence()
    rows.append(sequence)
    keys, values = sequence.rows(1, 100)
    output = sequence.attend(1, rows.queries[-1:], window=window)
    expected = exact_attention(rows, keys, values, window)
    assert np.abs(output[0] - expected).max() < 0.02
    assert np.abs(keys - rows.keys).max() < (1e-6 if policy == "exact" else 0.6)


def test_scale_and_soft_cap_are_taken(rows):
    sequence = rows.cache("exact").sequence()
    rows.append(sequence)
    plain = sequence.attend(0, rows.queries[-1:])
    assert np.allclose(sequence.attend(0, rows.queries[-1:], scale=32**-0.5), plain, atol=1e-6)
    assert not np.allclose(sequence.attend(0, rows.queries[-1:], scale=1.0), plain, atol=1e-2)
    assert not np.allclose(sequence.attend(0, rows.queries[-1:], soft_cap=0.1), plain, atol=1e-2)


@pytest.mark.parametrize("tokens", [0, 1, 16, 17, 90, 100])
def test_a_prompt_in_steps_is_compressed(rows, tokens):
    sequence = rows.cache("linear:4@page_tokens=16@recent=16@sinks=0").sequence()
    steps = sequence.prompt_steps(tokens)
    assert [row for step in steps for row in range(tokens)[step]] == list(range(tokens))
    for layer in range(sequence.cache.layers):
        for step in steps:
            sequence.append(layer, rows.keys[step], rows.values[step])
    # All full pages that are older than the newest tokens before the last one.
    expected = max(0, tokens - 1 - 16) // 16 * 16
    assert sequence.statistics.compressed_tokens == expected


def test_dense_float32_is_not_copied(rows):
    tensor = torch.from_numpy(rows.keys)
    for array in (rows.keys, tensor, rows.keys.reshape(100, 64), rows.keys[10:20]):
        taken = Rows(array, 2, 32, "keys")
        own = array.data_ptr() if isinstance(array, torch.Tensor) else array.ctypes.data
        assert (taken.address, taken.is_copy) == (own, False)
    out = np.zeros_like(rows.queries)
    output = Output(Rows(rows.queries, 4, 32, "queries"), out, rows.queries, 4, 32)
    assert output.address == out.ctypes.data
    assert output.finish() is out
    assert Rows(tensor.to(torch.bfloat16), 2, 32, "keys").is_copy
    assert Rows(rows.keys.transpose(0, 2, 1).copy().transpose(0, 2, 1), 2, 32, "keys").is_copy


@pytest.mark.parametrize(
    "convert",
    [
        lambda array: array.astype(np.float16),
        lambda array: array.astype(np.float64),
        lambda array: torch.from_numpy(array),
        lambda array: torch.from_numpy(array).to(torch.float16),
        lambda array: torch.from_numpy(array).to(torch.bfloat16),
        lambda array: np.asfortranarray(array),
    ],
)
def test_other_arrays_give_the_same_within_their_precision(rows, convert):
    plain = rows.cache("exact").sequence()
    rows.append(plain)
    expected = plain.attend(0, rows.queries[-3:])
    other = rows.cache("exact").sequence()
    for layer in range(2):
        other.append(layer, convert(rows.keys), convert(rows.values))
    queries = convert(rows.queries[-3:])
    output = other.attend(0, queries)
    assert output.dtype == queries.dtype
    out = torch.zeros(queries.shape) if isinstance(queries, torch.Tensor) else np.zeros((3, 4, 32))
    assert other.attend(0, queries, out=out) is out
    for result in (output, out):
        result = result.float().numpy() if isinstance(result, torch.Tensor) else result
        assert np.abs(result - expected).max() < 0.02


def test_writes_to_the_buffer_that_is_given(rows):
    sequence = rows.cache().sequence()
    rows.append(sequence)
    expected = sequence.attend(0, rows.queries[-2:])
    strided = np.zeros((2, 8, 32), np.float32)[:, ::2]
    sequence.attend(0, rows.queries[-2:], out=strided)
    assert np.array_equal(strided, expected)


def test_forks_and_truncation(rows):
    cache = rows.cache()
    sequence = cache.sequence()
    rows.append(sequence, 0, 90)
    branch = sequence.fork()
    assert cache.statistics.sequences == 2
    rows.append(branch, 90, 100)
    assert (sequence.length, branch.length) == (90, 100)
    branch.truncate(30)
    assert (sequence.length, branch.length) == (90, 30)
    branch.close()
    assert cache.statistics.sequences == 1
    rows.append(sequence, 90, 100)
    whole = rows.cache().sequence()
    rows.append(whole, 0, 90)
    rows.append(whole, 90, 100)
    queries = rows.queries[-1:]
    assert np.array_equal(sequence.attend(1, queries), whole.attend(1, queries))


def test_pages_behind_a_sliding_window_are_freed(rows):
    policy = "exact@page_tokens=16@recent=16"
    full = rows.cache(policy).sequence()
    sliding = rows.cache(policy, sliding_windows=[32, None]).sequence()
    for first in range(0, 100, 10):
        rows.append(full, first, first + 10)
        rows.append(sliding, first, first + 10)
    assert sliding.statistics.total_bytes < full.statistics.total_bytes
    queries = rows.queries[-1:]
    expected = full.attend(0, queries, window=32)
    assert np.array_equal(sliding.attend(0, queries, window=32), expected)
    assert np.array_equal(sliding.attend(1, queries), full.attend(1, queries))
    with pytest.raises(nibblekv.InvalidArgumentError, match="has dropped position 0"):
        sliding.attend(0, queries)
    with pytest.raises(nibblekv.InvalidArgumentError, match="1 windows, but there are 2 layers"):
        rows.cache(policy, sliding_windows=[32])
    with pytest.raises(nibblekv.InvalidArgumentError, match="16777217; expected 1 to 16777216"):
        rows.cache(policy, sliding_windows=[None, 16777217])


def test_calibrations_are_needed_and_read(rows, tmp_path):
    policy = "trellis:3@k.rotation=aligned"
    with pytest.raises(nibblekv.InvalidPolicyError, match="no calibration is given"):
        rows.cache(policy)
    with pytest.raises(nibblekv.FileFailedError, match="No such file"):
        rows.cache(policy, calibration=tmp_path / "none.calibration")
    (tmp_path / "wrong.calibration").write_bytes(bytes(8) + b"{}")
    with pytest.raises(nibblekv.FileFailedError, match="wrong"):
        rows.cache(policy, calibration=tmp_path / "wrong.calibration")


def test_prompts_continue_what_is_remembered(rows):
    cache = rows.cache()
    sequence = cache.sequence()
    rows.append(sequence)
    ids = np.arange(100)
    sequence.record_tokens(ids)
    assert np.array_equal(sequence.tokens, ids)
    sequence.remember()
    found = cache.continuing(torch.arange(120))
    assert found.length == 100
    assert np.array_equal(found.attend(0, rows.queries[-1:]), sequence.attend(0, rows.queries[-1:]))
    assert cache.continuing([5, 6, 7]).length == 0
    assert cache.statistics.prefix_hits == 1
    nothing = rows.cache(prefix_limit=0)
    other = nothing.sequence()
    rows.append(other)
    other.record_tokens(ids)
    other.remember()
    assert nothing.continuing(ids).length == 0


def test_sessions_go_on_bit_for_bit(rows, tmp_path):
    sequence = rows.cache(fingerprint="a").sequence()
    rows.append(sequence)
    sequence.save(tmp_path / "a.session")
    restored = rows.cache(fingerprint="a").restore(tmp_path / "a.session")
    assert restored.length == 100
    queries = rows.queries[-1:]
    assert np.array_equal(restored.attend(1, queries), sequence.attend(1, queries))
    with pytest.raises(nibblekv.OtherSessionError):
        rows.cache(fingerprint="b").restore(tmp_path / "a.session")
    with pytest.raises(nibblekv.FileFailedError, match="none"):
        rows.cache().restore(tmp_path / "none")


def test_pages_move_to_disk(rows, tmp_path):
    cache = rows.cache(disk=tmp_path, disk_limit="64MiB")
    sequence = cache.sequence()
    rows.append(sequence)
    expected = sequence.attend(1, rows.queries[-1:])
    sequence.move_to_disk()
    assert sequence.statistics.stored_pages > 0
    assert cache.statistics.disk_bytes > 0
    assert np.array_equal(sequence.attend(1, rows.queries[-1:]), expected)


@pytest.mark.parametrize("kind", ["file", "text"])
def test_policies_are_files_or_texts(rows, tmp_path, kind, monkeypatch):
    text = "version: 1\npage_tokens: 32\nkeys: int8\nvalues: linear:4\n"
    (tmp_path / "policy").write_text(text)
    monkeypatch.chdir(tmp_path)
    from pathlib import Path

    cache = rows.cache(Path("policy") if kind == "file" else text)
    assert cache.statistics.page_tokens == 32


def test_mistakes_are_errors_of_their_kind(rows):
    cache = rows.cache()
    sequence = cache.sequence()
    rows.append(sequence)
    invalid = nibblekv.InvalidArgumentError
    for call, words in (
        (lambda: sequence.append(2, rows.keys, rows.values), "layer is 2; expected 0 to 1"),
        (lambda: sequence.append(-1, rows.keys, rows.values), "layer is -1"),
        (lambda: sequence.append(0, rows.keys, rows.values[:9]), "100 tokens, but values 9"),
        (lambda: sequence.append(0, rows.queries, rows.values), r"expected \(tokens, 2, 32\)"),
        (lambda: sequence.append(0, rows.keys * np.nan, rows.values), "nan"),
        (lambda: sequence.append(0, rows.keys.astype(int), rows.values), "floating-point"),
        (lambda: sequence.append(0, [[1.0]], rows.values), "shape"),
        (lambda: sequence.attend(0, np.zeros((101, 4, 32), np.float32)), "101"),
        (lambda: sequence.attend(0, rows.queries, out=np.zeros((3, 4, 32))), "out has 3 tokens"),
        (lambda: sequence.attend(0, rows.queries, window=0), "window is 0"),
        (lambda: sequence.rows(0, 101), "101"),
        (lambda: sequence.truncate(101), "101"),
        (lambda: sequence.truncate(-1), "-1"),
        (lambda: sequence.record_tokens([-4]), "-4"),
        (lambda: nibblekv.Cache(2, 3, 2, 32), "multiple"),
        (lambda: nibblekv.Cache(2, 4, 2, 33), "33"),
        (lambda: nibblekv.Cache(2, 4, 0, 32), "kv_heads is 0"),
        (lambda: rows.cache(budget="12 MB"), "12 MB"),
        (lambda: rows.cache(budget=0), "budget is 0"),
        (lambda: rows.cache(disk_limit=5), "disk_folder"),
        (lambda: rows.cache("int8\ud800"), "policy cannot .* at character 4"),
        (lambda: rows.cache(fingerprint="\udfff"), "fingerprint cannot"),
    ):
        with pytest.raises(invalid, match=words) as caught:
            call()
        assert caught.value.status == 1
    with pytest.raises(nibblekv.InvalidPolicyError, match="did you mean") as caught:
        rows.cache("rotatde:4")
    assert caught.value.status == 2
    with pytest.raises(nibblekv.OverBudgetError, match="4096 bytes"):
        rows.append(rows.cache(budget="4KiB").sequence())
    read_only = np.zeros_like(rows.queries)
    read_only.flags.writeable = False
    with pytest.raises(invalid, match="written"):
        sequence.attend(0, rows.queries, out=read_only)
    # A call that fails leaves all as it was.
    assert sequence.length == 100


def test_handles_are_freed_once(rows):
    with rows.cache() as cache, cache.sequence() as sequence:
        rows.append(sequence)
        cache.close()
        assert sequence.attend(0, rows.queries[-1:]).shape == (1, 4, 32)
    sequence.close()
    for call in (lambda: sequence.length, lambda: cache.statistics, cache.sequence):
        with pytest.raises(nibblekv.InvalidArgumentError, match="closed"):
            call()


def test_threads_use_a_cache_together(rows):
    cache = rows.cache()
    reference = cache.sequence()
    rows.append(reference)
    expected = reference.attend(0, rows.queries[-1:])
    outputs = []

    def work() -> None:
        sequence = cache.sequence()
        rows.append(sequence)
        outputs.append(sequence.attend(0, rows.queries[-1:]))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outputs) == 4
    assert all(np.array_equal(output, expected) for output in outputs)
