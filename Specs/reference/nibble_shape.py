"""Shaping of codecs.md, in Python: codes moved so that errors are small where queries look.

A decoder needs none of this. All in float32, in the order that the document states.
"""

import numpy as np

from nibble_page import F, dot, from_bfloat16, from_float16, signs, table, transform

SWEEPS = 3


def metric(calibrated, is_rotated):
    """What errors cost: (channels, channels), with a diagonal of 1 on average."""
    vectors, channels = calibrated.analysis, len(calibrated.weights)
    if is_rotated:
        vectors = transform(vectors * signs(channels))
    result = np.zeros((channels, channels), F)
    for weight, vector in zip(calibrated.weights, vectors):
        result = result + (weight * vector)[:, None] * vector
    trace = F(0)
    for d in range(channels):
        trace = trace + result[d, d]
    return result * (F(channels) / trace)


def levels(strip, side):
    """What the levels of every token stand for, ascending by code: (tokens, levels)."""
    entries, scale, zero = table(strip, side)
    if strip.codec.bits == 8:
        entries = entries[np.arange(256) ^ 0x80]
    entries = entries[: 1 << strip.codec.bits]
    scales, zeros = np.full(strip.tokens, scale, F), np.full(strip.tokens, zero, F)
    if strip.scale_at is not None:
        scales = scales * from_bfloat16(side[strip.scale_at :][: 2 * strip.tokens].view("<u2"))
    if strip.zero_at is not None:
        zeros = zeros + from_float16(side[strip.zero_at :][: 2 * strip.tokens].view("<u2"))
    return (entries - zeros[:, None]) * scales[:, None]


def shape(strip, rows, codes, side):
    """Codes from which no step of one level lowers the cost, or which three sweeps have reached."""
    flip = 0x80 if strip.codec.bits == 8 else 0
    costs = metric(strip.transform, strip.codec.rotation == "hadamard")
    values = levels(strip, np.frombuffer(bytes(side), np.uint8))
    codes, token = codes ^ flip, np.arange(strip.tokens)
    slopes = dot(costs, (rows - values[token[:, None], codes])[:, None, :])
    # A sweep that changes nothing in a row is followed by others that change nothing there.
    for _ in range(SWEEPS):
        for d in range(strip.channels):
            code, slope = codes[:, d].copy(), slopes[:, d].copy()
            least, step = np.zeros(strip.tokens, F), np.zeros(strip.tokens, F)
            for k in (code - 1, code + 1):
                possible = (k >= 0) & (k < values.shape[1])
                change = values[token, np.where(possible, k, code)] - values[token, code]
                cost = change * (change * costs[d, d] - F(2) * slope)
                better = possible & (cost < least)
                least, step = np.where(better, cost, least), np.where(better, change, step)
                codes[:, d] = np.where(better, k, codes[:, d])
            moved = codes[:, d] != code
            slopes[moved] = slopes[moved] + costs[d] * -step[moved, None]
    return codes ^ flip
