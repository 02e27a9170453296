"""A prompt that mlx-lm computed, continued by Hugging Face transformers from the session."""

from __future__ import annotations

import mlx.core as mx
import pytest
from conftest import EMBEDDED_MODEL, Save
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import load_model

import nibblekv_mlx

torch = pytest.importorskip("torch")


@pytest.mark.filterwarnings("ignore:.*past_key_values.*:FutureWarning")
def test_transformers_go_on(save: Save) -> None:
    from transformers import AutoModelForCausalLM

    from nibblekv.transformers import NibbleCache

    ids = [(37 * number) % 2000 + 5 for number in range(300)]
    model, _ = load_model(EMBEDDED_MODEL)
    model.set_dtype(mx.float32)
    caches = make_prompt_cache(model)
    mx.eval(model(mx.array([ids[:250]]), cache=caches))
    path = save(caches)
    session = path.with_suffix(".session")
    nibblekv_mlx.compress(path, session, "exact", tokens=ids[:250], query_heads=8)

    other = AutoModelForCausalLM.from_pretrained(EMBEDDED_MODEL, dtype=torch.float32).eval()
    cache = NibbleCache(other.config, policy="exact")
    cache.adopt([cache.store.restore(session)])
    with torch.no_grad():
        given = other(input_ids=torch.tensor([ids[250:]]), past_key_values=cache).logits
        expected = other(input_ids=torch.tensor([ids]), use_cache=False).logits[:, 250:]
    assert (given - expected).abs().max() < 1e-3
    assert expected.abs().max() > 5
