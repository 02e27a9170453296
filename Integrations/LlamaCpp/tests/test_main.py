"""The command line, and heads that a model's file tells."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import gguf
import pytest
from _states import Cells, Saved, saved
from conftest import EMBEDDED_MODEL
from nibblekv import FileFailedError, InvalidArgumentError

from make_gguf import make_gguf
from nibblekv_llamacpp import compress, summary
from nibblekv_llamacpp.__main__ import main


@pytest.fixture
def state(tmp_path: Path) -> Path:
    path = tmp_path / "a.state"
    path.write_bytes(saved(300, channels=64, layers=3).file())
    return path


def run(capsys: Any, *arguments: str | Path) -> tuple[int, str, str]:
    status = main([str(argument) for argument in arguments])
    output = capsys.readouterr()
    return status, output.out, output.err


def test_compress_show_and_restore(capsys, tmp_path, state):
    packed, back = tmp_path / "a.nibble", tmp_path / "b.state"
    options = ["--policy", "linear:4", "--kv-heads", "2", "--out", packed, "--json"]
    status, output, _ = run(capsys, "compress", state, *options)
    fields = json.loads(output)
    assert status == 0
    assert fields["bytes"] == packed.stat().st_size < fields["state_bytes"] == state.stat().st_size
    assert (fields["policy"], fields["tokens"], fields["is_compressed"]) == ("linear:4", 300, True)
    [stream] = fields["streams"]
    assert (stream["kv_heads"], stream["head_dim"], stream["layers"]) == (2, 32, 3)
    assert stream["row_bytes"] == 300 * 64 * 2 * 6

    assert json.loads(run(capsys, "show", packed, "--json")[1]) == fields
    status, output, _ = run(capsys, "restore", packed, "--out", back, "--json")
    size = state.stat().st_size
    assert json.loads(output) == {"file": str(back), "bytes": size, "is_identical": False}

    shown = json.loads(run(capsys, "show", back, "--json")[1])
    assert shown["policy"] is None
    assert shown["streams"][0]["session_bytes"] is None
    assert shown["streams"][0]["cells"] == 300


def test_texts_for_people(capsys, tmp_path):
    state = tmp_path / "a.data"
    streams = [Cells([]), Cells([3, 4], channels=16, values="f32", is_transposed=True)]
    state.write_bytes(Saved([streams]).blob())
    _, output, _ = run(capsys, "show", state)
    assert output.splitlines() == [
        f"{state}: {state.stat().st_size:,} bytes, sequence data",
        "0 tokens",
        "cache 0, stream 1 of 2: 2 cells at positions 3 to 4, 2 layers of 16 channels, keys f16, "
        "values f32 transposed, 384 bytes",
    ]
    _, output, _ = run(capsys, "compress", state, "--policy", "exact", "--out", tmp_path / "a")
    size = f"{state.stat().st_size:,}"
    assert f" of the {size} of sequence data\npolicy exact\n" in output
    assert "; heads: 1 of 16 channels, " in output
    _, output, _ = run(capsys, "restore", tmp_path / "a", "--out", tmp_path / "b")
    assert output == f"{tmp_path / 'b'}: {size} bytes; the bytes that were compressed\n"


def test_failures_are_one_line_and_a_status(tmp_path, state):
    command = [sys.executable, "-m", "nibblekv_llamacpp"]
    other = tmp_path / "a.txt"
    other.write_text("no state at all")
    for arguments, message in [
        (["show", other], "begins with 73206f6e, not with the magic"),
        (["restore", state, "--out", tmp_path / "b"], "not as a compressed state"),
        (["compress", state, "--kv-heads", "5", "--out", tmp_path / "b"], "kv_heads is 5"),
        (["compress", state, "--policy", "none", "--out", tmp_path / "b"], "none"),
    ]:
        result = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
        assert result.returncode == 1
        assert result.stdout == ""
        assert result.stderr.startswith("error: ")
        assert message in result.stderr
        assert result.stderr.count("\n") == 1
    assert not (tmp_path / "b").exists()
    usage = subprocess.run([*command, "compress"], capture_output=True, check=False)
    assert usage.returncode == 2


def model_file(path: Path, **fields: int | list[int]) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    for name, value in fields.items():
        key = name.replace("__", ".")
        if isinstance(value, list):
            writer.add_array(f"llama.{key}", value)
        else:
            writer.add_uint32(f"llama.{key}", value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_model_tells_the_heads(tmp_path, state):
    def heads(**fields: int | list[int]) -> tuple[int | None, int | None]:
        model = model_file(tmp_path / "m.gguf", **fields)
        [stream] = summary(compress(state, tmp_path / "a.nibble", model=model)).streams
        return stream.kv_heads, stream.head_dim

    assert heads(attention__key_length=16) == (4, 16)
    assert heads(embedding_length=128, attention__head_count=4) == (2, 32)
    assert heads(embedding_length=128, attention__head_count=[0, 4, 0]) == (2, 32)
    assert heads(attention__key_length=48, attention__key_length_swa=32) == (2, 32)
    assert heads(attention__key_length=64, attention__key_length_swa=24) == (1, 64)
    with pytest.raises(InvalidArgumentError, match="heads have 48 or 24 channels, which does not"):
        heads(attention__key_length=24, attention__key_length_swa=48)
    with pytest.raises(InvalidArgumentError, match="heads have 48 channels, which does not divide"):
        heads(attention__key_length=48)
    with pytest.raises(FileFailedError, match="cannot be read as a model"):
        heads(embedding_length=128)
    with pytest.raises(FileFailedError, match=r"has heads of \[0\] channels"):
        heads(attention__key_length=0)


def test_layers_with_a_window_may_have_other_heads(tmp_path):
    state = tmp_path / "a.state"

    def heads(parts: list[list[Cells]], **fields: int | list[int]) -> list[tuple[Any, Any]]:
        state.write_bytes(Saved(parts).file())
        fields |= {"attention__key_length": 512, "attention__key_length_swa": 256}
        model = model_file(tmp_path / "m.gguf", **fields)
        shown = summary(compress(state, tmp_path / "a.nibble", policy="int8", model=model))
        return [(stream.kv_heads, stream.head_dim) for stream in shown.streams]

    cells = Cells([0, 1, 2], layers=1, channels=4096)
    assert heads([[cells], [cells]]) == [(8, 512), (16, 256)]
    assert heads([[Cells([])], [cells]]) == [(16, 256)]
    assert heads([[cells], [Cells([])]]) == [(8, 512)]
    # A state of one cache does not tell which layers it is of.
    assert heads([[cells]], attention__head_count_kv=8) == [(8, 512)]
    assert heads([[cells]], attention__head_count_kv=[16, 0, 16]) == [(16, 256)]
    for counts in ({}, {"attention__head_count_kv": [8, 16]}, {"attention__head_count_kv": 4}):
        with pytest.raises(InvalidArgumentError, match="heads of 512 and of 256 channels"):
            heads([[cells]], **counts)


def test_rotary_parameters_are_read_where_transformers_has_them(tmp_path):
    config = json.loads((EMBEDDED_MODEL / "config.json").read_text())
    for name in ("model.safetensors", "tokenizer.json"):
        (tmp_path / name).symlink_to(EMBEDDED_MODEL / name)

    def base(**parameters: Any) -> float:
        others = {name: value for name, value in config.items() if name != "rope_theta"}
        changed = others | {"rope_parameters": parameters}
        (tmp_path / "config.json").write_text(json.dumps(changed))
        make_gguf(tmp_path, tmp_path / "m.gguf")
        field = gguf.GGUFReader(tmp_path / "m.gguf").fields["llama.rope.freq_base"]
        return float(field.contents())

    assert base(rope_type="default", rope_theta=500.0) == 500
    with pytest.raises(ValueError, match="rope_type is 'llama3'; expected 'default'"):
        base(rope_type="llama3", rope_theta=500.0)
    with pytest.raises(ValueError, match=r"partial_rotary_factor is 0.5"):
        base(partial_rotary_factor=0.5, rope_theta=500.0)


def test_damaged_models_are_refused(tmp_path, state):
    model = model_file(tmp_path / "m.gguf", attention__key_length=16)
    content = model.read_bytes()
    for size in (0, 3, 20, len(content) // 2):
        model.write_bytes(content[:size])
        with pytest.raises(FileFailedError, match="cannot be read as a model"):
            compress(state, tmp_path / "a.nibble", model=model)
    model.unlink()
    with pytest.raises(FileFailedError, match="cannot be read as a model"):
        compress(state, tmp_path / "a.nibble", model=model)
