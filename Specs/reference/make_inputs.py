#!/usr/bin/env python3
"""Writes the inputs of the golden vectors: shapes, rows, means, transforms and the list of cases.

    python3 Specs/reference/make_inputs.py

Needed only when cases are added; then the Swift test fills in bytes and decoded rows, as
Specs/vectors/README.md says. Needs numpy.
"""

import json
import pathlib

import numpy as np

VECTORS = pathlib.Path(__file__).resolve().parent.parent / "vectors"

CODECS = """
float32
float16
bfloat16
int8
int8 axis=channel
int8 rotation=hadamard mean=removed
linear:2
linear:3
linear:4
linear:8
linear:2 zero_point=false
linear:3 zero_point=false
linear:4 zero_point=false
linear:3 axis=channel
linear:4 axis=channel zero_point=false
linear:8 axis=channel mean=removed
linear:4 rotation=hadamard
clustered:2
clustered:3
clustered:4
clustered:2 axis=none
clustered:4 axis=none mean=removed
clustered:3 axis=channel
clustered:4 rotation=hadamard
rotated:2
rotated:3
rotated:4
rotated:4 mean=removed
""".split("\n")[1:-1]

# Pages of one block, of two, and with groups; head dimensions with and without padding.
GROUPED = """
int8 group=16
linear:2 group=16
linear:3 group=32
linear:4 group=16
rotated:4 group=32
""".split("\n")[1:-1]
BY_BLOCK = ["linear:3 axis=channel group=16", "linear:4 axis=channel group=32 zero_point=false"]
FEW = """
int8
linear:4
linear:3 zero_point=false
clustered:4
rotated:2
rotated:3
rotated:4
""".split("\n")[1:-1]
CLIPPED = [
    "linear:4 clip=search",
    "linear:3 axis=channel zero_point=false clip=search",
    "linear:2 clip=search",
    "linear:8 clip=search",
]
TRELLIS = ["trellis:1", "trellis:2", "trellis:3", "trellis:4", "trellis:3 rotation=none"]
BCQ = [
    "bcq:2",
    "bcq:3",
    "bcq:4",
    "bcq:4 blocks=tokens",
    "bcq:3 axis=channel blocks=tokens",
    "bcq:4 rotation=hadamard mean=removed",
]
INTERCHANGE = [
    "microscaling",
    "microscaling format=nvfp4",
    "microscaling format=mxint8",
    "pyramid:2",
    "pyramid:4",
    "seeded",
    "pyramid:4 rotation=hadamard",
]
BALANCED = [
    "linear:4 scales=balanced",
    "linear:2 scales=balanced zero_point=false",
    "clustered:3 scales=balanced",
    "rotated:4 scales=balanced mean=removed",
    "trellis:2 scales=balanced",
    "bcq:4 scales=balanced",
]
OUTLIERS = [
    "linear:2 outliers=1",
    "linear:3 axis=channel outliers=0.5",
    "clustered:3 scales=balanced outliers=2",
    "clustered:2 axis=none outliers=1",
    "trellis:2 outliers=1",
    "bcq:2 blocks=tokens outliers=1 mean=removed",
]
BCQ_GROUPED = ["bcq:4 group=16", "bcq:2 group=32 blocks=tokens", "bcq:4 axis=channel group=16 blocks=tokens"]
ALIGNED = [
    f"{word} rotation=aligned"
    for word in ["trellis:1", "trellis:2", "trellis:3", "trellis:4", "rotated:2", "rotated:3", "rotated:4"]
]
SHAPED = [
    f"{word} shaping=queries"
    for word in ["rotated:2", "rotated:3", "rotated:4", "linear:4", "linear:3", "clustered:3", "int8"]
]
SHAPED_ALSO = [
    "linear:2 zero_point=false clip=search shaping=queries",
    "linear:4 shaping=queries rotation=hadamard mean=removed",
    "clustered:2 axis=none shaping=queries",
]
# What follows `/` names the transform of cases with rotation=aligned or shaping=queries.
STEEP_64 = [f"{codec} / steep64" for codec in ALIGNED]
EQUAL_64 = [f"{ALIGNED[2]} / equal64", f"{ALIGNED[5]} mean=removed / equal64"]
STEEP_80 = [f"{codec} / steep80" for codec in ALIGNED]
STEEP_40 = [f"{codec} / steep40" for codec in (ALIGNED[1], ALIGNED[2], ALIGNED[3], ALIGNED[5])]
SHAPED_64 = [f"{codec} / steep64" for codec in SHAPED]
SHAPED_80 = [f"{codec} / steep80" for codec in [*SHAPED, *SHAPED_ALSO]]
SHAPED_40 = ["int8 zero_point=true shaping=queries / steep40"]
# Name, channels, powers of ten that the weights fall by, size of the mean.
TRANSFORMS = [
    ("steep40", 40, 5, 0.5),
    ("steep64", 64, 5, 0.5),
    ("equal64", 64, 0, 0.5),
    ("steep80", 80, 5, 0),
]
FILES = [
    (16, 8, [*CODECS, *BCQ, *INTERCHANGE]),
    (16, 24, [*CODECS, *CLIPPED, *BCQ, *INTERCHANGE]),
    (16, 64, [*TRELLIS, *BALANCED, *OUTLIERS, *STEEP_64, EQUAL_64[0]]),
    (48, 24, ["float16", *FEW, "linear:2 axis=channel group=16", *TRELLIS]),
    (64, 64, [*FEW[1:], *GROUPED, *BY_BLOCK, *BCQ, *BCQ_GROUPED, *BALANCED, "bcq:3 group=32 scales=balanced", *OUTLIERS, *TRELLIS, "trellis:4 mean=removed", *STEEP_64, *EQUAL_64, *SHAPED_64]),
    (64, 80, ["linear:4", "linear:4 group=16", "linear:4 axis=channel", *FEW[3:], *CLIPPED, *TRELLIS, *BCQ, *INTERCHANGE[:5], *STEEP_80, *SHAPED_80]),
    (128, 8, ["float16", "float32", *FEW, *BY_BLOCK, "clustered:3 axis=channel", *BALANCED[:3], *OUTLIERS[:4]]),
    (128, 40, [*STEEP_40, *SHAPED_40]),
]


def edge_rows(channels):
    """Rows that a codec may stumble over, for tokens 0 ... 9."""
    d = np.arange(channels)
    return [
        np.zeros(channels),
        np.where(d % 2, -0.0, 0.0),
        np.full(channels, -2.75),
        np.where(d == 5, 1000, 0.25 * np.sin(d)),  # one outlier
        1e-30 * (d - 3),
        1e-39 * (d - 3),  # below the smallest scale
        100 + 0.001 * d,  # far from zero in units of its range
        (d % 16) / 2,  # values between two levels
        np.where(d % 2, 30000, -30000),
        np.where(d == 1, 1, 0),
    ]


def hexadecimal(values):
    return np.asarray(values, np.float32).astype(">f4").tobytes().hex()


def reflected(rows, random):
    """Rows times a random orthogonal matrix, of four reflections."""
    for _ in range(4):
        normal = random.normal(0, 1, rows.shape[1])
        rows = rows - 2 * np.outer((rows * normal).sum(axis=1), normal) / (normal * normal).sum()
    return rows


def write_transform(name, channels, decades, mean):
    """Two rotations with a stretching between them; weights fall by so many powers of ten."""
    random = np.random.default_rng(channels + 1000 * decades)
    stretching = np.exp(random.uniform(-0.7, 0.7, channels))
    ends = np.exp(random.uniform(-0.2, 0.2, channels))[:, None]
    first = reflected(np.eye(channels), random)
    analysis, synthesis = (
        reflected(first * factor, np.random.default_rng(channels))
        for factor in (stretching, 1 / stretching)
    )
    weights = 10 ** (decades * (1 - np.arange(channels) / (channels - 1)) ** 2)
    file = {
        "head_dim": channels,
        "mean": hexadecimal(random.normal(0, 1, channels) * mean),
        "weights": hexadecimal(weights),
        "analysis": [hexadecimal(row) for row in analysis * ends],
        "synthesis": [hexadecimal(row) for row in synthesis / ends],
    }
    path = VECTORS / "transforms" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(file, indent=1) + "\n")


def case(text, side, shown):
    codec, _, transform = text.partition(" / ")
    return {
        "codec": codec,
        **({"transform": transform} if transform else {}),
        "side": side,
        "codes": [],
        "side_data": [],
        "decoded_tokens": list(shown),
        "decoded": [],
    }


def sides(codec):
    return ["keys"] if "shaping=queries" in codec else ["keys", "values"]


def main():
    for transform in TRANSFORMS:
        write_transform(*transform)
    for tokens, channels, codecs in FILES:
        random = np.random.default_rng(1000 * tokens + channels)
        offset = random.normal(0, 0.5, channels).astype(np.float32)
        rows = random.normal(0, 1, (tokens, channels)).astype(np.float32) + offset
        if (tokens, channels) in [(16, 24), (16, 64), (64, 80), (128, 40)]:
            edges = edge_rows(channels)
            rows[: len(edges)] = np.array(edges)
        shown = range(tokens) if tokens == 16 else [0, 1, 7, 31, tokens - 1]
        file = {
            "version": 1,
            "head_dim": channels,
            "page_tokens": tokens,
            "rows": [hexadecimal(row) for row in rows],
            "mean": hexadecimal(offset),
            "cases": [case(codec, side, shown) for codec in codecs for side in sides(codec)],
        }
        path = VECTORS / f"{tokens}x{channels}.json"
        path.write_text(json.dumps(file, indent=1) + "\n")


if __name__ == "__main__":
    main()
