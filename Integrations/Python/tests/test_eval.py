"""The measurement, and the embedded model on which it is that of ``nibble eval``."""

from __future__ import annotations

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
from conftest import EMBEDDED_MODEL, REPOSITORY, generate, prompt, small_model

import nibblekv
from nibblekv.eval import evaluate
from nibblekv.eval.__main__ import main
from nibblekv.eval._caches import stored_bytes
from nibblekv.eval._tally import StepComparison
from nibblekv.transformers import NibbleCache

STORIES = EMBEDDED_MODEL / "evaluation" / "stories.json"
NIBBLE = Path(os.environ.get("NIBBLE", REPOSITORY / ".build" / "release" / "nibble"))
TOKENS = 1500


@pytest.fixture(scope="module")
def embedded() -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(
        EMBEDDED_MODEL, dtype=torch.float32
    ).eval()


def run(capsys: Any, *arguments: str) -> list[dict[str, Any]]:
    """Rows of the command line's JSON."""
    assert main(["--model", str(EMBEDDED_MODEL), "--json", *arguments]) == 0
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["rows"]
    return rows


@pytest.mark.skipif(not NIBBLE.is_file(), reason="nibble is not built")
def test_figures_are_those_of_nibble_eval(capsys):
    options = ["--text", str(STORIES), "--max-text-tokens", str(TOKENS)]
    [row] = run(capsys, *options, "--policies", "balanced")
    command = [NIBBLE, "eval", "--policy", "balanced", "--max-questions", "0", "--json"]
    result = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
    other = json.loads(result.stdout)
    for field in ("policy", "tokens", "compressed_tokens", "total_bytes", "exact_bytes"):
        assert row[field] == other[field], field
    assert row["kl_mean"] == pytest.approx(other["kl_mean"], rel=0.1)
    assert row["perplexity"] == pytest.approx(other["perplexity"], rel=1e-3)
    assert row["bits_per_value"] == pytest.approx(other["bits_per_value"])
    assert row["same_top_1"] == pytest.approx(other["same_top_1"], abs=0.002)


def test_the_embedded_model_goes_on_as_with_the_dynamic_cache(embedded):
    ids = torch.tensor([[0, *range(40, 240)]])
    expected = generate(embedded, ids, max_new_tokens=60)
    cache = NibbleCache(embedded.config, "exact")
    assert torch.equal(generate(embedded, ids, cache, max_new_tokens=60), expected)


def test_balanced_changes_predictions_little(capsys):
    options = ["--text", str(STORIES), "--max-text-tokens", "700", "--threads", "1"]
    exact, balanced, small, coarse = run(
        capsys, *options, "--policies", "exact,balanced,small,linear:2"
    )
    assert exact["kl_mean"] < 1e-6 < balanced["kl_mean"] < 2e-3
    assert balanced["kl_mean"] < coarse["kl_mean"]
    assert balanced["same_top_1"] > 0.98
    assert coarse["total_bytes"] < small["total_bytes"] < balanced["total_bytes"]
    # All rows are of the same positions.
    assert len({row["positions"] for row in (exact, balanced, small, coarse)}) == 1
    assert exact["perplexity"] == pytest.approx(balanced["perplexity_exact"])
    assert balanced["kl_mean_low"] < balanced["kl_mean"] < balanced["kl_mean_high"]


def test_caches_of_transformers_are_measured_alike():
    pytest.importorskip("optimum.quanto")
    model = small_model("llama")
    documents = [prompt(300)[0].tolist(), prompt(200, seed=4)[0].tolist()]
    dynamic, quanto = evaluate(model, documents, ["dynamic", "quanto:4"])
    assert dynamic.kl_mean == 0
    assert dynamic.total_bytes == 2 * dynamic.exact_bytes  # float32
    assert quanto.kl_mean > 0
    assert 4 < quanto.bits_per_value < 16
    assert 0 < quanto.compressed_tokens < quanto.tokens == 500


def test_divergence_is_that_of_the_formula():
    numbers = np.random.default_rng(2)
    exact, other = (numbers.standard_normal((3, 7)) for _ in range(2))
    other[1] = exact[1] + 5  # the same distribution
    step = StepComparison(torch.from_numpy(exact), torch.from_numpy(other), [1, 2])
    p, q = (np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (exact, other))
    assert np.allclose(step.divergence, (p * np.log(p / q)).sum(1), atol=1e-12)
    assert step.divergence[1] == pytest.approx(0, abs=1e-12)
    assert np.allclose(step.losses, [-np.log(q[0, 1]), -np.log(q[1, 2])])


def test_bytes_of_nested_tensors():
    tensors = {"a": torch.zeros(3, dtype=torch.uint8), "b": [torch.zeros(2), (torch.zeros(1), 7)]}
    assert stored_bytes(tensors) == 3 + 8 + 4


def test_token_files_and_mistakes(tmp_path, capsys):
    tokens = tmp_path / "tokens.json"
    tokens.write_text(json.dumps([list(range(90)), list(range(50))]))
    [row] = run(capsys, "--tokens", str(tokens), "--documents", "1", "--policies", "linear:4")
    assert (row["tokens"], row["positions"], row["kl_mean"]) == (90, 0, None)
    model = ["--model", str(EMBEDDED_MODEL)]
    for content, more, words in (
        ([[5000]], [], "token 5000 of document 0"),
        ({"a": 1}, [], "no JSON array"),
        ([1, 2], ["--policies", "rotatde:4"], "did you mean"),
        ([1, 2], ["--max-text-tokens", "0"], "--max-text-tokens is 0"),
        ([], [], "no tokens"),
    ):
        tokens.write_text(json.dumps(content))
        assert main([*model, "--tokens", str(tokens), *more]) == 1
        assert words in capsys.readouterr().err
    tokens.write_text("[1, 2, 3]")
    assert main([*model, "--tokens", str(tokens)]) == 0
    assert capsys.readouterr().out.startswith("policy")


def test_the_readme_example_runs():
    """The Python blocks of the README, in one process of their own, in a folder with the model."""
    text = (Path(__file__).parents[1] / "README.md").read_text()
    blocks = [part.split("```")[0] for part in text.split("```python\n")[1:]]
    assert len(blocks) == 2
    for block in blocks:
        code = block.replace('"MODEL"', repr(str(EMBEDDED_MODEL)))
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        assert result.stdout != ""


def test_the_example_of_generation_runs():
    example = Path(__file__).parents[1] / "examples" / "transformers_generate.py"
    command = [sys.executable, example, "--tokens", "100"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "bytes" in result.stdout
    assert nibblekv.__version__ in result.stdout
