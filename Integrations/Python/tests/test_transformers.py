"""Models of transformers with a packed cache."""

from __future__ import annotations

import pytest
import torch
import transformers
from conftest import FAMILIES, configuration, generate, logits, prompt, small_model

import nibblekv
from nibblekv.transformers import NibbleCache
from nibblekv.transformers._packed import PackedRows

SMALL_PAGES = "linear:4@page_tokens=16@recent=16@sinks=4"


@pytest.mark.parametrize("attention", ["packed", "decoded"])
@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_output_with_exact_rows_is_that_of_the_dynamic_cache(family, attention):
    ids = prompt(60)
    expected = generate(small_model(family), ids)
    cache = NibbleCache((model := small_model(family)).config, "exact", attention=attention)
    assert torch.equal(generate(model, ids, cache), expected)
    assert cache.get_seq_length() == cache.sequences[0].length == 99


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_of_chunked_prefill_are_those_of_the_dynamic_cache(family):
    ids = prompt(130, batch=2)
    expected = logits(small_model(family), ids)
    model = small_model(family)
    for chunk in (130, 50, 7):
        cache = NibbleCache(model.config, "exact")
        assert torch.allclose(logits(model, ids, cache, chunk), expected, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_attention_is_attention_over_the_decoded_rows(family):
    ids = prompt(130)
    model = small_model(family)
    decoded = NibbleCache(model.config, SMALL_PAGES, attention="decoded")
    expected = logits(small_model(family), ids, decoded, 10)
    cache = NibbleCache(model.config, SMALL_PAGES)
    result = logits(model, ids, cache, 10)
    assert cache.sequences[0].statistics.compressed_tokens >= 96
    exact = logits(model, ids)
    # Rounding queries and weights to eight bits is far below what the codes of four bits lose.
    assert (result - expected).norm() < 0.3 * (exact - expected).norm()
    assert (exact - expected).norm() > 1e-3 * exact.norm()


def test_soft_caps_and_windows_matter_to_these_models():
    ids = prompt(60)
    for change in ({"attn_logit_softcapping": None}, {"sliding_window": 60}):
        model = small_model("gemma2")
        expected = logits(model, ids)
        other = small_model("gemma2")
        for name, value in change.items():
            setattr(other.config, name, value)
            for layer in other.model.layers:
                if hasattr(layer.self_attn, name):
                    setattr(layer.self_attn, name, value)
        assert not torch.allclose(logits(other, ids), expected, atol=2e-2)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_other_caches_work_with_the_model_as_before(family):
    ids = prompt(60)
    expected = logits(small_model(family), ids, chunk=25)
    model = small_model(family)
    NibbleCache(model.config)
    assert torch.equal(logits(model, ids, chunk=25), expected)
    with torch.no_grad():
        plain = model(input_ids=ids, use_cache=False).logits
    assert torch.allclose(plain, expected, atol=1e-4)


def test_an_implementation_that_is_chosen_later_gets_decoded_rows():
    ids = prompt(60)
    model = small_model("llama")
    expected = logits(model, ids)
    cache = NibbleCache(model.config, "exact")
    model.set_attn_implementation("eager")
    assert torch.allclose(logits(model, ids, cache, 20), expected, atol=1e-4)


def test_batches_are_one_sequence_each():
    ids = prompt(50, batch=3)
    model = small_model("mistral")
    cache = NibbleCache(model.config, SMALL_PAGES)
    result = logits(model, ids, cache, 25)
    assert cache.batch_size == len(cache.sequences) == 3
    for index in range(3):
        alone = logits(model, ids[index : index + 1], NibbleCache(model.config, SMALL_PAGES), 25)
        assert torch.allclose(result[index], alone[0], atol=1e-4)


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_beams_are_forks(family):
    ids = prompt(40, batch=2)
    expected = generate(small_model(family), ids, num_beams=3, max_new_tokens=25)
    model = small_model(family)
    cache = NibbleCache(model.config, "exact")
    assert torch.equal(generate(model, ids, cache, num_beams=3, max_new_tokens=25), expected)
    assert cache.batch_size == 6
    assert cache.store.statistics.sequences == 6


def test_selected_and_repeated_sequences_go_on_apart():
    ids = prompt(40, batch=2)
    model = small_model("llama")
    cache = NibbleCache(model.config, "exact")
    logits(model, ids, cache)
    cache.batch_repeat_interleave(2)
    cache.batch_select_indices(torch.tensor([3, 0, 0]))
    following = prompt(5, batch=3, seed=9)
    result = logits(model, following, cache)
    for index, source in enumerate([1, 0, 0]):
        whole = torch.cat([ids[source], following[index]])[None]
        assert torch.allclose(result[index], logits(model, whole)[0, 40:], atol=1e-3)
    assert cache.store.statistics.sequences == 3
    cache.batch_select_indices(torch.tensor([False, True, False]))
    assert (cache.batch_size, cache.store.statistics.sequences) == (1, 1)


def test_crop_takes_tokens_back():
    ids = prompt(60)
    model = small_model("mistral")
    cache = NibbleCache(model.config, "exact")
    logits(model, ids, cache, 20)
    cache.crop(-25)
    assert cache.get_seq_length() == 35
    result = logits(model, ids[:, 35:], cache)
    assert torch.allclose(result, logits(model, ids)[:, 35:], atol=1e-3)
    cache.crop(0)
    cache.crop(10)
    assert {layer.get_seq_length() for layer in cache.layers} == {cache.sequences[0].length} == {10}
    with pytest.raises(nibblekv.InvalidArgumentError, match="11 tokens cannot be removed"):
        cache.crop(-11)


def test_assisted_generation_crops():
    ids = prompt(40)
    expected = generate(small_model("llama"), ids)
    model = small_model("llama")
    cache = NibbleCache(model.config, "exact")
    other = small_model("llama", seed=8)
    assert torch.equal(generate(model, ids, cache, assistant_model=other), expected)


def test_reset_empties_the_cache():
    model = small_model("qwen3")
    cache = NibbleCache(model.config, "exact")
    logits(model, prompt(40, batch=2), cache)
    cache.reset()
    assert (cache.get_seq_length(), cache.batch_size, cache.total_bytes) == (0, -1, 0)
    assert cache.store.statistics.sequences == 0
    ids = prompt(40)
    assert torch.allclose(logits(model, ids, cache), logits(model, ids), atol=1e-3)


def test_a_saved_conversation_goes_on(tmp_path):
    ids = prompt(60)
    model = small_model("qwen2")
    expected = generate(model, ids)
    cache = NibbleCache(model.config, "exact")
    logits(model, ids[:, :40], cache)
    cache.sequences[0].save(tmp_path / "a.session")
    other = NibbleCache(model.config, "exact")
    other.adopt([other.store.restore(tmp_path / "a.session")])
    assert other.get_seq_length() == 40
    assert torch.equal(generate(model, ids, other), expected)
    for sequences, words in (
        ([], "expected one length"),
        ([other.store.sequence(), *other.sequences], r"\[0, 99\] tokens"),
        (cache.sequences, "another cache"),
    ):
        with pytest.raises(nibblekv.InvalidArgumentError, match=words):
            other.adopt(sequences)
    assert (other.get_seq_length(), other.sequences[0].length) == (99, 99)


def test_rows_of_half_precision_are_taken():
    ids = prompt(60)
    model = small_model("llama").to(torch.bfloat16)
    result = logits(model, ids, NibbleCache(model.config, "exact"))
    assert result.dtype == torch.bfloat16
    expected = logits(model, ids)
    assert (result - expected).float().norm() < 0.03 * expected.float().norm()


def test_no_copy_is_made_on_the_way_to_the_library(monkeypatch):
    """Projected rows of one sequence are dense: their own memory is what is appended and attended
    with, and the output goes where the model reads it."""
    addresses: dict[str, set[int]] = {"appended": set(), "made": set()}
    own_append, own_attend = nibblekv.Sequence.append, nibblekv.Sequence.attend

    def append(self, layer, keys, values):
        assert all(rows.is_contiguous() and rows.dtype == torch.float32 for rows in (keys, values))
        addresses["appended"] |= {keys.data_ptr(), values.data_ptr()}
        own_append(self, layer, keys, values)

    def attend(self, layer, queries, out, **options):
        assert queries.is_contiguous()
        result = own_attend(self, layer, queries, out, **options)
        assert result.data_ptr() == out.data_ptr()
        return result

    def update(self, keys, values, *arguments, **options):
        addresses["made"] |= {keys.data_ptr(), values.data_ptr()}
        packed = own_update(self, keys, values, *arguments, **options)
        assert all(isinstance(rows, PackedRows) for rows in packed)
        return packed

    model = small_model("llama")
    cache = NibbleCache(model.config)
    own_update = type(cache.layers[0]).update
    monkeypatch.setattr(type(cache.layers[0]), "update", update)
    monkeypatch.setattr(nibblekv.Sequence, "append", append)
    monkeypatch.setattr(nibblekv.Sequence, "attend", attend)
    logits(model, prompt(33), cache, 32)
    assert addresses["appended"] == addresses["made"] != set()


def test_tensors_hold_no_rows():
    """What Python holds of a long context: nothing that grows with it."""
    model = small_model("llama")
    cache = NibbleCache(model.config, SMALL_PAGES)
    logits(model, prompt(900), cache, 100)
    held = [
        value
        for part in (cache, *cache.layers)
        for value in vars(part).values()
        if isinstance(value, torch.Tensor)
    ]
    assert held == []
    statistics = cache.sequences[0].statistics
    assert cache.total_bytes == statistics.total_bytes < 0.5 * statistics.exact_bytes


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_padded_prompts_are_refused(family):
    ids = prompt(20, batch=2)
    padded = torch.ones_like(ids)
    padded[1, :3] = 0
    model = small_model(family)
    cache = NibbleCache(model.config)
    with pytest.raises(nibblekv.UnsupportedError, match=r"sequence 1.*does not see key 0"):
        generate(model, ids, cache, attention_mask=padded)
    assert (cache.get_seq_length(), cache.batch_size) == (0, -1)
    generate(model, ids[:1], cache)


def test_what_is_not_causal_is_refused():
    ids = prompt(6)
    model = small_model("llama")
    cache = NibbleCache(model.config)
    everything = torch.ones(1, 1, 6, 6, dtype=torch.bool)
    with pytest.raises(nibblekv.UnsupportedError, match="query 0 sees key 1"), torch.no_grad():
        model(input_ids=ids, attention_mask=everything, past_key_values=cache)
    bias = torch.full((6, 6), torch.finfo(torch.float32).min).triu(1)
    bias[4, 2] = -0.5
    with pytest.raises(nibblekv.UnsupportedError, match="query 4 sees key 2"), torch.no_grad():
        model(input_ids=ids, attention_mask=bias[None, None], past_key_values=cache)
    with pytest.raises(nibblekv.UnsupportedError, match="gradients"):
        model(input_ids=ids, past_key_values=cache)


def test_a_copied_config_is_an_error_not_a_wrong_result():
    model = small_model("llama")
    cache = NibbleCache(configuration("llama"))
    with pytest.raises(nibblekv.UnsupportedError, match="own config"):
        logits(model, prompt(6), cache)


def test_a_step_that_fails_is_taken_back():
    ids = prompt(40, batch=2)
    model = small_model("llama")
    cache = NibbleCache(model.config, "exact")
    logits(model, ids, cache)
    poison = model.model.layers[2].self_attn.k_proj
    handle = poison.register_forward_hook(lambda module, given, rows: rows * float("nan"))
    with pytest.raises(nibblekv.InvalidArgumentError, match="nan"):
        logits(model, ids[:, :3], cache)
    handle.remove()
    assert {layer.get_seq_length() for layer in cache.layers} == {40}
    assert torch.allclose(
        logits(model, ids[:, :3], cache),
        logits(model, torch.cat([ids, ids[:, :3]], 1))[:, 40:],
        atol=1e-3,
    )
    with pytest.raises(nibblekv.InvalidArgumentError, match="3 rows, but the cache 2"):
        logits(model, prompt(3, batch=3), cache)


def test_models_of_other_kinds_are_refused():
    shape = configuration("llama").to_dict()
    chunked = transformers.LlamaConfig(**{**shape, "layer_types": ["chunked_attention"] * 4})
    for config, words in (
        (transformers.T5Config(), "encoder-decoder"),
        (chunked, "chunked_attention"),
    ):
        with pytest.raises(nibblekv.UnsupportedError, match=words):
            NibbleCache(config)
    with pytest.raises(nibblekv.InvalidArgumentError, match="'fast'"):
        NibbleCache(configuration("llama"), attention="fast")


def test_a_budget_that_is_exceeded_is_an_error():
    model = small_model("llama")
    with pytest.raises(nibblekv.OverBudgetError, match="4096 bytes"):
        generate(model, prompt(60), NibbleCache(model.config, budget="4KiB"))
