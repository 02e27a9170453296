"""Decoding steps of a model with tiny width and full-size heads, after a long context: time and
memory, each cache in a process of its own.

python3 decode.py [--caches dynamic,balanced,quanto:4] [--context 32768] [--steps 8] [--json]

The model has random weights, 2 layers, 8 query and 8 KV heads of 128 channels, and 64 channels
between them, so a step is attention and little else. The context is put into the cache without
attention. Times are medians and minima of steps, all layers; memory is the growth of the process's
peak from before the cache.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from statistics import median
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from nibblekv.eval import measured_cache
from nibblekv.eval._run import cache_argument

HEADS, DIM, CHUNK = 8, 128, 1024
CONFIG = LlamaConfig(
    vocab_size=64,
    hidden_size=64,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=HEADS,
    num_key_value_heads=HEADS,
    head_dim=DIM,
    max_position_embeddings=1 << 20,
)
# Large blocks that are freed go back to the system, so that the peak is of what is in use and not
# of what the heap keeps; for all caches alike.
ENVIRONMENT = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(1 << 20)}


def peak_bytes() -> int:
    """Most resident memory that the process has had."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@torch.inference_mode()
def measure(name: str, context: int, steps: int, threads: int) -> dict[str, Any]:
    """One cache, in this process."""
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    model = LlamaForCausalLM(CONFIG).eval()
    measured = measured_cache(name, model.config, threads)
    # What a first step takes once is no matter of the cache.
    model(input_ids=torch.zeros((1, 8), dtype=torch.long))
    before = peak_bytes()
    measured.begin()
    fill(measured.cache, context, whole=name.startswith(("quanto", "hqq")))
    argument = cache_argument(model.forward)
    times = []
    for step in range(steps + 2):
        start = time.perf_counter()
        ids = torch.tensor([[step % CONFIG.vocab_size]])
        model(input_ids=ids, use_cache=True, **{argument: measured.cache})
        times.append((time.perf_counter() - start) * 1e6)
    return {
        "cache": name,
        "tokens": context,
        "kv_heads": HEADS,
        "head_dim": DIM,
        "threads": threads,
        "runs": steps,
        "median_us": median(times[2:]),
        "min_us": min(times[2:]),
        "total_bytes": measured.total_bytes(),
        "dynamic_bytes": 2 * 4 * (context + steps + 2) * HEADS * DIM * CONFIG.num_hidden_layers,
        "resident_growth_bytes": peak_bytes() - before,
    }


def fill(cache: Any, context: int, whole: bool) -> None:
    """Random rows: in chunks, or at once where a cache encodes all of it anew with each chunk."""
    chunk = context if whole else CHUNK
    for first in range(0, context, chunk):
        for layer in range(CONFIG.num_hidden_layers):
            shape = (1, HEADS, min(chunk, context - first), DIM)
            cache.update(torch.randn(shape), torch.randn(shape), layer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--caches", default="dynamic,balanced,quanto:4")
    parser.add_argument("--context", type=int, default=32768)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    names = options.caches.split(",")
    if options.here:
        print(json.dumps(measure(names[0], options.context, options.steps, options.threads)))
        return
    rows = []
    for name in names:
        amounts = [f"--{key}={getattr(options, key)}" for key in ("context", "steps", "threads")]
        command = [sys.executable, __file__, "--here", "--caches", name, *amounts]
        said = subprocess.run(
            command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True, check=True
        ).stdout
        rows.append(json.loads(said))
    if options.json:
        print(json.dumps({"rows": rows}, indent=2))
        return
    for row in rows:
        print(
            f"{row['cache']:>12}: {row['median_us'] / 1000:8.1f} ms a step (shortest "
            f"{row['min_us'] / 1000:.1f}), {row['resident_growth_bytes'] / 2**20:.0f} MiB grown, "
            f"{row['resident_growth_bytes'] / row['dynamic_bytes']:.2f} of the dynamic cache"
        )


if __name__ == "__main__":
    main()
