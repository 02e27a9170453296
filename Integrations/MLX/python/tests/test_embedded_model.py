"""The embedded checkpoint in mlx-lm: predictions after a prompt cache was compressed, and the
command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from conftest import EMBEDDED_MODEL, Save
from mlx_lm.models.cache import load_prompt_cache, make_prompt_cache
from mlx_lm.utils import load_model
from tokenizers import Tokenizer

from nibblekv_mlx.__main__ import main

PROMPT_TOKENS, NEXT_TOKENS = 1000, 60


class Story:
    """The model, a story, and the prompt cache of its beginning, whose rows are in float16."""

    def __init__(self) -> None:
        self.model, _ = load_model(EMBEDDED_MODEL)
        self.model.set_dtype(mx.float32)
        tokenizer = Tokenizer.from_file(str(EMBEDDED_MODEL / "tokenizer.json"))
        stories = json.loads((EMBEDDED_MODEL / "evaluation" / "stories.json").read_text())
        ids = tokenizer.encode(" ".join(stories)).ids
        self.prompt = ids[:PROMPT_TOKENS]
        self.next = mx.array([ids[PROMPT_TOKENS : PROMPT_TOKENS + NEXT_TOKENS]])
        self.caches = make_prompt_cache(self.model)
        mx.eval(self.model(mx.array([self.prompt]), cache=self.caches))
        for cache in self.caches:
            cache.keys, cache.values = (
                rows.astype(mx.float16) for rows in (cache.keys, cache.values)
            )

    def predictions(self, path: Path) -> mx.array:
        """Log probabilities of the tokens that follow, with the prompt cache of a file."""
        logits = self.model(self.next, cache=load_prompt_cache(str(path)))
        return logits - mx.logsumexp(logits, axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def story() -> Story:
    return Story()


# The bounds are those of KL divergence that README of the repository names for such policies,
# with room for so few tokens; a wrong row gives more than 0.5. The shares are those of the codes'
# bits, with room for the newest tokens, which stay as they are.
@pytest.mark.parametrize(
    ("policy", "bound", "share"),
    [("exact", 0.0, 2.1), ("balanced", 0.01, 0.5), ("k=int8+v=linear:4", 0.02, 0.55)],
)
def test_continuations(
    save: Save, story: Story, capsys: Any, policy: str, bound: float, share: float
) -> None:
    path = save(story.caches)
    session, restored = path.with_suffix(".session"), path.with_name("restored.safetensors")
    ids = path.with_suffix(".json")
    ids.write_text(json.dumps(story.prompt))

    arguments = ["--policy", policy, "--out", str(session), "--tokens", str(ids), "--json"]
    assert main(["compress", str(path), *arguments]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["tokens"], told["recorded_tokens"]) == (PROMPT_TOKENS, PROMPT_TOKENS)
    if policy != "exact":
        # All but the newest tokens, the sinks and an incomplete page.
        assert PROMPT_TOKENS - 128 < told["compressed_tokens"] < PROMPT_TOKENS
    assert told["session_bytes"] < share * told["prompt_cache_bytes"]
    assert main(["restore", str(session), "--out", str(restored), "--threads", "1"]) == 0

    expected, given = story.predictions(path), story.predictions(restored)
    divergence = mx.sum(mx.exp(expected) * (expected - given), axis=-1).mean().item()
    assert divergence <= bound
    if policy != "exact":
        assert divergence > 0


def test_show(save: Save, story: Story, capsys: Any) -> None:
    path = save(story.caches, title="the harbour")
    session = path.with_suffix(".session")
    assert main(["compress", str(path), "--out", str(session)]) == 0
    capsys.readouterr()
    for file, policy in ((path, None), (session, "balanced")):
        assert main(["show", str(file), "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["caches"] == {"KVCache": 4}
        assert told["metadata"] == {"title": "the harbour"}
        assert told.get("policy") == policy
        assert (told.get("compressed_tokens", 0) > 0) == (policy is not None)
        assert main(["show", str(file)]) == 0
        assert f"tokens               {PROMPT_TOKENS}\n" in capsys.readouterr().out


def test_failures_are_one_line(tmp_path: Path, capsys: Any) -> None:
    missing = tmp_path / "missing.safetensors"
    assert main(["compress", str(missing), "--out", str(tmp_path / "a.session")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and missing.name in error
    ids = tmp_path / "ids.json"
    arguments = ["--out", str(tmp_path / "a.session"), "--tokens", str(ids)]
    for text, words in (
        ('{"ids": 1}', "JSON array"),
        ("7", "JSON array"),
        ("[1.5]", "JSON array"),
        ("[1", "cannot be read"),
    ):
        ids.write_text(text)
        assert main(["compress", str(missing), *arguments]) == 1
        assert words in capsys.readouterr().err
