"""The encoder of codecs.md, in Python: for checking that the document says all of it.

A decoder needs none of this. Every float step is a float32 step unless it says otherwise.
"""

import math

import numpy as np

import nibble_interchange as interchange
from nibble_bcq import QUARTERS, choose, write_selectors
from nibble_page import (
    OPAQUE,
    ROWS,
    F,
    chain_pieces,
    decode_codes,
    dot,
    entries,
    from_bfloat16,
    from_float16,
    in_chains,
    lloyd_max,
    outliers,
    pack,
    pack_pieces,
    row_places,
    selector_bits,
    signs,
    to_bfloat16,
    to_float16,
    transform,
)
from nibble_shape import shape
from nibble_trellis import UNIT, search, trellis_table

SMALLEST = F(1.2e-38)
BINS = 256


def encode(strip, rows, mean=None):
    """Float32 rows (tokens, channels) to one strip's bytes: codes, then side data."""
    rows = np.asarray(rows, F)
    if mean is None and strip.codec.rotation == "aligned":
        mean = strip.transform.mean
    if mean is not None:
        rows = rows - np.asarray(mean, F)
    if strip.codec.rotation == "hadamard":
        rows = transform(rows * signs(strip.channels))
    elif strip.codec.rotation == "aligned":
        rows = dot(strip.transform.analysis, rows[:, None, :])
    if strip.codec.name in ROWS:
        return encode_rows(strip, rows)
    if strip.codec.name in OPAQUE:
        return interchange.encode(strip.codec, rows).ljust(strip.code_bytes, b"\0")
    side = bytearray(strip.side_bytes)
    if strip.codec.outliers:
        whole, rows = rows, take_outliers(strip, rows, side)
    with np.errstate(over="ignore", under="ignore"):
        if strip.codec.balanced:
            rows = balance(strip, rows, side)
        if strip.codec.rotation == "aligned":
            data = encode_parts(strip, rows, side)
            codes = None
        elif strip.codec.name == "clustered":
            codes = encode_fitted(strip, rows, side)
        elif strip.codec.name == "rotated":
            codes = encode_fixed(strip, rows, side)
        elif strip.codec.name == "bcq":
            codes, books = encode_codebooks(strip, rows, side)
        elif strip.codec.name == "trellis":
            data = encode_trellis(strip, rows, side)
            codes = None
        else:
            codes = encode_even(strip, rows, side)
        if strip.codec.shaped:
            codes = shape(strip, rows, codes, side)
    if codes is not None:
        data = pack(strip, codes)
    if strip.codec.name == "bcq":
        data = write_selectors(data, selector_bits(strip), books)
    if strip.codec.outliers:
        put_outliers(strip, whole, data, side)
    return data.tobytes() + bytes(side)


def take_outliers(strip, rows, side):
    """Stores where the largest values of each block are, and returns the rows without them."""
    result = rows.reshape(strip.blocks, -1).copy()
    indices = []
    for block in result:
        order = np.argsort(-np.abs(block), kind="stable")  # of equal ones the first
        indices.append(np.sort(order[: strip.outlier_count]))
        taken = block[indices[-1]]
        block[indices[-1]] = np.nan
        for index, value in zip(indices[-1], taken):
            kept = sharing(strip, block, index)
            kept = kept[~np.isnan(kept)]
            block[index] = np.clip(value, kept.min(), kept.max()) if kept.size else F(0)
    data = np.array(indices, "<u2").tobytes()
    side[strip.outliers_at : strip.outliers_at + len(data)] = data
    return result.reshape(rows.shape)


def sharing(strip, block, index):
    """The values of a block that share a scale with one."""
    block, (t, d) = block.reshape(-1, strip.channels), divmod(index, strip.channels)
    if strip.codec.axis == "channel":
        return block[:, d]
    start = d // strip.group * strip.group
    return block[t, start : start + strip.group]


def put_outliers(strip, rows, data, side):
    """Stores what the codes leave of them."""
    index, _ = outliers(strip, np.frombuffer(bytes(side), np.uint8))
    dense = decode_codes(strip, data, np.frombuffer(bytes(side), np.uint8)).ravel()
    kept = to_bfloat16(rows.ravel()[index] - dense[index]).astype("<u2").tobytes()
    side[strip.outliers_at + len(kept) :] = kept


def encode_rows(strip, rows):
    bits = {
        "float32": lambda: rows.view(np.uint32),
        "float16": lambda: to_float16(rows),
        "bfloat16": lambda: to_bfloat16(rows),
    }[strip.codec.name]()
    result = np.zeros(strip.code_bytes * 8 // strip.codec.bits, bits.dtype)
    result[row_places(strip)] = bits
    return result.tobytes()


# ---- Scales


def scale_sets(strip, rows):
    """The sets of values that share a scale, one per row: scale_shape, then the set's values."""
    if strip.codec.axis == "channel":
        return rows.reshape(strip.blocks, strip.block_tokens, strip.channels).swapaxes(1, 2)
    return rows.reshape(strip.tokens, -1, strip.group).swapaxes(0, 1)


def unsets(strip, values):
    """The inverse of scale_sets."""
    if strip.codec.axis == "channel":
        return values.swapaxes(1, 2).reshape(strip.tokens, strip.channels)
    return values.swapaxes(0, 1).reshape(strip.tokens, strip.channels)


def store_scale(strip, side, scale):
    """Stores scales as bfloat16 and returns them as they will be read back."""
    bits = np.where(scale < SMALLEST, np.uint16(0), to_bfloat16(scale)).astype(np.uint16)
    side[strip.scale_at : strip.scale_at + 2 * bits.size] = bits.astype("<u2").tobytes()
    return from_bfloat16(bits)


def inverse(scale):
    safe = np.where(scale > SMALLEST, scale, F(1))
    return np.where(scale > SMALLEST, F(1) / safe, F(0))


def root_mean_square(values):
    """Of the last axis."""
    flat = values.reshape(-1, values.shape[-1])
    return np.array([one_root_mean_square(x) for x in flat], F).reshape(values.shape[:-1])


def one_root_mean_square(x):
    plain = dot(x, x)
    if F(1e-20) < plain < F(1e30):
        return np.sqrt(plain / F(x.size))
    top = np.abs(x).max()
    if top == 0:
        return F(0)
    total = 0.0
    for value in x / top:
        total += float(value) * float(value)
    return top * F(math.sqrt(total / x.size))


def balance(strip, rows, side):
    """Stores scales by channel and divides by them."""
    result = rows.copy()
    stored = []
    for block in np.split(result, strip.blocks):
        by_channel = np.ones(strip.channels, F)
        for _ in range(4):
            by_token = inverse(root_mean_square(block * by_channel))
            scales = root_mean_square(np.ascontiguousarray((block * by_token[:, None]).T))
            by_channel = inverse(scales)
        bits = np.where(scales < SMALLEST, np.uint16(0), to_bfloat16(scales)).astype("<u2")
        stored.append(bits.tobytes())
        block *= inverse(from_bfloat16(bits))
    side[strip.column_at : strip.column_at + 2 * strip.blocks * strip.channels] = b"".join(stored)
    return result


# ---- Evenly spaced levels


CLIP_STEPS = 16


def encode_even(strip, rows, side):
    sets = scale_sets(strip, rows)
    low, high = first_of(sets, np.argmin), first_of(sets, np.argmax)
    best = np.zeros(low.shape, F)
    if strip.codec.clip:
        for step in range(CLIP_STEPS):
            _, spacing, error = even_levels(strip, sets, low, high, np.full_like(best, step), side)
            if step == 0:
                whole, least = spacing, error
                continue
            safe = np.where(spacing > 0, spacing, F(1))
            finer = np.where(spacing > 0, whole / safe, F(0))
            error = error * (finer * finer)
            best = np.where(error < least, F(step), best)
            least = np.minimum(error, least)
    codes, _, _ = even_levels(strip, sets, low, high, best, side)
    return unsets(strip, codes ^ 0x80 if strip.codec.bits == 8 else codes)


def even_levels(strip, sets, low, high, step, side):
    """Codes, levels per unit and the squared error in levels, with `step` parts of the range cut."""
    codec = strip.codec
    top, is_int8 = F((1 << codec.bits) - 1), codec.bits == 8
    shift = F(128 if is_int8 else 0)
    if codec.zero_point:
        cut = (F(0.02) * step) * (high - low)
        low, high = np.where(step > 0, low + cut, low), np.where(step > 0, high - cut, high)
        far = np.maximum(np.abs(low), np.abs(high))
        scale = np.maximum((high - low) / top, far / F(60000))
        scale = store_scale(strip, side, scale)
        spacing = inverse(scale)
        bits = to_float16(-low * spacing - shift)
        side[strip.zero_at : strip.zero_at + bits.nbytes] = bits.tobytes()
        zero = from_float16(bits) + shift
    else:
        factor = F(1) - F(0.04) * step
        far = np.maximum(-(low * factor), high * factor)
        scale = store_scale(strip, side, far / (F(127) if is_int8 else top))
        spacing = inverse(scale) if is_int8 else F(0.5) * inverse(scale)
        zero = np.full_like(scale, 128 if is_int8 else F(0.5) * top)
        scale = scale if is_int8 else F(2) * scale
    x = sets * spacing[..., None] + zero[..., None]
    codes = (np.clip(x, F(0), top) + F(0.5)).astype(np.int32)
    values = (codes.astype(F) - zero[..., None]) * scale[..., None]
    error = sets * spacing[..., None] - values * spacing[..., None]
    return codes, spacing, dot(error, error)


def first_of(sets, choose):
    """The first of the least or largest values: the sign of a zero tells which it was."""
    return np.take_along_axis(sets, choose(sets, axis=-1)[..., None], axis=-1)[..., 0]


# ---- Tables


def nearest(values, entries):
    """The number of midpoints between entries that lie below each value."""
    thresholds = F(0.5) * (entries[:-1] + entries[1:])
    return (values[..., None] > thresholds).sum(axis=-1).astype(np.int32)


def encode_fixed(strip, rows, side):
    entries, unit = lloyd_max(strip.codec.bits)
    sets = scale_sets(strip, rows)
    scale = store_scale(strip, side, root_mean_square(sets))
    return unsets(strip, nearest(sets * inverse(scale)[..., None], np.array(entries, F) * unit))


def encode_codebooks(strip, rows, side):
    """Codes, and the codebook of every element."""
    sets = scale_sets(strip, rows)
    scale = store_scale(strip, side, np.abs(sets).max(axis=-1) / F(31))
    x = sets * (F(QUARTERS) * inverse(scale))[..., None]
    positions = np.rint(np.clip(unsets(strip, x), F(-127), F(127))).astype(np.int32)
    block, t, d = strip.indices()
    number = d // 8 * strip.block_tokens + t if strip.codec.blocks == "channels" else d
    block_of = block * strip.channels * strip.block_tokens + number
    chosen, codes = choose(strip.codec.bits, positions, block_of)
    return codes, chosen[block_of]


def encode_trellis(strip, rows, side):
    scale = store_scale(strip, side, root_mean_square(rows))
    scaled = rows * inverse(scale)[:, None]
    data = trellis_codes(strip, scaled)
    _, unit = trellis_table(strip.codec.bits)
    chosen = entries(strip, data) * unit
    store_scale(strip, side, fitted(scale, scaled, chosen, chosen))
    return data


def encode_parts(strip, rows, side):
    """Each part for itself, then one scale for what all of them stand for."""
    weights = strip.transform.weights
    scale = store_scale(strip, side, root_mean_square(rows))
    scaled = rows * inverse(scale)[:, None]
    chosen = np.zeros_like(scaled)
    data = np.zeros(strip.code_bytes, np.uint8)
    for part in strip.parts:
        x, codec = scaled[:, part.channels], part.strip.codec
        if codec.name == "trellis":
            codes = trellis_codes(part.strip, x, weights[part.channels])
        elif codec.bits == 8:
            y = np.clip(x * (F(1) / part.unit) + F(128), F(0), F(255))
            codes = pack(part.strip, (y + F(0.5)).astype(np.int32) ^ 0x80)
        else:
            values = np.array(lloyd_max(codec.bits)[0], F) * part.unit
            codes = pack(part.strip, nearest(x, values))
        data[part.codes] = codes
        chosen[:, part.channels] = entries(part.strip, codes) * part.unit
    store_scale(strip, side, fitted(scale, scaled, chosen, chosen * np.sqrt(weights)))
    return data


def fitted(scale, scaled, chosen, counted):
    """The scales by which what the codes stand for comes nearest to the rows."""
    along, square = dot(scaled, counted), dot(chosen, counted)
    is_possible = (along > 0) & (square > 0)
    ratio = along / np.where(is_possible, square, F(1))
    return np.where(is_possible, scale * ratio, scale)


def trellis_codes(strip, scaled, weights=None):
    """Packed codes of rows at unit scale."""
    bits = strip.codec.bits
    roots = np.ones(strip.tiles, F)
    if weights is not None:
        roots = tile_roots(strip, weights)
    _, tile, _ = in_chains(strip)
    _, unit = trellis_table(bits)
    x = np.clip(scaled * (roots[tile] * (F(UNIT) / unit)), F(-32767), F(32767))
    samples = np.zeros((strip.blocks, strip.tiles, 64), np.int64)
    samples[in_chains(strip)] = np.rint(x).astype(np.int64)  # ties to even
    return pack_pieces(strip, chain_pieces(strip), search(bits, samples, roots))


def tile_roots(strip, weights):
    """For every tile the root of its channels' mean weight relative to the largest one."""
    width = 16 if strip.is_values else 4
    means = []
    for first in range(0, strip.channels, width):
        total = F(0)
        for weight in weights[first : first + width]:
            total = total + weight
        means.append(total / F(len(weights[first : first + width])))
    means = np.array(means, F)
    top = means.max()
    roots = np.sqrt(means / top) if top > 0 else np.ones_like(means)
    return np.repeat(roots, strip.tiles // len(roots))


def encode_fitted(strip, rows, side):
    levels = 1 << strip.codec.bits
    share = np.ones((strip.tokens, strip.channels), F)
    if strip.codec.axis != "none":
        sets = scale_sets(strip, rows)
        scale = store_scale(strip, side, root_mean_square(sets))
        rows = unsets(strip, sets * inverse(scale)[..., None])
        if strip.codec.axis == "channel":
            shares = square_shares(scale)
            share = share * np.repeat(shares, strip.tokens // len(shares), axis=0)
        else:
            share = share * square_shares(scale[0])[:, None]
    low, high = rows.min(), rows.max()
    span = high - low
    centroids = np.full(levels, BINS / 2)
    if span > F(1e-35):
        x = (rows - low) * (F(BINS) / span)
        bins = np.clip(x.astype(np.int32), 0, BINS - 1).ravel()
        weight = np.bincount(bins, share.ravel(), BINS)
        moment = np.bincount(bins, (share * x).ravel(), BINS)
        centroids = kmeans(weight, moment, levels)
    unit = float(span) / BINS
    centroids = float(low) + centroids * unit
    first, last = centroids[0], centroids[-1]
    scale = F((last - first) / 254) if last > first else F(0)
    middle = F((first + last) / 2)
    step = scale if scale > 0 else np.abs(middle)
    zero = -middle / step if step > 0 else F(0)
    table = np.zeros(16, np.int8)
    if scale > 0:
        for k in range(levels):
            table[k] = round((centroids[k] - float(middle)) / float(scale))  # ties to even
    side[0:24] = table.tobytes() + F(step).tobytes() + F(zero).tobytes()
    return nearest(rows, (table[:levels].astype(F) - zero) * step)


def square_shares(weights):
    """Squares of weights relative to the largest."""
    top = weights.max()
    share = weights / top if top > 0 else np.zeros_like(weights)
    return share * share


def kmeans(weight, moment, levels):
    """The `levels` centroids of least weighted squared error, ascending, in units of bins."""
    safe = np.where(weight > 0, weight, 1)
    x = np.where(weight > 0, moment / safe, np.arange(BINS))
    w, m, s = (np.concatenate([[0], np.cumsum(v)]) for v in (weight, weight * x, weight * x * x))

    def cost(i, j):
        """Of putting bins i ..< j into one cluster, for an array of i or of j."""
        mass, first = w[j] - w[i], m[j] - m[i]
        return np.where(mass > 0, s[j] - s[i] - first * first / np.where(mass > 0, mass, 1), 0)

    best = cost(0, np.arange(BINS + 1))
    splits = [np.zeros(BINS + 1, int)]
    for _ in range(1, levels):
        before, best, split = best, np.zeros(BINS + 1), np.zeros(BINS + 1, int)
        work = [(0, BINS + 1, 0, BINS)]
        while work:  # the best split never moves left as j moves right
            lower, upper, first, last = work.pop()
            if lower >= upper:
                continue
            j = lower + (upper - lower) // 2
            i = np.arange(first, min(last, j) + 1)
            total = before[i] + cost(i, j)
            where = first + int(np.argmin(total))
            best[j], split[j] = total[where - first], where
            work += [(lower, j, first, where), (j + 1, upper, where, last)]
        splits.append(split)
    centroids, end = np.zeros(levels), BINS
    for k in reversed(range(levels)):
        start = splits[k][end]
        mass = w[end] - w[start]
        if mass > 0:
            centroids[k] = (m[end] - m[start]) / mass
        else:
            centroids[k] = centroids[k + 1] if k + 1 < levels else start
        end = start
    return centroids
