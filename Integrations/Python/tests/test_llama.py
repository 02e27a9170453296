"""The example on NumPy, whose logits are those of NibbleKV's host in Swift, and calibrations."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from conftest import EMBEDDED_MODEL, REPOSITORY, logits

from nibblekv.transformers import NibbleCache

EXAMPLE = Path(__file__).parents[1] / "examples" / "llama.py"
NIBBLE = Path(os.environ.get("NIBBLE", REPOSITORY / ".build" / "release" / "nibble"))
PROMPT = "".join((REPOSITORY / "Integrations/C/llama/prompt.ids").read_text().split())
ALIGNED = "trellis:3@k.rotation=aligned"

needs_nibble = pytest.mark.skipif(not NIBBLE.is_file(), reason="nibble is not built")


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model's, of a part of its evaluation text."""
    path = tmp_path_factory.mktemp("calibration") / "harbour.calibration"
    subprocess.run([NIBBLE, "calibrate", "--documents", "1", "--out", path], check=True)
    return path


@needs_nibble
@pytest.mark.parametrize("policy", ["float16", "balanced", "small", "trellis:3", ALIGNED])
def test_logits_are_those_of_the_host_in_swift(tmp_path, calibration, policy):
    steps = ["--ids", PROMPT, "--policy", policy, "--chunk", "96"]
    if policy == ALIGNED:
        steps += ["--calibration", str(calibration)]
    files = [tmp_path / "swift.f32", tmp_path / "python.f32"]
    program = [NIBBLE, "logits", "--model", EMBEDDED_MODEL, "--max-tokens", "24", "--out", files[0]]
    example = [sys.executable, EXAMPLE, EMBEDDED_MODEL, "--tokens", "24", "--logits", files[1]]
    for command in (program, example):
        subprocess.run([*command, *steps], check=True, capture_output=True)
    written, ours = (file.read_bytes() for file in files)
    positions = PROMPT.count(",") + 24
    assert len(written) == positions * 2048 * 4
    assert ours == written


def loaded(folder: Path, monkeypatch: Any, **changes: Any) -> Any:
    """The example's model of the embedded checkpoint, under another configuration."""
    config = json.loads((EMBEDDED_MODEL / "config.json").read_text())
    config = {name: value for name, value in (config | changes).items() if value != "none"}
    (folder / "config.json").write_text(json.dumps(config))
    weights = folder / "model.safetensors"
    if not weights.exists():
        weights.symlink_to(EMBEDDED_MODEL / "model.safetensors")
    monkeypatch.syspath_prepend(EXAMPLE.parent)
    return importlib.import_module("llama").Llama(folder)


def test_rotary_parameters_are_read_where_transformers_has_them(tmp_path, monkeypatch):
    parameters = {"rope_type": "default", "rope_theta": 500.0}
    old = loaded(tmp_path, monkeypatch, rope_theta=500.0).frequencies
    new = loaded(tmp_path, monkeypatch, rope_theta="none", rope_parameters=parameters).frequencies
    assert np.array_equal(new, old)
    assert not np.array_equal(loaded(tmp_path, monkeypatch).frequencies, old)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "qwen2"}, "type llama"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"attention_bias": True}, "biases"),
        ({"mlp_bias": True}, "biases"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 2}}, "scaled rotary"),
        ({"rope_parameters": {"rope_type": "llama3"}}, "scaled rotary"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
    ],
)
def test_models_that_the_example_does_not_compute_are_refused(
    tmp_path, monkeypatch, changes, message
):
    with pytest.raises(SystemExit, match=message):
        loaded(tmp_path, monkeypatch, **changes)


@needs_nibble
def test_a_model_of_transformers_takes_a_calibration(calibration):
    model = transformers.AutoModelForCausalLM.from_pretrained(
        EMBEDDED_MODEL, dtype=torch.float32
    ).eval()
    ids = torch.tensor([[int(word) for word in PROMPT.split(",")]])
    exact = logits(model, ids, NibbleCache(model.config, "exact"), chunk=64)
    cache = NibbleCache(model.config, ALIGNED, calibration=calibration)
    ours = logits(model, ids, cache, chunk=64)
    assert cache.sequences[0].statistics.compressed_tokens > 400
    divergence = torch.nn.functional.kl_div(
        ours.log_softmax(-1), exact.log_softmax(-1), reduction="none", log_target=True
    )
    assert 0 < float(divergence.sum(-1).mean()) < 0.02
