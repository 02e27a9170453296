"""Compares attention through the Python package with what rows.c has written of the same rows.

python3 check_rows.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import nibblekv
import numpy as np


def main() -> None:
    paths = sorted(Path(sys.argv[1]).glob("*.rows"))
    if not paths:
        raise SystemExit(f"error: {sys.argv[1]} has no rows")
    for path in paths:
        check(path)
    print(f"{len(paths)} files, the same output in Python as in C")


def check(path: Path) -> None:
    line, body = path.read_bytes().split(b"\n", 1)
    policy, *numbers = line.decode().split()
    layers, query_heads, kv_heads, dim = map(int, numbers[:4])
    scale, window, soft_cap = float(numbers[4]), int(numbers[5]), float(numbers[6])
    floats, place = np.frombuffer(body, np.float32), 0

    def rows(tokens: int, heads: int) -> np.ndarray:
        nonlocal place
        place += tokens * heads * dim
        return floats[place - tokens * heads * dim : place].reshape(tokens, heads, dim)

    cache = nibblekv.Cache(layers, query_heads, kv_heads, dim, policy)
    sequence = cache.sequence()
    for tokens in map(int, numbers[7:]):
        for layer in range(layers):
            queries, keys, values, expected = (
                rows(tokens, heads) for heads in (query_heads, kv_heads, kv_heads, query_heads)
            )
            sequence.append(layer, keys, values)
            output = sequence.attend(
                *(layer, queries),
                scale=scale or None,
                window=window or None,
                soft_cap=soft_cap or None,
            )
            if np.asarray(output).tobytes() != expected.tobytes():
                raise SystemExit(
                    f"error: {policy}: {tokens} tokens of layer {layer}: Python's output differs"
                )
    if place != floats.size or sequence.length != sum(map(int, numbers[7:])):
        raise SystemExit(f"error: {path} has {floats.size} numbers, and {place} were expected")


if __name__ == "__main__":
    main()
