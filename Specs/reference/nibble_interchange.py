"""The codecs of codecs.md that are for exchange and comparison: microscaling, pyramid, seeded.

Each has `sizes` (bytes of a strip), `encode` and `decode` of rows (tokens, channels).
"""

import functools

import numpy as np

F = np.float32


def bfloat16(scale):
    """A stored scale: bits, and the value as it is read back."""
    if scale < F(1.2e-38):
        return 0, F(0)
    bits = int(np.array([scale], F).view(np.uint32)[0])
    bits = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    return bits, np.array([bits << 16], np.uint32).view(F)[0]


# ---- Microscaling

BLOCK = {"mxfp4": 32, "nvfp4": 16, "mxint8": 32}
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], F)


def to_e2m1(values):
    """The nearest entry, of two the one with an even code; at most 6."""
    x = np.abs(values)
    middles = (E2M1[:-1] + E2M1[1:]) / 2
    code = (x[..., None] > middles).sum(-1) + ((x[..., None] == middles) & (np.arange(7) % 2 == 1)).sum(-1)
    return (code + 8 * np.signbit(values)).astype(np.uint8)


def from_e2m1(codes):
    return E2M1[codes & 7] * np.where(codes & 8, F(-1), F(1))


E4M3 = np.array(
    [m * 2.0**-9 if e == 0 else (8 + m) * 2.0 ** (e - 10) for e in range(16) for m in range(8)][:-1], F
)


def to_e4m3(value):
    if value >= 448:
        return 126
    above = int(np.searchsorted(E4M3, value))
    if above == 0 or E4M3[above] == value:
        return above
    low, high = value - E4M3[above - 1], E4M3[above] - value  # exact
    return above - 1 if low < high or (low == high and above % 2) else above


def blocks_of(channels, length):
    return [slice(i, min(i + length, channels)) for i in range(0, channels, length)]


def microscaling_size(form, tokens, channels):
    bits = 8 if form == "mxint8" else 4
    scales = tokens * len(blocks_of(channels, BLOCK[form]))
    return tokens * channels * bits // 8 + scales + (4 if form == "nvfp4" else 0)


def microscaling_encode(form, rows):
    tokens, channels = rows.shape
    parts = blocks_of(channels, BLOCK[form])
    unit = np.abs(rows).max() / F(448 * 6) if form == "nvfp4" else F(1)
    codes, scales = np.zeros(rows.shape, np.uint8), np.zeros((tokens, len(parts)), np.uint8)
    for token in range(tokens):
        for number, part in enumerate(parts):
            x = rows[token, part]
            top = np.abs(x).max()
            if form == "nvfp4":
                scales[token, number] = to_e4m3(top / F(6) / unit) if unit > 0 else 0
                scale = E4M3[scales[token, number]] * unit
            else:
                code = 0
                if top > 0:  # frexp: top = m * 2^e with m in [1/2, 1)
                    code = int(np.frexp(np.float64(top))[1]) - 1 - (2 if form == "mxfp4" else 0) + 127
                scales[token, number] = min(max(code, 0), 254)
                scale = F(2.0 ** (int(scales[token, number]) - 127))
            ratio = x / scale if scale > 0 else np.zeros_like(x)
            if form == "mxint8":
                codes[token, part] = np.clip(np.rint(ratio * F(64)), -127, 127).astype(np.int8).view(np.uint8)
            else:
                codes[token, part] = to_e2m1(ratio)
    data = codes.ravel()
    if form != "mxint8":
        data = data[0::2] | data[1::2] << 4
    tail = np.array([unit], "<f4").tobytes() if form == "nvfp4" else b""
    return data.tobytes() + scales.tobytes() + tail


def microscaling_decode(form, data, tokens, channels):
    parts = blocks_of(channels, BLOCK[form])
    data = np.frombuffer(data, np.uint8)
    size = tokens * channels * (8 if form == "mxint8" else 4) // 8
    codes, scales = data[:size], data[size : size + tokens * len(parts)].reshape(tokens, -1)
    if form == "mxint8":
        values = codes.view(np.int8).astype(F) / F(64)
    else:
        values = from_e2m1(np.stack([codes & 15, codes >> 4], -1).ravel())
    rows = values.reshape(tokens, channels).copy()
    unit = data[size + scales.size :][:4].view("<f4")[0] if form == "nvfp4" else F(1)
    for number, part in enumerate(parts):
        scale = scales[:, number]
        scale = E4M3[scale] * unit if form == "nvfp4" else (2.0 ** (scale.astype(float) - 127)).astype(F)
        rows[:, part] *= scale[:, None]
    return rows


# ---- Pyramid

SIXTEEN = 16
PULSES = {2: 12, 4: 58}


@functools.cache
def count(n, k):
    """Points of n integers whose magnitudes sum to k."""
    if k == 0:
        return 1
    if n == 0:
        return 0
    return count(n - 1, k) + count(n, k - 1) + count(n - 1, k - 1)


def in_order():
    """The coordinates in the order in which points are counted: 0, 1, -1, 2, -2, ..."""
    yield 0
    k = 1
    while True:
        yield k
        yield -k
        k += 1


def point_index(y):
    result, left = 0, int(np.abs(y).sum())
    for i, wanted in enumerate(y):
        for coordinate in in_order():
            if coordinate == wanted:
                break
            result += count(SIXTEEN - 1 - i, left - abs(coordinate))
        left -= abs(int(wanted))
    return result


def point_of(index, left):
    y = []
    for i in range(SIXTEEN):
        for coordinate in in_order():
            points = count(SIXTEEN - 1 - i, left - abs(coordinate))
            if index < points:
                break
            index -= points
        y.append(coordinate)
        left -= abs(coordinate)
    return np.array(y)


def total(values):
    """From left to right."""
    result = 0.0
    for value in values:
        result += float(value)
    return result


def nearest_point(x, pulses):
    size = total(np.abs(x))
    y = np.zeros(SIXTEEN, int)
    if size == 0:
        y[0] = pulses
        return y
    share = np.abs(x) / size
    y = (pulses * share).astype(int)
    along, square = total(share * y), float((y * y).sum())
    for _ in range(pulses - int(y.sum())):
        ratio = (along + share) * (along + share) / (square + (2 * y + 1))
        best = int(np.argmax(ratio))
        along, square = along + share[best], square + float(2 * y[best] + 1)
        y[best] += 1
    return np.where(x < 0, -y, y)


def pyramid_size(bits, tokens, channels):
    blocks = tokens * -(-channels // SIXTEEN)
    return blocks * bits * 2 + (blocks + 1) // 2 + 2 * tokens


def pyramid_encode(bits, rows):
    tokens, channels = rows.shape
    blocks = -(-channels // SIXTEEN)
    padded = np.zeros((tokens, blocks, SIXTEEN))
    padded.reshape(tokens, -1)[:, :channels] = rows
    indices, levels, scales = b"", [], b""
    for token in range(tokens):
        points = [nearest_point(x, PULSES[bits]) for x in padded[token]]
        gains = [
            max(0.0, total(x * y) / np.sqrt(float((y * y).sum()))) for x, y in zip(padded[token], points)
        ]
        stored, scale = bfloat16(F(max(gains)))
        for point, gain in zip(points, gains):
            indices += point_index(point).to_bytes(bits * 2, "little")
            levels.append(int(np.clip(np.rint(15 * gain / float(scale)), 0, 15)) if scale > 0 else 0)
        scales += stored.to_bytes(2, "little")
    levels += [0] * (len(levels) % 2)
    packed = bytes(low | high << 4 for low, high in zip(levels[0::2], levels[1::2]))
    return indices + packed + scales


def pyramid_decode(bits, data, tokens, channels):
    blocks, width = -(-channels // SIXTEEN), bits * 2
    gains = tokens * blocks * width
    scales = np.frombuffer(data[gains + (tokens * blocks + 1) // 2 :], "<u2")
    rows = np.zeros((tokens, blocks * SIXTEEN), F)
    for block in range(tokens * blocks):
        token = block // blocks
        y = point_of(int.from_bytes(data[block * width : (block + 1) * width], "little"), PULSES[bits])
        level = data[gains + block // 2] >> block % 2 * 4 & 15
        scale = float(np.array([int(scales[token]) << 16], np.uint32).view(F)[0])
        step = scale * level / (15 * np.sqrt(float((y * y).sum())))
        start = block % blocks * SIXTEEN
        rows[token, start : start + SIXTEEN] = (step * y).astype(F)
    return rows[:, :channels]


# ---- Seeded

EIGHT, COEFFICIENTS, BIAS = 8, 3, 160


@functools.cache
def bases():
    """The matrix of every seed but 0: (65535, 8, 3)."""
    state = np.arange(1, 65536)
    columns = []
    for _ in range(EIGHT * COEFFICIENTS):
        columns.append((state - 32768) / 32768)
        bit = (state ^ state >> 1 ^ state >> 3 ^ state >> 12) & 1
        state = state >> 1 | bit << 15
    return np.stack(columns, -1).reshape(-1, EIGHT, COEFFICIENTS)


@functools.cache
def gram():
    u = bases()
    result = {}
    for i in range(3):
        for j in range(i, 3):
            result[i, j] = sum_in_order(u[:, :, i] * u[:, :, j])
    return result


def sum_in_order(values):
    """Along the last axis, from left to right."""
    result = np.zeros(values.shape[:-1])
    for i in range(values.shape[-1]):
        result = result + values[..., i]
    return result


def best_seed(values):
    """Seed, exponent and coefficients of least squared error."""
    top = np.abs(values).max()
    if top == 0:
        return 1, -BIAS, np.zeros(3, int)
    shift = int(np.frexp(np.float64(top))[1]) - 1
    x = values.astype(float) * 2.0**-shift
    u, g = bases(), gram()
    a, b, c = (sum_in_order(u[:, :, p] * x) for p in range(3))
    m0 = g[1, 1] * g[2, 2] - g[1, 2] * g[1, 2]
    m1 = g[0, 2] * g[1, 2] - g[0, 1] * g[2, 2]
    m2 = g[0, 1] * g[1, 2] - g[0, 2] * g[1, 1]
    m3 = g[0, 0] * g[2, 2] - g[0, 2] * g[0, 2]
    m4 = g[0, 1] * g[0, 2] - g[0, 0] * g[1, 2]
    m5 = g[0, 0] * g[1, 1] - g[0, 1] * g[0, 1]
    determinant = g[0, 0] * m0 + g[0, 1] * m1 + g[0, 2] * m2
    good = determinant > 1e-6
    safe = np.where(good, determinant, 1)
    t = np.stack(
        [
            (m0 * a + m1 * b + m2 * c) / safe,
            (m1 * a + m3 * b + m4 * c) / safe,
            (m2 * a + m4 * b + m5 * c) / safe,
        ],
        -1,
    )
    largest = np.abs(t).max(axis=-1)
    good &= largest > 0
    exponent = np.frexp(np.where(good, largest, 1) / 7.5)[1] - 1
    exponent = exponent + (np.ldexp(7.5, exponent) < largest)
    exponent = np.clip(exponent, -BIAS - shift, 95 - shift)
    step = np.ldexp(1.0, exponent)
    rounded = np.clip(np.rint(t / step[:, None]), -8, 7)
    error = np.zeros(len(u))
    for i in range(EIGHT):
        difference = x[i] - sum_in_order(u[:, i] * rounded) * step
        error = error + difference * difference
    best = int(np.argmin(np.where(good, error, np.inf)))
    return best + 1, int(exponent[best]) + shift, rounded[best].astype(int)


def seeded_size(tokens, channels):
    return tokens * channels // EIGHT * 4 + tokens


def seeded_encode(rows):
    blocks, exponents = b"", b""
    for row in rows:
        found = [best_seed(row[i : i + EIGHT]) for i in range(0, row.size, EIGHT)]
        top = max(exponent for _, exponent, _ in found)
        exponents += bytes([top + BIAS])
        for seed, exponent, t in found:
            t = [int(v) & 15 if top - exponent <= 15 else 0 for v in t]
            below = min(top - exponent, 15)
            blocks += seed.to_bytes(2, "little") + bytes([below | t[0] << 4, t[1] | t[2] << 4])
    return blocks + exponents


def seeded_decode(data, tokens, channels):
    blocks = channels // EIGHT
    rows = np.zeros((tokens, channels), F)
    for block in range(tokens * blocks):
        word = data[4 * block : 4 * block + 4]
        t = np.array([word[2] >> 4, word[3] & 15, word[3] >> 4])
        t = np.where(t > 7, t - 16, t).astype(float)
        top = data[tokens * blocks * 4 + block // blocks] - BIAS
        matrix = bases()[int.from_bytes(word[:2], "little") - 1]
        start = block % blocks * EIGHT
        values = sum_in_order(matrix * t) * 2.0 ** (top - (word[2] & 15))
        rows[block // blocks, start : start + EIGHT] = values.astype(F)
    return rows


# ---- By name


def size(codec, tokens, channels):
    if codec.name == "microscaling":
        return microscaling_size(codec.format, tokens, channels)
    if codec.name == "pyramid":
        return pyramid_size(codec.bits, tokens, channels)
    return seeded_size(tokens, channels)


def encode(codec, rows):
    if codec.name == "microscaling":
        return microscaling_encode(codec.format, rows)
    return pyramid_encode(codec.bits, rows) if codec.name == "pyramid" else seeded_encode(rows)


def decode(codec, data, tokens, channels):
    if codec.name == "microscaling":
        return microscaling_decode(codec.format, data, tokens, channels)
    if codec.name == "pyramid":
        return pyramid_decode(codec.bits, data, tokens, channels)
    return seeded_decode(data, tokens, channels)
