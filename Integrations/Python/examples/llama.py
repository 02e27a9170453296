"""Llama on NumPy over NibbleKV: prefill and greedy decoding with a cache that stays compressed.

python3 llama.py MODEL --ids 0,454,1137 [--policy balanced] [--calibration FILE] [--tokens 32]
    [--logits FILE]

Products, their order and every other operation are those of NibbleKV's own host in Swift and of
the example in C, with the system's OpenBLAS and C library: so all three compute the same logits,
bit for bit. A model of a Hugging Face directory, of the type llama.
"""

from __future__ import annotations

import argparse
import ctypes
import ctypes.util
import json
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

import nibblekv

Floats = np.ndarray[Any, np.dtype[np.float32]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="a Hugging Face directory")
    parser.add_argument("--ids", required=True, help="token ids, separated by commas")
    parser.add_argument("--policy", default="balanced")
    parser.add_argument("--calibration", type=Path, help="a file of `nibble calibrate`")
    parser.add_argument("--tokens", type=int, default=32, help="how many to generate")
    parser.add_argument("--chunk", type=int, default=512, help="the most of one step")
    parser.add_argument("--logits", type=Path, help="float32 logits, a row for each token fed")
    options = parser.parse_args()

    ids = [int(word) for word in options.ids.split(",")]
    model = Llama(options.model)
    cache = nibblekv.Cache(
        *(model.layers, model.query_heads, model.kv_heads, model.head_dim),
        options.policy,
        calibration=options.calibration,
    )
    with cache, cache.sequence() as sequence:
        output = options.logits.open("wb") if options.logits else None
        print(generate(model, sequence, ids, options.tokens, options.chunk, output))
        held = sequence.statistics
        print(
            f"policy {options.policy}: {held.tokens} tokens, {held.compressed_tokens} of them at "
            f"{held.bits_per_value:.2f} bits per value; {held.total_bytes} bytes instead of "
            f"{held.exact_bytes}"
        )
        if output:
            output.close()


def generate(
    model: Llama,
    sequence: nibblekv.Sequence,
    ids: list[int],
    tokens: int,
    chunk: int,
    output: BinaryIO | None,
) -> list[int]:
    """Feeds the prompt in chunks, its last token by itself, then each new token."""
    generated: list[int] = []
    last = len(ids) - 1
    steps = [ids[first : min(first + chunk, last)] for first in range(0, last, chunk)]
    steps.append(ids[last:])
    while len(generated) < tokens:
        logits = model.forward(sequence, steps.pop(0))
        if output:
            output.write(logits.tobytes())
        if not steps:
            generated.append(int(logits[-1].argmax()))
            steps = [generated[-1:]]
    return generated


class Llama:
    """The weights of a Llama model, in float32, and its forward pass."""

    def __init__(self, directory: Path) -> None:
        config = json.loads((directory / "config.json").read_text())
        refuse_others(config, directory)
        self.layers: int = config["num_hidden_layers"]
        self.query_heads: int = config["num_attention_heads"]
        self.kv_heads: int = config.get("num_key_value_heads", self.query_heads)
        self.head_dim: int = config.get("head_dim") or config["hidden_size"] // self.query_heads
        self.epsilon = np.float32(config.get("rms_norm_eps", 1e-6))
        self.weights = read_safetensors(directory / "model.safetensors")
        self.embedding = self.weights["model.embed_tokens.weight"]
        tied = config.get("tie_word_embeddings", False)
        self.head = self.embedding if tied else self.weights["lm_head.weight"]
        base = float(rotary_value(config, "rope_theta", 10000.0))
        exponents = [pair / self.head_dim for pair in range(0, self.head_dim, 2)]
        self.frequencies = np.array([1 / base**exponent for exponent in exponents], np.float32)
        if sum(weight.size for weight in self.weights.values()) < 64 << 20:
            blas.openblas_set_num_threads(1)

    def forward(self, sequence: nibblekv.Sequence, tokens: list[int]) -> Floats:
        """The logits of tokens that follow those of the sequence: (tokens, vocabulary)."""
        positions = np.arange(sequence.length, sequence.length + len(tokens), dtype=np.float32)
        angles = positions[:, None] * self.frequencies
        rotation = each(libm.cosf, angles)[:, None], each(libm.sinf, angles)[:, None]
        hidden = self.embedding[tokens]
        for layer in range(self.layers):
            name = f"model.layers.{layer}."
            normed = self._norm(hidden, f"{name}input_layernorm")
            self._attend(sequence, layer, normed, rotation, hidden)
            normed = self._norm(hidden, f"{name}post_attention_layernorm")
            gate = multiply(normed, self.weights[f"{name}mlp.gate_proj.weight"])
            up = multiply(normed, self.weights[f"{name}mlp.up_proj.weight"])
            gate = gate / (1 + each(libm.expf, -gate)) * up
            multiply(gate, self.weights[f"{name}mlp.down_proj.weight"], added_to=hidden)
        return multiply(self._norm(hidden, "model.norm"), self.head)

    def _attend(
        self,
        sequence: nibblekv.Sequence,
        layer: int,
        normed: Floats,
        rotation: tuple[Floats, Floats],
        hidden: Floats,
    ) -> None:
        def projected(part: str, heads: int) -> Floats:
            weight = self.weights[f"model.layers.{layer}.self_attn.{part}_proj.weight"]
            return multiply(normed, weight).reshape(-1, heads, self.head_dim)

        queries = rotated(projected("q", self.query_heads), *rotation)
        keys = rotated(projected("k", self.kv_heads), *rotation)
        sequence.append(layer, keys, projected("v", self.kv_heads))
        attended = np.asarray(sequence.attend(layer, queries)).reshape(len(normed), -1)
        output = self.weights[f"model.layers.{layer}.self_attn.o_proj.weight"]
        multiply(attended, output, added_to=hidden)

    def _norm(self, rows: Floats, name: str) -> Floats:
        """Root-mean-square norm of rows of a multiple of 8 values, summed up in eight lanes."""
        squares = (rows * rows).reshape(len(rows), -1, 8)
        # cumsum adds one after the other; sum would add in pairs.
        lanes = squares.cumsum(axis=1, dtype=np.float32)[:, -1]
        sums = lanes.cumsum(axis=1, dtype=np.float32)[:, -1:]
        means = sums / np.float32(rows.shape[1])
        scale = np.float32(1) / np.sqrt(means + self.epsilon)
        return np.asarray(rows * scale * self.weights[f"{name}.weight"], np.float32)


def rotary_value(config: dict[str, Any], name: str, otherwise: Any) -> Any:
    """A field of the configuration, or of its ``rope_parameters``, where transformers 5 has it."""
    for fields in (config, config.get("rope_parameters") or {}):
        if fields.get(name) is not None:
            return fields[name]
    return otherwise


def refuse_others(config: dict[str, Any], directory: Path) -> None:
    """What this example leaves out must not be there, for it would compute something else."""
    if config.get("model_type") != "llama":
        raise SystemExit(f"{directory}: not of the type llama")
    if (config.get("hidden_act") or "silu") != "silu":
        raise SystemExit(f"{directory}: hidden_act is not silu")
    if config.get("attention_bias") or config.get("mlp_bias"):
        raise SystemExit(f"{directory}: biases are not computed here")
    kind = (config.get("rope_parameters") or {}).get("rope_type") or "default"
    if config.get("rope_scaling") is not None or kind != "default":
        raise SystemExit(f"{directory}: scaled rotary embeddings are not computed here")
    if rotary_value(config, "partial_rotary_factor", 1) != 1:
        raise SystemExit(f"{directory}: partial_rotary_factor is not 1")


def rotated(rows: Floats, cosines: Floats, sines: Floats) -> Floats:
    """Rows (tokens, heads, head_dim), rotated in the half-split order."""
    first, second = np.split(rows, 2, axis=-1)
    return np.concatenate(
        [first * cosines - second * sines, second * cosines + first * sines], axis=-1
    )


# The BLAS and the C library


def system_library(name: str) -> ctypes.CDLL:
    path = ctypes.util.find_library(name)
    if path is None:
        raise SystemExit(f"the system has no library {name}; Debian has it in lib{name}-dev")
    return ctypes.CDLL(path)


blas = system_library("openblas")
libm = system_library("m")
for _function in (libm.expf, libm.cosf, libm.sinf):
    _function.argtypes, _function.restype = [ctypes.c_float], ctypes.c_float
_ROW_MAJOR, _PLAIN, _TRANSPOSED = 101, 111, 112


def each(function: Any, values: Floats) -> Floats:
    """A function of the C library of every value; NumPy's own rounds otherwise."""
    results = [function(value) for value in values.ravel().tolist()]
    return np.array(results, np.float32).reshape(values.shape)


def multiply(rows: Floats, weights: Floats, added_to: Floats | None = None) -> Floats:
    """Rows (tokens, inputs) times weights (outputs, inputs), (tokens, outputs), which may be added
    to what is there: a product with a vector for one token, with a matrix for several."""
    (tokens, inputs), outputs = rows.shape, len(weights)
    rows = np.ascontiguousarray(rows)
    result = np.empty((tokens, outputs), np.float32) if added_to is None else added_to
    one, beta = ctypes.c_float(1), ctypes.c_float(0 if added_to is None else 1)
    row, weight, target = (ctypes.c_void_p(array.ctypes.data) for array in (rows, weights, result))
    if tokens == 1:
        blas.cblas_sgemv(
            *(_ROW_MAJOR, _PLAIN, outputs, inputs, one, weight, inputs),
            *(row, 1, beta, target, 1),
        )
    else:
        blas.cblas_sgemm(
            *(_ROW_MAJOR, _PLAIN, _TRANSPOSED, tokens, outputs, inputs, one, row, inputs),
            *(weight, inputs, beta, target, outputs),
        )
    return result


def read_safetensors(path: Path) -> dict[str, Floats]:
    """All tensors of a file in F32, F16 or BF16, widened to float32."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    tensors = {}
    for name, tensor in header.items():
        begin, end = (start + offset for offset in tensor["data_offsets"])
        kind = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}[tensor["dtype"]]
        values = np.frombuffer(data[begin:end], kind)
        if tensor["dtype"] == "BF16":
            values = (values.astype(np.uint32) << 16).view(np.float32)
        tensors[name] = np.ascontiguousarray(values, np.float32).reshape(tensor["shape"])
    return tensors


if __name__ == "__main__":
    main()
