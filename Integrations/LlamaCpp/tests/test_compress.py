"""Compressed states: what comes back, and what is refused."""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibblekv
import numpy as np
import pytest
from _states import TYPES, Cells, Saved, saved
from nibblekv import (
    FileFailedError,
    InvalidArgumentError,
    InvalidPolicyError,
    NibbleError,
    UnsupportedError,
)

from nibblekv_llamacpp import _compress, _restore, compress, describe, restore, summary
from nibblekv_llamacpp._layout import read_state

CODED = "linear:4@page_tokens=16@recent=16@sinks=4"


def written(folder: Path, content: bytes, name: str = "a.state") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def round_trip(folder: Path, content: bytes, policy: Any, **options: Any) -> tuple[bytes, bool]:
    state = written(folder, content)
    compress(state, folder / "a.nibble", policy=policy, **options)
    restored = restore(folder / "a.nibble", folder / "b.state")
    assert restored.bytes == len(content)
    assert restored.path == folder / "b.state"
    return restored.path.read_bytes(), restored.is_identical


def rows_of(path: Path) -> list[np.ndarray[Any, Any]]:
    """All rows in float32, keys of all layers before values, of all streams."""
    content = path.read_bytes()
    with path.open("rb") as file:
        state = read_state(file, len(content), str(path))
    raw = np.frombuffer(content, np.uint8)
    return [
        block.decode(raw[block.offset : block.offset + block.size], np.arange(block.cells))
        for block in state.blocks()
    ]


@pytest.mark.parametrize(
    ("policy", "keys", "values", "is_transposed"),
    [("exact", kind, kind, False) for kind in TYPES]
    + [("exact", "q8_0", "f32", True), ("exact", "bf16", "bf16", True)]
    + [("float16", "f16", "f16", False), ("float16", "f16", "f16", True)],
)
def test_policies_that_lose_nothing_give_the_same_bytes(
    tmp_path, policy, keys, values, is_transposed
):
    content = saved(150, keys=keys, values=values, is_transposed=is_transposed).file()
    assert round_trip(tmp_path, content, policy) == (content, True)


def test_streams_parts_and_blobs_come_back(tmp_path):
    streams = [Cells([]), Cells([5, 3, 4], seed=2), Cells([]), Cells([0], seed=3)]
    window = Cells(list(range(3, 60)), channels=64, layers=3, keys="f32", values="bf16")
    state = Saved([streams, [window]], tokens=[1, 2, 3])
    for content in (state.file(), state.blob(sequence=1), Saved([[Cells([])]]).file()):
        assert round_trip(tmp_path, content, "exact") == (content, True)


@pytest.mark.parametrize("cells", [1, 2])
@pytest.mark.parametrize(
    ("kind", "is_transposed"),
    [(kind, False) for kind in TYPES] + [(kind, True) for kind in TYPES if kind != "q8_0"],
)
def test_states_of_one_cell_come_back(tmp_path, kind, is_transposed, cells):
    content = saved(cells, keys=kind, values=kind, is_transposed=is_transposed, channels=64).file()
    assert round_trip(tmp_path, content, "exact") == (content, True)
    round_trip(tmp_path, content, "balanced")


def test_blocks_whose_scale_rounds_to_0_come_back_as_zeros(tmp_path):
    content = bytearray(saved(1, keys="q8_0", values="q8_0", layers=1).file())
    # llama.cpp rounds codes with the scale before it is rounded, so they may be there without it.
    first_block = 12 + 4 + 8 + 12 + 8 + 12
    struct.pack_into("<e32b", content, first_block, 0.0, *range(-16, 0), *range(112, 128))
    result, is_identical = round_trip(tmp_path, bytes(content), "exact")
    assert not is_identical
    end = first_block + 34
    assert result[first_block:end] == bytes(34)
    assert result[:first_block] + result[end:] == content[:first_block] + content[end:]
    for before, after in zip(
        rows_of(tmp_path / "a.state"), rows_of(tmp_path / "b.state"), strict=True
    ):
        assert np.array_equal(before, after)
    assert not rows_of(tmp_path / "b.state")[0].any()


@pytest.mark.parametrize("is_transposed", [False, True])
def test_coded_rows_are_near_and_all_else_is_the_same(tmp_path, is_transposed):
    content = saved(200, layers=3, channels=64, is_transposed=is_transposed).file()
    result, is_identical = round_trip(tmp_path, content, CODED, kv_heads=2)
    assert not is_identical
    compressed = (tmp_path / "a.nibble").stat().st_size
    # 5 bits a value with scales, an eighth of the tokens exact, and a session's 8 KiB of head.
    assert compressed < 0.6 * len(content)
    before, after = rows_of(tmp_path / "a.state"), rows_of(tmp_path / "b.state")
    for exact, near in zip(before, after, strict=True):
        # Sinks and the newest tokens are exact; a step is a fifteenth of a token's range.
        assert np.array_equal(exact[:4], near[:4])
        assert np.array_equal(exact[-16:], near[-16:])
        assert not np.array_equal(exact[4:100], near[4:100])
        steps = np.ptp(exact.reshape(200, 2, 32), axis=-1).repeat(32, axis=1) / 15
        assert (np.abs(exact - near) <= 0.51 * steps + 2e-3).all()
    for offset, size in read_gaps(content):
        assert result[offset : offset + size] == content[offset : offset + size]


def read_gaps(content: bytes) -> list[tuple[int, int]]:
    return list(read_state(io.BytesIO(content), len(content), "a state").gaps())


def test_rows_are_what_a_sequence_of_the_same_policy_has(tmp_path):
    content = saved(90, keys="f32", values="f32", channels=64).file()
    round_trip(tmp_path, content, CODED, kv_heads=4)
    k0, k1, v0, v1 = rows_of(tmp_path / "a.state")
    with nibblekv.Cache(2, 4, 4, 16, CODED) as cache, cache.sequence() as sequence:
        for layer, (keys, values) in enumerate([(k0, v0), (k1, v1)]):
            for token in range(90):
                sequence.append(layer, keys[token : token + 1], values[token : token + 1])
        expected = [sequence.rows(layer, 90) for layer in range(2)]
    r0, r1, s0, s1 = rows_of(tmp_path / "b.state")
    for restored, rows in zip([r0, s0, r1, s1], [*expected[0], *expected[1]], strict=True):
        assert np.array_equal(restored, rows.reshape(90, -1))


def test_cells_are_put_in_order_before_they_are_compressed(tmp_path):
    positions = list(range(64, 128)) + list(range(64))
    content = Saved([[Cells(positions, channels=64)]]).file()
    round_trip(tmp_path, content, CODED, kv_heads=2)
    for exact, near in zip(
        rows_of(tmp_path / "a.state"), rows_of(tmp_path / "b.state"), strict=True
    ):
        same = (exact == near).all(axis=1)
        # Cells 64 to 67 are the first tokens, cell 63 the newest.
        assert same[64:68].all()
        assert same[48:64].all()
        assert not same[:16].any()


def test_a_policy_file_is_kept_as_text(tmp_path):
    policy = written(tmp_path, b"version: 1\nkeys: int8\nvalues: linear:4\nrecent: 0\n", "p.yaml")
    state = written(tmp_path, saved(100).file())
    compress(state, tmp_path / "a.nibble", policy=policy)
    policy.unlink()
    restore(tmp_path / "a.nibble", tmp_path / "b.state")
    assert "linear:4" in str(describe(tmp_path / "a.nibble").policy)
    one_line = written(tmp_path, b' {"version": 1, "keys": "int8", "values": "int8"}', "p.yml")
    compress(state, tmp_path / "a.nibble", policy=str(one_line))
    assert restore(tmp_path / "a.nibble", tmp_path / "b.state").bytes == state.stat().st_size


def test_heads_are_given_or_assumed(tmp_path):
    state = written(tmp_path, saved(20, channels=320).file())

    def heads(**options: Any) -> tuple[int | None, int | None]:
        [stream] = summary(compress(state, tmp_path / "a.nibble", **options)).streams
        return stream.kv_heads, stream.head_dim

    assert heads() == (4, 80)
    assert heads(kv_heads=5) == (5, 64)
    for wrong in (0, -1, 3):
        with pytest.raises(InvalidArgumentError, match=f"kv_heads is {wrong}; expected a divisor"):
            heads(kv_heads=wrong)
    with pytest.raises(InvalidArgumentError, match="kv_heads and model are both given"):
        heads(kv_heads=5, model="m.gguf")
    with pytest.raises(InvalidArgumentError, match="head"):
        heads(kv_heads=80)  # 4 channels each
    written(tmp_path, saved(20, channels=36).file())
    with pytest.raises(UnsupportedError, match="rows have 36 channels; expected a multiple of 8"):
        heads()


def test_what_cannot_be_compressed_is_refused_and_leaves_nothing(tmp_path):
    def refused(content: bytes, error: type[NibbleError], message: str, **options: Any) -> None:
        state = written(tmp_path, content)
        (tmp_path / "a.nibble").write_text("before")
        with pytest.raises(error, match=message):
            compress(state, tmp_path / "a.nibble", **options)
        assert (tmp_path / "a.nibble").read_text() == "before"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.nibble", "a.state"]

    good = saved(40).file()
    uneven = saved(40, value_channels=64).file()
    refused(uneven, UnsupportedError, "values of layer 0 have 64 channels, keys of layer 0 have 32")
    refused(good[:-1], FileFailedError, "values of layer 1")
    refused(good, InvalidPolicyError, "rotate", policy="rotate:4")
    refused(good, InvalidPolicyError, "cannot be read", policy="missing.yaml")
    infinite = bytearray(saved(40, keys="f32").file())
    struct.pack_into("<f", infinite, 12 + 160 + 8 + 480 + 8 + 12 + 30 * 128, float("inf"))
    refused(bytes(infinite), InvalidArgumentError, "stream 0: layer 0: .*finite")
    with pytest.raises(FileFailedError, match="cannot be read"):
        compress(tmp_path / "none", tmp_path / "a.nibble")
    with pytest.raises(FileFailedError, match="cannot be written"):
        compress(tmp_path / "a.state", tmp_path / "none" / "a.nibble")


def test_a_state_that_becomes_shorter_meanwhile_is_refused(tmp_path, monkeypatch):
    state = written(tmp_path, saved(40).file())

    def cut(*_: Any) -> str:
        os.truncate(state, 2000)
        return "the digest"

    # The digest is made after the layout was read.
    monkeypatch.setattr(_compress, "copy", cut)
    with pytest.raises(FileFailedError, match="became shorter than"):
        compress(state, tmp_path / "a.nibble", policy="int8")
    assert [path.name for path in tmp_path.iterdir()] == ["a.state"]


def test_files_are_for_their_owner_alone(tmp_path):
    round_trip(tmp_path, saved(40).file(), "int8")
    for name in ("a.nibble", "b.state"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


@pytest.fixture
def compressed(tmp_path: Path) -> bytes:
    streams = [Cells(list(range(40)), channels=16, layers=1), Cells([1, 2], channels=16, layers=1)]
    state = written(tmp_path, Saved([streams], tokens=[4, 5]).file())
    compress(state, tmp_path / "a.nibble", policy=CODED)
    return (tmp_path / "a.nibble").read_bytes()


def refuse(folder: Path, content: bytes, error: Any = NibbleError, message: str = ".") -> None:
    path = written(folder, content, "damaged.nibble")
    (folder / "b.state").write_text("before")
    with pytest.raises(error, match=message):
        restore(path, folder / "b.state")
    assert (folder / "b.state").read_text() == "before"
    assert {each.name for each in folder.iterdir()} <= {
        *("a.state", "a.nibble", "b.state", "damaged.nibble")
    }


def test_damaged_bytes_are_refused(tmp_path, compressed):
    generator = np.random.default_rng(5)
    begin = 64 + sum(struct.unpack_from("<IQ", compressed, 12))
    others = [generator.integers(64, begin, 100), generator.integers(begin, len(compressed), 50)]
    for offset in [*range(64), *others[0], *others[1]]:
        damaged = bytearray(compressed)
        damaged[offset] ^= 1 << generator.integers(8)
        refuse(tmp_path, bytes(damaged), (FileFailedError, UnsupportedError))


def test_shorter_and_longer_files_are_refused(tmp_path, compressed):
    sizes = [*range(0, 120), *range(120, len(compressed), 1997), len(compressed) - 1]
    for size in sizes:
        message = "too few for a compressed state" if size < 64 else "its head says"
        refuse(tmp_path, compressed[:size], FileFailedError, message)
    refuse(tmp_path, compressed + b"\0", FileFailedError, f"its head says {len(compressed)}")


def test_damage_is_named(tmp_path, compressed):
    for offset, message in [
        (0, "not as a compressed state"),
        (8, "version 3 of compressed states; known is 1"),
        (16, "its description|description and|digest of bytes 0"),
        (40, "the digest of bytes 0 to"),
        (70, "the digest of bytes 0 to"),
        (len(compressed) - 70, "the digest of session 1, bytes"),
    ]:
        damaged = bytearray(compressed)
        damaged[offset] ^= 2
        refuse(tmp_path, bytes(damaged), NibbleError, message)


def resigned(content: bytes, change: Callable[[dict[str, Any]], Any], frame: Any = None) -> bytes:
    """A container with another description or frame, and the right digest."""
    text_bytes, frame_bytes, _ = struct.unpack_from("<IQQ", content, 12)
    begin = 64 + text_bytes + frame_bytes
    description = json.loads(content[64 : 64 + text_bytes])
    text = json.dumps(change(description) or description).encode()
    frame = content[64 + text_bytes : begin] if frame is None else frame
    size = 64 + len(text) + len(frame) + len(content) - begin
    head = struct.pack("<8sIIQQ", b"NibbleLS", 1, len(text), len(frame), size)
    return head + hashlib.sha256(head + text + frame).digest() + text + frame + content[begin:]


def test_a_container_is_what_the_document_says(tmp_path, compressed):
    assert resigned(compressed, lambda fields: None) == compressed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.update(state_bytes=1), "description says 1"),
        (lambda f: f.update(state_bytes=-1), "state_bytes is -1; expected a whole number"),
        (lambda f: f.update(state_bytes=True), "state_bytes is True"),
        (lambda f: f.update(policy="a/b.yaml"), "the policy of .* is the name of a file"),
        (lambda f: f.update(policy="{\u0301/b"), "the policy of .* is the name of a file"),
        (lambda f: f.update(policy="int8\ud800"), "policy cannot be encoded"),
        (lambda f: f.update(policy=3), "policy is 3; expected a text"),
        (lambda f: f.update(policy="rotate:4"), "session 0 of .*: .*rotate"),
        (lambda f: f.update(policy="int8"), "session 0 of"),
        (lambda f: f.update(more=1), "more"),
        (lambda f: f.pop("policy") and None, "policy"),
        (lambda f: f.pop("sessions") and None, "sessions"),
        (lambda f: f["sessions"].pop() and None, "1 sessions for 2 streams"),
        (lambda f: f["sessions"].reverse(), "the digest of session 0"),
        (lambda f: f["sessions"][0].update(bytes=9), "the sessions of .* end at byte"),
        (lambda f: f["sessions"][0].update(kv_heads=3), "session 0 of .* has 48 channels"),
        (lambda f: f["sessions"][0].update(kv_heads=2, head_dim=8), "session 0 of"),
        (lambda f: f["sessions"][1].update(kv_heads=513), "has 513 KV heads of 16 channels; exp"),
        (lambda f: f["sessions"][1].update(sha256="0"), "the digest of session 1"),
        (lambda f: [f], "cannot be read"),
    ],
)
def test_a_wrong_description_is_refused(tmp_path, compressed, change, message):
    refuse(tmp_path, resigned(compressed, change), NibbleError, message)


def test_mutated_frames_are_refused_or_restored(tmp_path, compressed):
    generator = np.random.default_rng(6)
    text_bytes, frame_bytes = struct.unpack_from("<IQ", compressed, 12)
    frame = compressed[64 + text_bytes : 64 + text_bytes + frame_bytes]
    outcomes = []
    for _ in range(150):
        mutated = bytearray(frame)
        mutated[generator.integers(len(frame))] = generator.integers(256)
        path = written(tmp_path, resigned(compressed, lambda f: None, bytes(mutated)), "m.nibble")
        try:
            restored = restore(path, tmp_path / "b.state")
        except NibbleError:
            outcomes.append(False)
        else:
            outcomes.append(restored.bytes == (tmp_path / "a.state").stat().st_size)
    # Tokens, positions and sequences may be anything.
    assert 40 < sum(outcomes) < 145


def test_a_session_of_other_length_is_refused_before_memory_is_taken(tmp_path, compressed):
    other = Saved([[Cells(list(range(41)), channels=16, layers=1), Cells([1, 2], channels=16)]])
    content = other.file()
    frame = b"".join(content[offset : offset + size] for offset, size in read_gaps(content))
    changed = resigned(compressed, lambda f: f.update(state_bytes=len(content)), frame)
    refuse(tmp_path, changed, FileFailedError, "session 0 of .* has 40 tokens; .* has 41 cells")


def test_a_failure_while_writing_leaves_what_was_there(tmp_path, compressed, monkeypatch):
    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_restore, "_write_gaps", fail)
    refuse(tmp_path, compressed, FileFailedError, "cannot be written: No space left on device")
