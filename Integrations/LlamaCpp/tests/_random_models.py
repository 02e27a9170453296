"""Small GGUF models with random weights, of kinds whose states the embedded model does not show."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

VOCABULARY, WIDTH, LAYERS, WINDOW = 128, 64, 6, 32
_HEADS, _KV_HEADS, _HEAD_DIM, _FEED_FORWARD = 4, 2, 16, 96
_INNER, _STATE, _RANK, _KERNEL = 2 * WIDTH, 8, 4, 4


def random_model(architecture: str, path: Path) -> Path:
    """``gemma3`` has a window in five of six layers, ``qwen2vl`` 2D positions (M-RoPE), ``mamba`` a
    recurrent state in place of a KV cache."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(LAYERS)
    writer.add_context_length(1024)
    writer.add_embedding_length(WIDTH)
    writer.add_vocab_size(VOCABULARY)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_tokenizer_model("no_vocab")
    shapes = {"token_embd.weight": (VOCABULARY, WIDTH), "output_norm.weight": (WIDTH,)}
    blocks = _recurrent(writer) if architecture == "mamba" else _attention(writer, architecture)
    for layer in range(LAYERS):
        shapes |= {f"blk.{layer}.{name}": shape for name, shape in blocks.items()}
    generator = np.random.default_rng(9)
    for name, shape in shapes.items():
        weights = generator.standard_normal(shape).astype(np.float32) * 0.2
        writer.add_tensor(name, np.ones_like(weights) if "norm" in name else weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _attention(writer: gguf.GGUFWriter, architecture: str) -> dict[str, tuple[int, ...]]:
    writer.add_feed_forward_length(_FEED_FORWARD)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_KV_HEADS)
    writer.add_key_length(_HEAD_DIM)
    writer.add_value_length(_HEAD_DIM)
    queries, rows = _HEADS * _HEAD_DIM, _KV_HEADS * _HEAD_DIM
    shapes: dict[str, tuple[int, ...]] = {
        "attn_norm.weight": (WIDTH,),
        "attn_q.weight": (queries, WIDTH),
        "attn_k.weight": (rows, WIDTH),
        "attn_v.weight": (rows, WIDTH),
        "attn_output.weight": (WIDTH, queries),
        "ffn_norm.weight": (WIDTH,),
        "ffn_gate.weight": (_FEED_FORWARD, WIDTH),
        "ffn_up.weight": (_FEED_FORWARD, WIDTH),
        "ffn_down.weight": (WIDTH, _FEED_FORWARD),
    }
    if architecture == "gemma3":
        writer.add_sliding_window(WINDOW)
        shapes |= {"attn_q_norm.weight": (_HEAD_DIM,), "attn_k_norm.weight": (_HEAD_DIM,)}
        shapes |= {"post_attention_norm.weight": (WIDTH,), "post_ffw_norm.weight": (WIDTH,)}
    else:
        writer.add_rope_dimension_sections([4, 2, 2, 0])
    return shapes


def _recurrent(writer: gguf.GGUFWriter) -> dict[str, tuple[int, ...]]:
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    writer.add_ssm_conv_kernel(_KERNEL)
    writer.add_ssm_inner_size(_INNER)
    writer.add_ssm_state_size(_STATE)
    writer.add_ssm_time_step_rank(_RANK)
    return {
        "attn_norm.weight": (WIDTH,),
        "ssm_in.weight": (2 * _INNER, WIDTH),
        "ssm_conv1d.weight": (_INNER, _KERNEL),
        "ssm_conv1d.bias": (_INNER,),
        "ssm_x.weight": (_RANK + 2 * _STATE, _INNER),
        "ssm_dt.weight": (_INNER, _RANK),
        "ssm_dt.bias": (_INNER,),
        "ssm_a": (_INNER, _STATE),
        "ssm_d": (_INNER,),
        "ssm_out.weight": (WIDTH, _INNER),
    }
