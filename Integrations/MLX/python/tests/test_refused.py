"""What is refused, by which error, and that nothing is left behind."""

from __future__ import annotations

import json
from pathlib import Path

import mlx.core as mx
import pytest
from conftest import HEAD_DIM, KV_HEADS, KVCache, Save, filled
from mlx_lm.models.cache import ArraysCache

import nibblekv_mlx
from nibblekv import (
    FileFailedError,
    InvalidArgumentError,
    InvalidPolicyError,
    NibbleError,
    OtherSessionError,
    UnsupportedError,
)


def compressed(path: Path) -> Path:
    session = path.with_suffix(".session")
    nibblekv_mlx.compress(path, session, "linear:4@recent=16")
    return session


def refused(path: Path, kind: type[NibbleError], *words: str) -> None:
    """Compressing is an error of the kind, which says the words, and writes no file."""
    before = sorted(path.parent.iterdir())
    with pytest.raises(kind) as caught:
        nibblekv_mlx.compress(path, path.with_suffix(".session"), "linear:4")
    assert type(caught.value) is kind
    for word in words:
        assert word in str(caught.value)
    assert sorted(path.parent.iterdir()) == before


def test_caches_that_are_not_covered(save: Save) -> None:
    arrays = ArraysCache(2)
    arrays[0] = arrays[1] = mx.ones((1, 3, 8))
    refused(
        save([filled(KVCache(), [9]), arrays]), UnsupportedError, "cache 1 (ArraysCache): expected"
    )


def test_a_batch(save: Save) -> None:
    refused(
        save([filled(KVCache(), [9], shape=(2, KV_HEADS, HEAD_DIM))]),
        UnsupportedError,
        "batch of 2",
    )


def test_keys_and_values_of_different_types(save: Save) -> None:
    cache = filled(KVCache(), [9])
    cache.values = cache.values.astype(mx.float32)
    refused(save([cache]), UnsupportedError, "F16, F32")


def test_keys_and_values_of_different_shapes(save: Save) -> None:
    cache = filled(KVCache(), [9])
    cache.values = cache.values[..., :32]
    refused(save([cache]), UnsupportedError, "cache 0", "keys of the shape")


def test_layers_of_different_shapes(save: Save) -> None:
    caches = [filled(KVCache(), [9]), filled(KVCache(), [9], shape=(1, KV_HEADS, 32))]
    refused(save(caches), UnsupportedError, "(2, 32)", "(2, 64)")


def test_a_trimmed_cache_without_tokens(save: Save) -> None:
    cache = filled(KVCache(), [9])
    cache.trim(9)
    refused(save([cache]), UnsupportedError, "empty")


def test_rows_that_are_not_finite(save: Save) -> None:
    cache = filled(KVCache(), [9])
    cache.keys[0, 1, 3, 5] = float("nan")
    refused(save([cache]), InvalidArgumentError, "new token 3", "head 1", "channel 5")


def test_a_head_dimension_that_no_page_has(save: Save) -> None:
    refused(save([filled(KVCache(), [9], shape=(1, 1, 12))]), InvalidArgumentError, "12")


def test_a_policy_with_a_mistake(simple: Path) -> None:
    with pytest.raises(InvalidPolicyError):
        nibblekv_mlx.compress(simple, simple.with_suffix(".session"), "linear:9")
    with pytest.raises(InvalidPolicyError, match="cannot be read"):
        nibblekv_mlx.compress(simple, simple.with_suffix(".session"), "missing/policy.yaml")


def test_a_wrong_number_of_token_ids(simple: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="129 token ids"):
        nibblekv_mlx.compress(simple, simple.with_suffix(".session"), tokens=range(129))
    assert not simple.with_suffix(".session").exists()


def test_model_state_of_mlx_swift_lm(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    rows = mx.ones((1, KV_HEADS, 8, HEAD_DIM))
    arrays = {"0.0": rows, "0.1": rows, "__mlx_lm_state_tensor_0": mx.ones((1,))}
    metadata = {"0.0.0": "", "2.0": "__mlx_lm_state_v1__:KVCache"}
    mx.save_safetensors(str(path), arrays, metadata)
    refused(path, UnsupportedError, "model's state")


def test_safetensors_that_are_no_prompt_cache(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    mx.save_safetensors(str(path), {"0.0": mx.ones((1, 2, 3, 4))}, {"format": "mlx"})
    refused(path, FileFailedError, "no prompt cache")


WRONG_STATES = [
    pytest.param(["0", "64", "20", "30"], id="writes-past-its-tokens"),
    pytest.param(["70", "64", "100", "64"], id="keeps-more-than-it-has"),
    pytest.param(["8", "64", "100", "4"], id="writes-to-what-it-keeps"),
    pytest.param(["0", "64", "50", "20"], id="begins-anew-before-it-is-full"),
    pytest.param(["0", "64", "100", "-1"], id="negative"),
    pytest.param(["0", "64", "much", "8"], id="no-number"),
    pytest.param(["0", "64"], id="too-short"),
]


@pytest.mark.parametrize("state", WRONG_STATES)
def test_states_that_do_not_fit_their_rows(tmp_path: Path, state: list[str]) -> None:
    path = tmp_path / "wrong.safetensors"
    rows = mx.ones((1, KV_HEADS, 64, HEAD_DIM))
    metadata = {f"0.0.{j}": text for j, text in enumerate(state)} | {"2.0": "RotatingKVCache"}
    mx.save_safetensors(str(path), {"0.0": rows, "0.1": rows}, metadata)
    refused(path, FileFailedError, "cache 0 (RotatingKVCache)")


def test_codes_that_do_not_fit_their_scales(tmp_path: Path) -> None:
    path = tmp_path / "wrong.safetensors"
    codes = mx.quantize(mx.ones((1, KV_HEADS, 64, HEAD_DIM)), group_size=64, bits=4)
    arrays = {f"0.{side}.{j}": array for side in (0, 1) for j, array in enumerate(codes)}
    for bits, groups in ((8, 64), (4, 32), (4, 7), (0, 64)):
        metadata = {"0.0.0": "64", "0.0.1": str(groups), "0.0.2": str(bits)}
        mx.save_safetensors(str(path), arrays, metadata | {"2.0": "QuantizedKVCache"})
        refused(path, FileFailedError, "cache 0 (QuantizedKVCache)")
    arrays["0.1.2"] = arrays["0.1.2"][:, :, :60]
    metadata = {"0.0.0": "64", "0.0.1": "64", "0.0.2": "4", "2.0": "QuantizedKVCache"}
    mx.save_safetensors(str(path), arrays, metadata)
    refused(path, FileFailedError, "0.1.2")


def test_quantized_rows_without_biases(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    codes = mx.quantize(mx.ones((1, KV_HEADS, 64, HEAD_DIM)), group_size=32, bits=4, mode="mxfp4")
    arrays = {f"0.{2 * side + j}": array for side in (0, 1) for j, array in enumerate(codes)}
    metadata = {f"0.0.{j}": text for j, text in enumerate(["256", "64", "32", "4"])}
    mx.save_safetensors(str(path), arrays, metadata | {"2.0": "QuantizedKVCache"})
    refused(path, UnsupportedError, "without biases")


def test_a_prompt_cache_that_is_cut_off(simple: Path) -> None:
    whole = simple.read_bytes()
    for length in (0, 1, 7, 8, 100, 1000, len(whole) // 2, len(whole) - 1):
        simple.write_bytes(whole[:length])
        refused(simple, FileFailedError, simple.name)
    simple.unlink()
    refused(simple, FileFailedError, simple.name)


def test_a_damaged_file_beside_the_session(simple: Path) -> None:
    session = compressed(simple)
    beside, restored = Path(f"{session}.mlx.json"), simple.with_name("restored.safetensors")
    whole = beside.read_bytes()
    # Every digit and letter counts; space between fields does not.
    places = [n for n, byte in enumerate(whole) if chr(byte).isalnum()]
    for place in places[:: len(places) // 150]:
        beside.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises((FileFailedError, UnsupportedError)):
            nibblekv_mlx.restore(session, restored)
    for length in (0, 1, len(whole) // 2):
        beside.write_bytes(whole[:length])
        with pytest.raises(FileFailedError):
            nibblekv_mlx.restore(session, restored)
    beside.unlink()
    with pytest.raises(FileFailedError, match="cannot be read"):
        nibblekv_mlx.restore(session, restored)
    assert not restored.exists()


WRONG_LAYERS: list[dict[str, object]] = [
    {"tokens": 0},
    {"rows": 1 << 40},
    {"turn": 1 << 20},
    {"turn": 9, "tokens": 100},
    {"dtype": "float64"},
    {"keys": []},
    {"bits": 7},
    {"keep": -1},
    {"kind": 5},
    {"more": 5},
]
WRONG_CONTENT: list[dict[str, object]] = [
    {"layers": []},
    {"shape": {}},
    {"fingerprint": 5},
    {"policy": None},
    {"policy": "/etc/policy"},
    {"policy": "policy.yaml"},
    {"policy": "{\u0301/policy"},
    {"metadata": {}},
    {"metadata": {"2.0": 5}},
    {"scalars": {"0.2": "x"}},
    {"more": 5},
]


@pytest.mark.parametrize("wrong", WRONG_LAYERS, ids=str)
def test_layers_that_no_session_has(simple: Path, wrong: dict[str, object]) -> None:
    session = compressed(simple)
    content = json.loads(Path(f"{session}.mlx.json").read_text())["content"]
    content["layers"][1].update(wrong)
    refused_beside(session, content)


@pytest.mark.parametrize("wrong", WRONG_CONTENT, ids=str)
def test_content_that_no_session_has(simple: Path, wrong: dict[str, object]) -> None:
    session = compressed(simple)
    content = json.loads(Path(f"{session}.mlx.json").read_text())["content"]
    refused_beside(session, content | wrong)


def refused_beside(session: Path, content: dict[str, object]) -> None:
    """Restoring with such content, under the right checksum, is an error."""
    from nibblekv_mlx._sidecar import _checksum

    document = {"format": 1, "sha256": _checksum(content), "content": content}
    Path(f"{session}.mlx.json").write_text(json.dumps(document))
    with pytest.raises(FileFailedError, match="wrong fields"):
        nibblekv_mlx.restore(session, session.with_name("restored.safetensors"))


def test_a_newer_format(simple: Path) -> None:
    session = compressed(simple)
    beside = Path(f"{session}.mlx.json")
    beside.write_text(json.dumps({**json.loads(beside.read_text()), "format": 2}))
    with pytest.raises(UnsupportedError, match="format 2"):
        nibblekv_mlx.restore(session, simple.with_name("restored.safetensors"))


def test_another_session(simple: Path, save: Save) -> None:
    session = compressed(simple)
    other = compressed(save([filled(KVCache(), [50])], "other.safetensors"))
    session.write_bytes(other.read_bytes())
    with pytest.raises(OtherSessionError, match="is not the session"):
        nibblekv_mlx.restore(session, simple.with_name("restored.safetensors"))


def test_a_damaged_page(simple: Path) -> None:
    session = compressed(simple)
    whole = bytearray(session.read_bytes())
    whole[10_000] ^= 1
    session.write_bytes(whole)
    restored = simple.with_name("restored.safetensors")
    with pytest.raises(FileFailedError):
        nibblekv_mlx.restore(session, restored)
    assert not restored.exists()


def test_a_folder_that_is_not_there(simple: Path) -> None:
    session = compressed(simple)
    with pytest.raises(FileFailedError, match="missing"):
        nibblekv_mlx.restore(session, simple.parent / "missing" / "restored.safetensors")
    with pytest.raises(FileFailedError, match="missing"):
        nibblekv_mlx.compress(simple, simple.parent / "missing" / "a.session")
