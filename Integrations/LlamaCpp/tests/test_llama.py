"""States that llama.cpp wrote, compressed, restored and loaded by it again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from _llama import Context, Model
from _random_models import VOCABULARY, WINDOW, random_model
from conftest import EMBEDDED_MODEL
from nibblekv import UnsupportedError
from nibblekv.eval import evaluate
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from make_gguf import make_gguf
from nibblekv_llamacpp import compress, describe, restore, summary
from nibblekv_llamacpp._layout import read_state

PROMPT, FOLLOWING = 600, 200
POLICIES = ["int8", "balanced", "small"]
MORE_POLICIES = ["linear:4", "rotated:4"]
# Bits per value of compressed pages, as `nibblekv.eval` gives them.
BITS = {"exact": 32, "float16": 16, "int8": 8.25, "balanced": 5.44, "small": 3.75}
# The type of the cache, and whether attention is the flash kind: without it values are transposed.
CACHES = [("f32", False), ("f16", False), ("bf16", False)]
CACHES += [("f32", True), ("f16", True), ("bf16", True), ("q8_0", True)]


@pytest.fixture(scope="session")
def model_path(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "harbour-3m.gguf"
    make_gguf(EMBEDDED_MODEL, path)
    return path


@pytest.fixture(scope="session")
def model(model_path) -> Iterator[Model]:
    loaded = Model(model_path)
    yield loaded
    loaded.close()


@pytest.fixture(scope="session")
def story() -> str:
    texts: list[str] = json.loads((EMBEDDED_MODEL / "evaluation" / "stories.json").read_text())
    return texts[0]


@pytest.fixture(scope="session")
def ids(model, story) -> list[int]:
    return model.tokens(story)[: PROMPT + FOLLOWING]


@pytest.fixture(scope="session")
def reference() -> Any:
    return AutoModelForCausalLM.from_pretrained(EMBEDDED_MODEL, dtype=torch.float32).eval()


@pytest.fixture(scope="session")
def evaluated(reference, ids) -> dict[str, Any]:
    """What the policies do to predictions on the same text, with a cache of NibbleKV."""
    policies = POLICIES + MORE_POLICIES
    return dict(zip(policies, evaluate(reference, [ids], policies, threads=1), strict=True))


def continuation(
    context: Context, state: Path, ids: list[int], prompt: int = PROMPT, sequence: int = 0
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Logits of what follows a state, in a fresh context that is closed at the end."""
    with context:
        assert context.load(state, sequence) == ids[:prompt]
        return context.feed(ids[prompt:], prompt, sequence)


def divergence(exact: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
    """The mean KL of predictions, in nats."""
    logs = [torch.log_softmax(torch.tensor(rows).double(), -1) for rows in (exact, other)]
    return float((logs[0].exp() * (logs[0] - logs[1])).sum(-1).clamp(min=0).mean())


@torch.inference_mode()
def test_the_converted_model_is_the_reference_model(model, reference, ids, story):
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(EMBEDDED_MODEL / "tokenizer.json"))
    assert ids == [0, *tokenizer(story)["input_ids"]][: len(ids)]
    expected = reference(torch.tensor([ids])).logits[0].numpy()
    with model.context("f32") as context:
        logits = context.feed(ids)
    # Logits go to 33; in float32 the order of sums and llama.cpp's exponentials differ.
    assert np.abs(logits - expected).max() < 5e-3
    assert divergence(expected, logits) < 1e-7


@pytest.mark.parametrize(("kind", "flash"), CACHES)
def test_restored_states_go_on_as_the_policy_promises(
    model, model_path, ids, evaluated, tmp_path, kind, flash
):
    state, restored = tmp_path / "a.state", tmp_path / "b.state"
    with model.context(kind, flash=flash) as context:
        context.feed(ids[:PROMPT])
        context.save(state, ids[:PROMPT])
    exact = continuation(model.context(kind, flash=flash), state, ids)
    [stream] = describe(state).streams
    assert (stream.cells, stream.key_type, stream.value_type) == (PROMPT, kind, kind)
    assert stream.values_transposed != flash

    is_usual = (kind, flash) == ("f16", False)
    for policy in ["exact", *(["float16"] if kind == "f16" else [])]:
        compress(state, tmp_path / "a.nibble", policy=policy, model=model_path)
        assert restore(tmp_path / "a.nibble", restored).is_identical
        assert restored.read_bytes() == state.read_bytes()
        logits = continuation(model.context(kind, flash=flash), restored, ids)
        assert np.array_equal(logits, exact)

    found = {}
    for policy in POLICIES + (MORE_POLICIES if is_usual else []):
        shown = summary(compress(state, tmp_path / "a.nibble", policy=policy, model=model_path))
        assert (shown.streams[0].kv_heads, shown.streams[0].head_dim) == (2, 64)
        assert not restore(tmp_path / "a.nibble", restored).is_identical
        logits = continuation(model.context(kind, flash=flash), restored, ids)
        found[policy] = divergence(exact, logits)
        measured = evaluated[policy]
        print(
            f"{kind}{' flash' if flash else ''}, {policy}: {shown.state_bytes:,} bytes to "
            f"{shown.bytes:,}, KL {found[policy]:.2g} (evaluation: {measured.kl_mean:.2g})"
        )
        # The measurement's positions see less of the text and more of it compressed; so the upper
        # end of its mean's 95 % interval. What follows the state is kept exact here, which brings
        # predictions nearer; rows of q8_0 are rounded once more, by less than int8 errs.
        limit = measured.kl_mean_high + evaluated["int8"].kl_mean_high
        assert 1e-8 < found[policy] < limit
    assert found["int8"] < found["balanced"] < found["small"]


@pytest.mark.parametrize(("kind", "flash"), [("f16", False), ("f32", False), ("q8_0", True)])
def test_a_long_state_takes_what_its_policy_says(model, story, tmp_path, kind, flash):
    ids = model.tokens(story)[:2600]
    with model.context(kind, flash=flash, cells=2816) as context:
        context.feed(ids)
        context.save(tmp_path / "a.state", ids)
    values = 2600 * 4 * 2 * 128  # tokens, layers, keys and values, channels
    for policy, bits in BITS.items():
        compress(tmp_path / "a.state", tmp_path / "a.nibble", policy=policy, kv_heads=2)
        shown = describe(tmp_path / "a.nibble")
        share = shown.bytes / shown.state_bytes
        print(f"{kind}, {policy}: {shown.state_bytes:,} bytes to {shown.bytes:,}, {share:.2f}")
        # Up to two pages and the sinks are exact; LZ4 finds the zeros of f16 rows in float32.
        compressed = values * bits / 8
        assert 0.55 * compressed < shown.bytes < 1.15 * compressed + 40_000


def test_a_sequence_among_others_comes_back_as_another(model, ids, tmp_path):
    state, restored = tmp_path / "a.state", tmp_path / "b.state"
    prompt = 300
    with model.context(sequences=3) as context:
        context.feed(ids[200:400], sequence=0)
        context.feed(ids[:prompt], sequence=1)
        context.save(state, ids[:prompt], sequence=1)
        expected = context.feed(ids[prompt:], prompt, sequence=1)
    [stream] = describe(state).streams
    assert (stream.stream, stream.streams, stream.cells) == (1, 3, prompt)
    compress(state, tmp_path / "a.nibble", policy="float16")
    assert restore(tmp_path / "a.nibble", restored).is_identical
    logits = continuation(model.context(sequences=3), restored, ids, prompt, sequence=2)
    assert np.array_equal(logits, expected)


def test_bare_data_comes_back(model, ids, tmp_path):
    with model.context() as context:
        context.feed(ids[:PROMPT])
        (tmp_path / "a.data").write_bytes(context.data())
        expected = context.feed(ids[PROMPT:], PROMPT)
    assert describe(tmp_path / "a.data").is_blob
    compress(tmp_path / "a.data", tmp_path / "a.nibble", policy="balanced", kv_heads=2)
    restore(tmp_path / "a.nibble", tmp_path / "b.data")
    with model.context() as context:
        assert context.set_data((tmp_path / "b.data").read_bytes())
        assert divergence(expected, context.feed(ids[PROMPT:], PROMPT)) < 1e-3


def test_cells_that_were_used_again_lie_out_of_order(model, ids, tmp_path):
    state, restored = tmp_path / "a.state", tmp_path / "b.state"
    with model.context(cells=512) as context:
        context.feed(ids[:400])
        context.remove(0, 300)
        context.feed(ids[400:PROMPT], 400)  # the last of them go to the cells that became free
        context.save(state, ids[:PROMPT])
    with state.open("rb") as file:
        [stream] = read_state(file, state.stat().st_size, "a state").streams
    assert sorted(stream.positions) == list(range(300, PROMPT))
    assert (np.diff(stream.positions) < 0).any()
    exact = continuation(model.context(cells=512), state, ids)
    compress(state, tmp_path / "a.nibble", policy="int8", kv_heads=2)
    assert not restore(tmp_path / "a.nibble", restored).is_identical
    logits = continuation(model.context(cells=512), restored, ids)
    assert 0 < divergence(exact, logits) < 1e-5


def test_a_model_with_a_window_has_two_caches(tmp_path):
    model = Model(random_model("gemma3", tmp_path / "gemma3.gguf"))
    ids = np.random.default_rng(2).integers(0, VOCABULARY, 400).tolist()
    state, restored = tmp_path / "a.state", tmp_path / "b.state"
    with model.context() as context:
        context.feed(ids[:300])
        context.save(state, ids[:300])
    exact = continuation(model.context(), state, ids, 300)
    full, window = describe(state).streams
    assert (full.part, full.layers, full.cells) == (0, 1, 300)
    assert (window.part, window.layers, window.cells) == (1, 5, WINDOW)
    for policy, most in [("float16", 0.0), ("int8@recent=0", 1e-5)]:
        shown = summary(
            compress(state, tmp_path / "a.nibble", policy=policy, model=tmp_path / "gemma3.gguf")
        )
        assert [(stream.kv_heads, stream.head_dim) for stream in shown.streams] == [(2, 16)] * 2
        assert restore(tmp_path / "a.nibble", restored).is_identical == (policy == "float16")
        assert divergence(exact, continuation(model.context(), restored, ids, 300)) <= most
    model.close()


@pytest.mark.parametrize(
    ("architecture", "message"), [("qwen2vl", "2D position"), ("mamba", "recurrent layers")]
)
def test_states_that_are_not_covered_are_named(tmp_path, architecture, message):
    model = Model(random_model(architecture, tmp_path / "model.gguf"))
    with model.context() as context:
        context.feed(list(range(40)))
        context.save(tmp_path / "a.state", list(range(40)))
        (tmp_path / "a.data").write_bytes(context.data())
    for name in ("a.state", "a.data"):
        with pytest.raises(UnsupportedError, match=message):
            compress(tmp_path / name, tmp_path / "a.nibble")
    model.close()


def test_a_cache_of_four_bits_is_named(model, ids, tmp_path):
    with model.context("q4_0", flash=True) as context:
        context.feed(ids[:100])
        context.save(tmp_path / "a.state", ids[:100])
    with pytest.raises(UnsupportedError, match="keys of layer 0 are of type q4_0; covered are f32"):
        compress(tmp_path / "a.state", tmp_path / "a.nibble")
