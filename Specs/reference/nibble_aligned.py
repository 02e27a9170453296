"""Calibrated transforms of codecs.md, in Python: which coefficients get how many bits.

Which vectors a transform has is the affair of calibration.md; here they are given.
"""

from dataclasses import dataclass

import numpy as np

F = np.float32
EVEN_UNIT = F(8) / F(127)  # the spacing of the levels of eight bits

# What a code leaves of the variance of a coefficient, by its bits.
ERRORS = {
    "trellis": {4: 0.0056, 3: 0.0204, 2: 0.0748, 1: 0.282, 0: 1.0},
    "rotated": {4: 0.0094, 3: 0.0342, 2: 0.1163, 0: 1.0},
}


@dataclass(eq=False)
class Transform:
    """Coefficients are `analysis @ (row - mean)`, rows are `mean + coefficients @ synthesis`."""

    mean: np.ndarray  # (channels)
    analysis: np.ndarray  # (channels, channels), one vector a row
    synthesis: np.ndarray  # (channels, channels), one vector a row
    weights: np.ndarray  # (channels), descending


def stretches(count, step):
    """Coefficients of each stretch; the last one takes what is left over."""
    whole = max(1, count // step)
    return [step] * (whole - 1) + [count - step * (whole - 1)]


def allot(name, bits, weights, step):
    """Pairs (channels, bits) for the parts of a strip of `bits` a coefficient on average."""
    error_of = {8: float(EVEN_UNIT * EVEN_UNIT) / 12, **ERRORS[name]}
    budget = bits * len(weights)
    # By the bits of the last stretch and the bits spent: the least error, and how it is reached.
    best = {(8, 0): (0.0, ())}
    first = 0
    for length in stretches(len(weights), step):
        weight = 0.0
        for x in weights[first : first + length]:
            weight += float(x)
        first += length
        longer = {}
        # Descending, so that of equal errors the one with more bits before is found first.
        for (before, spent), (error, path) in sorted(best.items(), key=lambda x: -x[0][0]):
            for rate in (r for r in error_of if r <= before):
                key = (rate, spent + rate * length)
                total = error + weight * error_of[rate]
                if key[1] <= budget and (key not in longer or total < longer[key][0]):
                    longer[key] = (total, (*path, (length, rate)))
        best = longer
    _, _, _, path = min((error, -rate, spent, path) for (rate, spent), (error, path) in best.items())
    parts = []
    for length, rate in path:
        if rate == 0:
            break
        if parts and parts[-1][1] == rate:
            parts[-1][0] += length
        else:
            parts.append([length, rate])
    return [tuple(part) for part in parts]
