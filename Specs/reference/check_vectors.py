#!/usr/bin/env python3
"""Checks every golden vector with the Python decoder, and its bytes with the Python encoder.

    python3 Specs/reference/check_vectors.py [--decode-only] [FILE...]

Decoded floats must be equal bit for bit, encoded bytes too. Needs numpy.
"""

import functools
import json
import pathlib
import sys

import numpy as np

from nibble_aligned import Transform
from nibble_encode import encode
from nibble_page import F, PageError, Strip, decode, parse_codec

VECTORS = pathlib.Path(__file__).resolve().parent.parent / "vectors"


def floats(lines):
    """Rows of float32, each value as the eight hexadecimal digits of its bits."""
    bits = np.array([np.frombuffer(bytes.fromhex(line), ">u4") for line in lines])
    return bits.astype(np.uint32).view(F)


@functools.cache
def transform(name):
    """One that cases with rotation=aligned or shaping=queries name."""
    file = json.loads((VECTORS / "transforms" / f"{name}.json").read_text())
    mean, weights = floats([file["mean"], file["weights"]])
    return Transform(mean, floats(file["analysis"]), floats(file["synthesis"]), weights)


def check(file, case, rows, mean, decode_only):
    codec, is_values = parse_codec(case["codec"]), case["side"] == "values"
    aligned = transform(case["transform"]) if "transform" in case else None
    strip = Strip(codec, is_values, file["head_dim"], file["page_tokens"], aligned)
    mean = mean if strip.codec.mean else None
    codes, side = bytes.fromhex("".join(case["codes"])), bytes.fromhex("".join(case["side_data"]))
    if (len(codes), len(side)) != (strip.code_bytes, strip.side_bytes):
        return "the layout has other lengths"
    decoded = decode(strip, codes + side, mean)
    expected = floats(case["decoded"])
    differing = np.sum(decoded[case["decoded_tokens"]].view(np.uint32) != expected.view(np.uint32))
    if differing:
        return f"{differing} decoded values differ"
    if not decode_only and encode(strip, rows, mean) != codes + side:
        return "the Python encoder gives other bytes"
    return None


def main(arguments):
    decode_only = "--decode-only" in arguments
    paths = [x for x in arguments if x != "--decode-only"]
    failures = count = 0
    for path in paths or sorted(VECTORS.glob("*.json")):
        file = json.loads(pathlib.Path(path).read_text())
        rows, mean = floats(file["rows"]), floats([file["mean"]])[0]
        for case in file["cases"]:
            count += 1
            try:
                problem = check(file, case, rows, mean, decode_only)
            except PageError as error:
                problem = str(error)
            if problem:
                failures += 1
                print(f"{pathlib.Path(path).name}: {case['codec']}, {case['side']}: {problem}")
    print(f"{count} vectors, {failures} wrong")
    return 1 if failures or count == 0 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
