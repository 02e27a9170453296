"""Makes a GGUF file of a small Llama checkpoint of Hugging Face, in float32.

python3 make_gguf.py Examples/Models/harbour-3m harbour-3m.gguf

For the tests and the example here: llama.cpp's own convert_hf_to_gguf.py reads far more models.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import torch
from safetensors.torch import load_file

_BLOCK_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def make_gguf(checkpoint: Path, out: Path) -> None:
    """Writes the model and its tokenizer, a byte-level BPE with GPT-2's way to split words.

    Raises:
        ValueError: A model of another kind.
    """
    config = json.loads((checkpoint / "config.json").read_text())
    # Where transformers 5 has what concerns rotary positions.
    config = (config.get("rope_parameters") or {}) | config
    _require_plain_llama(config)
    writer = gguf.GGUFWriter(out, "llama")
    _add_shape(writer, config)
    _add_tokenizer(writer, json.loads((checkpoint / "tokenizer.json").read_text()), config)
    for name, weights in _tensors(load_file(checkpoint / "model.safetensors"), config):
        writer.add_tensor(name, weights.float().contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _require_plain_llama(config: dict[str, Any]) -> None:
    expected = {"model_type": "llama", "hidden_act": "silu", "rope_scaling": None}
    expected |= {"attention_bias": False, "mlp_bias": False}
    expected |= {"rope_type": "default", "partial_rotary_factor": 1}
    for name, value in expected.items():
        if config.get(name, value) != value:
            raise ValueError(f"{name} is {config[name]!r}; expected {value!r}")


def _add_shape(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)


def _add_tokenizer(
    writer: gguf.GGUFWriter, tokenizer: dict[str, Any], config: dict[str, Any]
) -> None:
    model = tokenizer["model"]
    if model["type"] != "BPE" or tokenizer["pre_tokenizer"]["type"] != "ByteLevel":
        raise ValueError(f"the tokenizer is {model['type']}; expected a byte-level BPE")
    special = {token["id"] for token in tokenizer["added_tokens"] if token["special"]}
    texts = {number: text for text, number in model["vocab"].items()}
    texts |= {token["id"]: token["content"] for token in tokenizer["added_tokens"]}
    # Embeddings that no text leads to need a name too.
    tokens = [texts.get(number, f"[PAD{number}]") for number in range(config["vocab_size"])]
    types = [
        gguf.TokenType.UNUSED
        if number not in texts
        else gguf.TokenType.CONTROL
        if number in special
        else gguf.TokenType.NORMAL
        for number in range(config["vocab_size"])
    ]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(pair) for pair in model["merges"]])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(False)


def _tensors(
    weights: dict[str, torch.Tensor], config: dict[str, Any]
) -> Iterator[tuple[str, torch.Tensor]]:
    yield "token_embd.weight", weights["model.embed_tokens.weight"]
    yield "output_norm.weight", weights["model.norm.weight"]
    if not config["tie_word_embeddings"]:
        yield "output.weight", weights["lm_head.weight"]
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    for layer in range(config["num_hidden_layers"]):
        for source, target in _BLOCK_NAMES.items():
            tensor = weights[f"model.layers.{layer}.{source}.weight"]
            if target in heads:
                tensor = _interleaved(tensor, heads[target])
            yield f"blk.{layer}.{target}.weight", tensor


def _interleaved(weights: torch.Tensor, heads: int) -> torch.Tensor:
    """Rotary positions turn pairs of channels: Hugging Face pairs the halves of a head, llama.cpp
    neighbours."""
    pairs = weights.unflatten(0, (heads, 2, -1)).transpose(1, 2)
    return pairs.flatten(0, 2)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path, help="a Hugging Face directory")
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    make_gguf(options.checkpoint, options.out)
