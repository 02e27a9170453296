"""The layout of states, right ones and wrong ones."""

from __future__ import annotations

import io
import struct
import tracemalloc

import numpy as np
import pytest
from _states import TYPES, Cells, Saved, saved
from nibblekv import FileFailedError, UnsupportedError

from nibblekv_llamacpp._layout import State, read_frame, read_state


def read(content: bytes) -> State:
    return read_state(io.BytesIO(content), len(content), "a.state")


def frame_of(content: bytes) -> bytes:
    state = read(content)
    return b"".join(content[offset : offset + size] for offset, size in state.gaps())


@pytest.mark.parametrize(
    ("keys", "values", "is_transposed"),
    [(kind, kind, False) for kind in TYPES]
    + [(kind, kind, True) for kind in TYPES if kind != "q8_0"]
    + [("q8_0", "f16", False), ("q8_0", "f16", True)],
)
def test_one_stream(keys, values, is_transposed):
    content = saved(9, keys=keys, values=values, is_transposed=is_transposed).file()
    state = read(content)
    assert (state.is_blob, state.tokens, state.size) == (False, 9, len(content))
    [stream] = state.streams
    assert stream.positions.tolist() == list(range(9))
    assert [block.type.name for block in stream.keys] == [keys, keys]
    assert [block.type.name for block in stream.values] == [values, values]
    assert {block.channels for block in state.blocks()} == {32}
    assert {block.is_transposed for block in stream.values} == {is_transposed}
    # All that is no row: head, tokens, cells, two numbers, and types with sizes.
    assert len(frame_of(content)) == 12 + 36 + 8 + 9 * 12 + 8 + 4 * 12
    assert len(content) - len(frame_of(content)) == sum(block.size for block in state.blocks())


def test_streams_and_parts():
    streams = [Cells([]), Cells([5, 3, 4], seed=2), Cells([]), Cells([0], seed=3)]
    window = Cells([3, 4, 5], channels=64, layers=3, keys="f32", values="bf16")
    state = read(Saved([streams, [window]]).file())
    assert [part.stream_count for part in state.parts] == [4, 1]
    assert [stream.index for stream in state.streams] == [1, 3, 0]
    assert [stream.cells for stream in state.streams] == [3, 1, 3]
    assert state.streams[0].positions.tolist() == [5, 3, 4]
    assert len(state.streams[2].keys) == 3


def test_blobs_and_empty_states():
    content = saved(5).blob(sequence=2)
    state = read(content)
    assert (state.is_blob, state.tokens, state.size) == (True, 0, len(content))
    assert read(Saved([[Cells([])]]).file()).streams == []


@pytest.mark.parametrize(
    "state",
    [
        saved(9),
        saved(9, is_transposed=True, keys="q8_0"),
        Saved([[Cells([]), Cells([1, 2])], [Cells([2], channels=64)]], tokens=[3]),
    ],
)
def test_a_frame_has_the_layout_of_its_state(state):
    for content in (state.file(), state.blob()):
        full, framed = read(content), read_frame(frame_of(content), "a frame")
        assert framed.size == full.size
        assert list(framed.blocks()) == list(full.blocks())
        assert list(framed.gaps()) == list(full.gaps())


def changed(content: bytes, offset: int, form: str, value: int) -> bytes:
    field = struct.pack(f"<{form}", value)
    return content[:offset] + field + content[offset + len(field) :]


# Of saved(3): 12 bytes of head, 12 of tokens, then fields at these offsets.
STREAMS, CELLS, FIRST_CELL, TRANSPOSED, LAYERS, KEY_TYPE, KEY_ROW = 24, 28, 32, 68, 72, 76, 80
VALUE_TYPE = KEY_TYPE + 2 * (12 + 3 * 64)


@pytest.mark.parametrize(
    ("offset", "form", "value", "error", "message"),
    [
        (0, "I", 0x12345678, FileFailedError, "begins with 12345678, not with the magic"),
        (0, "I", 0x6767736E, UnsupportedError, "of a whole context"),
        (4, "I", 2, UnsupportedError, "version 2 of llama.cpp's sequence state files; known is 3"),
        (8, "I", 2**32 - 1, FileFailedError, "4294967295 tokens would take 17179869180 bytes"),
        (STREAMS, "I", 0, FileFailedError, "byte 28: there are 0 streams; expected 1 to 256"),
        (STREAMS, "I", 257, FileFailedError, "there are 257 streams"),
        (STREAMS, "I", 2, FileFailedError, "the number of cells of stream 1 would take 4 bytes"),
        (CELLS, "I", 2**32 - 1, FileFailedError, "4294967295 cells would take"),
        (FIRST_CELL + 4, "I", 2, FileFailedError, "cell 0 is of 2 sequences; expected 1"),
        (FIRST_CELL + 16, "I", 0, FileFailedError, "cell 1 is of 0 sequences; expected 1"),
        (TRANSPOSED, "I", 2, FileFailedError, "whether values are transposed is 2"),
        (LAYERS, "I", 0, FileFailedError, "there are 0 layers; expected 1 to 512"),
        (LAYERS, "I", 513, FileFailedError, "there are 513 layers"),
        (KEY_TYPE, "i", 2, UnsupportedError, "byte 76: keys of layer 0 are of type q4_0; covered"),
        (KEY_TYPE, "i", 99, FileFailedError, "keys of layer 0 are of type 99, which no cache"),
        (KEY_ROW, "Q", 0, FileFailedError, "a row of keys of layer 0 has 0 bytes"),
        (KEY_ROW, "Q", 63, FileFailedError, "has 63 bytes; expected a multiple of 2"),
        (KEY_ROW, "Q", 2**63, FileFailedError, "would take 27670116110564327424 bytes, but"),
        (VALUE_TYPE, "i", 7, UnsupportedError, "values of layer 0 are of type q5_1"),
        (VALUE_TYPE + 4, "Q", 66, FileFailedError, "values of layer 1"),
    ],
)
def test_a_wrong_field_is_refused_with_what_it_says(offset, form, value, error, message):
    with pytest.raises(error, match=message.replace("(", r"\(")) as caught:
        read(changed(saved(3).file(), offset, form, value))
    assert type(caught.value) is error
    assert "a.state" in str(caught.value)


@pytest.mark.parametrize(
    ("offset", "form", "value", "message"),
    [
        (0, "i", 8, "values of layer 0 are transposed and of type q8_0"),
        (4, "I", 4, "an element of values of layer 0 has 4 bytes; f16 has 2"),
        (8, "I", 0, "values of layer 0 have 0 channels"),
        (8, "I", 2**31, "values of layer 0, 2147483648 channels of 3 cells, would take"),
    ],
)
def test_a_wrong_field_of_transposed_values_is_refused(offset, form, value, message):
    content = saved(3, is_transposed=True).file()
    assert struct.unpack_from("<iII", content, VALUE_TYPE) == (1, 2, 32)
    with pytest.raises(FileFailedError, match=message):
        read(changed(content, VALUE_TYPE + offset, form, value))


@pytest.mark.parametrize("state", [saved(2), saved(2, is_transposed=True)])
def test_every_shorter_file_is_refused(state):
    for content in (state.file(), state.blob()):
        for size in range(len(content)):
            with pytest.raises((FileFailedError, UnsupportedError)):
                read(content[:size])


def test_longer_files_are_refused():
    content = saved(2).file()
    for more in (b"\0", bytes(4), bytes(100), b"\1" * 8, content):
        with pytest.raises(FileFailedError, match="byte"):
            read(content + more)
    third = Saved([[Cells([0])]] * 3)
    with pytest.raises(FileFailedError, match="more follows, after 2 KV caches"):
        read(third.file())


def test_extended_cells_are_named():
    extended = saved(4, extension=struct.pack("<iii", 1, 2, 3))
    for content in (extended.file(), extended.blob()):
        with pytest.raises(UnsupportedError, match="2D position"):
            read(content)


@pytest.mark.parametrize("before", [[], [[Cells([0, 1, 2])]]])
def test_recurrent_states_are_named(before):
    recurrent = struct.pack("<IiIII", 1, 41, 0, 0, 2)
    recurrent += struct.pack("<iQ", 0, 64) + bytes(64)
    with pytest.raises(UnsupportedError, match="recurrent"):
        read(Saved(before, tail=recurrent).file())


def test_caches_without_values_are_named():
    with pytest.raises(UnsupportedError, match="keeps no values"):
        read(saved(4, with_values=False).file())


def test_counts_are_checked_before_memory_is_taken():
    content = saved(3).file()
    tracemalloc.start()
    for offset in (8, CELLS):
        with pytest.raises(FileFailedError):
            read(changed(content, offset, "I", 2**31))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_mutated_states_are_read_or_refused():
    generator = np.random.default_rng(11)
    states = [saved(5), saved(5, is_transposed=True), Saved([[Cells([1]), Cells([2, 3])]] * 2)]
    refused = 0
    for content in [state.file() for state in states]:
        for _ in range(2000):
            changed_bytes = bytearray(content)
            for _ in range(generator.integers(1, 4)):
                changed_bytes[generator.integers(len(content))] = generator.integers(256)
            end = generator.integers(len(content)) if generator.random() < 0.1 else None
            try:
                state = read(bytes(changed_bytes[:end]))
            except (FileFailedError, UnsupportedError):
                refused += 1
            else:
                assert state.size == len(content)
    assert 500 < refused < 5500
