"""A second decoder of NibbleKV strips and pages, written from page-layout.md and codecs.md alone.

It is meant to be read beside the two documents, not to be fast. Floats are computed in float32 in
the order that the documents state, so results are equal bit for bit, not merely close.
Needs numpy.
"""

import math
from dataclasses import dataclass

import numpy as np

import nibble_interchange as interchange
from nibble_aligned import EVEN_UNIT, Transform, allot
from nibble_bcq import codebooks, read_selectors, selector_count, selector_number, write_selectors
from nibble_trellis import entries_of, trellis_table

F = np.float32
LINE = 64


class PageError(Exception):
    """What a page, a codec or a shape must not be."""


# ---- codecs.md: descriptions

BITS = {
    "float32": (32, [32]),
    "float16": (16, [16]),
    "bfloat16": (16, [16]),
    "int8": (8, [8]),
    "linear": (4, [2, 3, 4, 8]),
    "clustered": (4, [2, 3, 4]),
    "rotated": (4, [2, 3, 4]),
    "trellis": (4, [1, 2, 3, 4]),
    "bcq": (4, [2, 3, 4]),
    "microscaling": (4, [4, 8]),
    "pyramid": (4, [2, 4]),
    "seeded": (4, [4]),
}
OPAQUE = ("microscaling", "pyramid", "seeded")  # their bytes are not in tiles
ROWS = ("float32", "float16", "bfloat16")


@dataclass
class Codec:
    """A codec and its options: `linear:4 axis=channel group=32`."""

    name: str
    bits: int
    axis: str = "token"
    group: int = 0  # 0: the whole row, or the whole block
    zero_point: bool = False
    clip: bool = False
    outliers: float = 0.0  # percent of a block's values
    balanced: bool = False  # scales by channel beside those by token
    shaped: bool = False  # whether codes of keys follow the queries: the encoder's affair
    blocks: str = "channels"  # what chooses a codebook
    format: str = "mxfp4"
    rotation: str = "none"  # or hadamard, aligned
    mean: bool = False  # whether a mean was removed


def parse_codec(text):
    word, *options = text.split()
    name, _, bits = word.partition(":")
    if name not in BITS:
        raise PageError(f"unknown codec {name!r}")
    default, accepted = BITS[name]
    codec = Codec(name, int(bits or default))
    codec.zero_point = name == "linear"
    codec.rotation = "hadamard" if name in ("rotated", "trellis") else "none"
    if codec.bits not in accepted:
        raise PageError(f"{name} has no form of {bits} bits")
    for option in options:
        key, _, value = option.partition("=")
        if key == "axis" and value in ("token", "channel", "none"):
            codec.axis = value
        elif key == "group":
            codec.group = int(value)
        elif key == "zero_point" and value in ("true", "false"):
            codec.zero_point = value == "true"
        elif key == "clip" and value in ("search", "none") and name == "linear":
            codec.clip = value == "search"
        elif key == "scales" and value in ("balanced", "plain"):
            codec.balanced = value == "balanced"
        elif key == "shaping" and value in ("queries", "none"):
            codec.shaped = value == "queries"
        elif key == "outliers" and 0 <= float(value) <= 10:
            codec.outliers = float(value)
        elif key == "format" and value in interchange.BLOCK and name == "microscaling":
            codec.format, codec.bits = value, 8 if value == "mxint8" else 4
        elif key == "blocks" and value in ("channels", "tokens") and name == "bcq":
            codec.blocks = value
        elif key == "rotation" and value in ("hadamard", "none", "aligned"):
            codec.rotation = value
        elif key == "mean" and value in ("removed", "kept"):
            codec.mean = value == "removed"
        else:
            raise PageError(f"unknown option {option!r}")
    if name in ROWS and options:
        raise PageError("exact rows have no options")
    if codec.axis == "none" and name != "clustered":
        raise PageError("axis=none is for clustered alone")
    if name == "clustered" and (codec.group or codec.zero_point):
        raise PageError("clustered takes neither group nor zero_point")
    if name == "rotated" and (codec.axis != "token" or codec.zero_point or codec.rotation == "none"):
        raise PageError("rotated is by token, symmetric and rotated")
    if name == "trellis" and (codec.axis != "token" or codec.group or codec.zero_point):
        raise PageError("trellis is by token, whole rows, and symmetric")
    if codec.rotation == "aligned":
        if name not in ("rotated", "trellis"):
            raise PageError("only rotated and trellis have codes of several rates")
        if codec.group or codec.balanced or codec.outliers:
            raise PageError("with rotation=aligned the coefficients share one scale")
    if codec.shaped:
        if name not in ("int8", "linear", "clustered", "rotated") or codec.rotation == "aligned":
            raise PageError("shaping is for codes of single values, without rotation=aligned")
        if codec.axis == "channel" or codec.group or codec.balanced or codec.outliers:
            raise PageError("with shaping=queries a token has one scale")
    if codec.outliers and (name in ROWS or name in OPAQUE):
        raise PageError("outliers are kept beside codes in tiles")
    if codec.balanced and (name in ROWS or name in OPAQUE or codec.axis != "token"):
        raise PageError("balanced scales add to scales by token")
    if name in OPAQUE and (codec.axis != "token" or codec.group or codec.zero_point):
        raise PageError(f"{name} has scales of its own")
    if name == "bcq" and codec.zero_point:
        raise PageError("bcq has no zero point")
    if name == "bcq" and codec.axis == "channel" and codec.blocks == "channels":
        raise PageError("blocks of channels are scaled by token")
    return codec


def lloyd_max(bits):
    """The fixed table of `rotated`: signed bytes and the value of one unit."""
    upper, unit = {
        2: ([27, 90], "0x1.12f694p-6"),
        3: ([10, 31, 55, 88], "0x1.90a73ap-6"),
        4: ([6, 17, 29, 41, 55, 71, 91, 120], "0x1.7516f2p-6"),
    }[bits]
    return [-x for x in reversed(upper)] + upper, F(float.fromhex(unit))


# ---- page-layout.md: strips

UNIT_TILES = {8: 1, 4: 2, 3: 8, 2: 4, 1: 8}
UNIT_BYTES = {8: 64, 4: 64, 3: 192, 2: 64, 1: 64}


@dataclass
class Strip:
    """A codec bound to a shape, and where its bytes lie."""

    codec: Codec
    is_values: bool
    channels: int
    tokens: int
    transform: Transform | None = None  # with rotation=aligned or shaping=queries

    def __post_init__(self):
        codec, tokens, channels = self.codec, self.tokens, self.channels
        if not (tokens in (16, 32, 48) or (tokens % 64 == 0 and 64 <= tokens <= 1024)):
            raise PageError(f"a page of {tokens} tokens is not possible")
        if channels % 8 or not 8 <= channels <= 512:
            raise PageError(f"head dimension {channels} is not possible")
        if codec.shaped:
            if self.is_values:
                raise PageError("queries look at keys alone")
            if self.transform is None or len(self.transform.weights) != channels:
                raise PageError("shaping=queries needs a transform of the head dimension")
        self.padded = (channels + 15) // 16 * 16
        self.block_tokens = min(tokens, 64)
        self.group = channels
        if codec.axis == "channel" and codec.group:
            if codec.group % 16 or self.block_tokens % codec.group:
                raise PageError(f"group={codec.group} does not divide a block")
            self.block_tokens = codec.group
        elif codec.axis == "token" and codec.group and codec.group != channels:
            tiles = codec.group * self.block_tokens // 64
            if codec.group % 16 or channels % codec.group or tiles % UNIT_TILES[codec.bits]:
                raise PageError(f"group={codec.group} does not divide the row")
            self.group = codec.group
        self.blocks = tokens // self.block_tokens
        if codec.rotation == "aligned":
            self._place_parts()
            self._place_side_data()
            return
        if codec.name in OPAQUE:
            self.exact_bytes = interchange.size(codec, tokens, channels)
            self.block_bytes = -(-self.exact_bytes // LINE) * LINE
            self.blocks = 1
        elif codec.name in ROWS:
            width = self.padded if self.is_values else channels
            size = width * self.block_tokens * codec.bits // 8
            self.block_bytes = (size + LINE - 1) // LINE * LINE
        else:
            width = self.padded if self.is_values else channels
            tiles = width * self.block_tokens // 64
            units = -(-tiles // UNIT_TILES[codec.bits])
            self.block_bytes = units * UNIT_BYTES[codec.bits]
            self.tiles = tiles
            if codec.name == "bcq":
                self._place_selectors()
            if codec.name == "trellis" and min(tiles, channels * self.block_tokens // 64) < 16:
                raise PageError("a trellis needs sixteen tiles")
        self.code_bytes = self.blocks * self.block_bytes
        self._place_side_data()

    def _place_parts(self):
        """Stretches of channels, each a strip of its own but for the side data."""
        if self.transform is None or len(self.transform.weights) != self.channels:
            raise PageError("rotation=aligned needs a transform of the head dimension")
        step = max(16, -(-(1024 // self.block_tokens) // 16) * 16)
        self.parts, self.code_bytes, first = [], 0, 0
        for channels, bits in allot(self.codec.name, self.codec.bits, self.transform.weights, step):
            codec = Codec("int8" if bits == 8 else self.codec.name, bits)
            strip = Strip(codec, self.is_values, channels, self.tokens)
            self.parts.append(Part(strip, first, self.code_bytes))
            first += channels
            self.code_bytes += strip.code_bytes

    def _place_selectors(self):
        """A block is a sequence of groups, and a group is codes, then selectors."""
        width = (self.group + 15) // 16 * 16 if self.is_values else self.group
        bits = self.codec.bits
        self.group_codes = -(-width * self.block_tokens // 64 // UNIT_TILES[bits]) * UNIT_BYTES[bits]
        count = selector_count(self.codec.blocks, self.is_values, self.block_tokens, self.group)
        self.group_selectors = -(-3 * count // 512) * LINE
        self.group_bytes = self.group_codes + self.group_selectors
        self.block_bytes = self.channels // self.group * self.group_bytes

    def _place_side_data(self):
        """Offsets of the parts of the side data, in the order in which they lie."""
        codec = self.codec
        self.table_at = self.scale_at = self.zero_at = None
        self.side_bytes = self.table_bytes = 0
        if codec.name in ROWS or codec.name in OPAQUE:
            return
        if codec.name == "clustered":
            self.table_at, self.table_bytes = 0, 24
            self.side_bytes = 24
        if codec.axis != "none":
            self._place_scales()
        if codec.outliers:
            values = self.block_tokens * self.channels
            self.outlier_count = max(1, math.floor(values * codec.outliers / 100 + 0.5))
            self.outliers_at = self.side_bytes
            self.side_bytes += 4 * self.blocks * self.outlier_count

    def _place_scales(self):
        codec = self.codec
        self.scale_shape = (self.channels // self.group, self.tokens)
        if codec.axis == "channel":
            self.scale_shape = (self.blocks, self.channels)
        size = 2 * self.scale_shape[0] * self.scale_shape[1]
        self.scale_at = self.side_bytes
        self.side_bytes += size
        if codec.balanced:
            self.column_at = self.side_bytes
            self.side_bytes += 2 * self.blocks * self.channels
        if codec.zero_point:
            self.zero_at = self.side_bytes
            self.side_bytes += size

    @property
    def bits_per_value(self):
        return 8 * (self.code_bytes + self.side_bytes) / (self.tokens * self.channels)

    def indices(self):
        """Block, token of the block and channel of every element: arrays (tokens, channels)."""
        t, d = np.meshgrid(np.arange(self.tokens), np.arange(self.channels), indexing="ij")
        return t // self.block_tokens, t % self.block_tokens, d

    def columns(self, side):
        """The first values of the side data, one for each channel of each block, for every element."""
        side = side[: self.blocks * self.channels].reshape(self.blocks, self.channels)
        return np.repeat(side, self.block_tokens, axis=0)

    def spread(self, side):
        """Side values of shape scale_shape, one for every element: (tokens, channels)."""
        side = side.reshape(self.scale_shape)
        if self.codec.axis == "channel":
            return np.repeat(side, self.block_tokens, axis=0)
        return np.repeat(side, self.group, axis=0).T


@dataclass
class Part:
    """A stretch of the channels of an aligned strip."""

    strip: Strip  # its side data are not there
    first_channel: int
    code_offset: int

    @property
    def channels(self):
        return slice(self.first_channel, self.first_channel + self.strip.channels)

    @property
    def codes(self):
        return slice(self.code_offset, self.code_offset + self.strip.code_bytes)

    @property
    def unit(self):
        """What an entry of 1 stands for, at a scale of 1."""
        return EVEN_UNIT if self.strip.codec.bits == 8 else table(self.strip, None)[1]


def page_offsets(heads, has_summaries=False):
    """Byte offsets of each head's strips, and the page's bytes. `heads`: pairs (keys, values)."""
    offset, result = 0, []
    for keys, values in heads:
        value_codes = offset + keys.code_bytes
        key_side = value_codes + values.code_bytes
        value_side = key_side + keys.side_bytes
        result.append((offset, value_codes, key_side, value_side))
        end = value_side + values.side_bytes
        if has_summaries and keys.codec.name not in ROWS + OPAQUE and values.codec.name not in OPAQUE:
            end += (2 * keys.channels + 2 * -(-keys.channels // 16) + 3) // 4 * 4
        offset = (end + LINE - 1) // LINE * LINE
    return result, offset


# ---- page-layout.md: tiles and packing units


def places(strip):
    """Where each code lies: for every element, tile of its block and byte of the tile."""
    _, t, d = strip.indices()
    return place_of(strip, t, d)


def place_of(strip, t, d):
    if strip.is_values:
        return d // 16 * (strip.block_tokens // 4) + t // 4, d % 16 * 4 + t % 4
    return d // 4 * (strip.block_tokens // 16) + t // 16, t % 16 * 4 + d % 4


def pieces(strip):
    """The pieces of every code: byte of the strip, lowest bit there, bits, lowest bit of code."""
    block, t, d = strip.indices()
    base = block * strip.block_bytes
    if strip.codec.name == "bcq":
        base = base + d // strip.group * strip.group_bytes
        return pieces_at(strip.codec.bits, base, *place_of(strip, t, d % strip.group))
    return pieces_at(strip.codec.bits, base, *place_of(strip, t, d))


def selector_bits(strip):
    """The first bit of every element's selector, counted from the strip's first byte."""
    block, t, d = strip.indices()
    start = block * strip.block_bytes + d // strip.group * strip.group_bytes + strip.group_codes
    blocks, tokens = strip.codec.blocks, strip.block_tokens
    number = selector_number(blocks, strip.is_values, tokens, t, d % strip.group)
    return 8 * start + 3 * number


def pieces_at(bits, base, tile, byte):
    """The pieces of codes at a byte of a tile of the block that begins at `base`."""
    if bits == 8:
        return [(base + tile * 64 + byte, 0 * tile, 8, 0)]
    if bits == 4:
        return [(base + tile // 2 * 64 + byte, tile % 2 * 4, 4, 0)]
    if bits == 1:
        return [(base + tile // 8 * 64 + byte, tile % 8, 1, 0)]
    if bits == 2:
        return [(base + tile // 4 * 64 + byte, tile % 4 * 2, 2, 0)]
    unit, k = base + tile // 8 * 192, tile % 8
    return [(unit + k // 4 * 64 + byte, k % 4 * 2, 2, 0), (unit + 128 + byte, k, 1, 2)]


def unpack(strip, data):
    """Codes as unsigned integers, (tokens, channels)."""
    return unpack_pieces(pieces(strip), data)


def unpack_pieces(pieces, data):
    codes = np.zeros(pieces[0][0].shape, np.int32)
    for at, shift, bits, low in pieces:
        codes |= (data[at].astype(np.int32) >> shift & ((1 << bits) - 1)) << low
    return codes


def pack(strip, codes):
    return pack_pieces(strip, pieces(strip), codes)


def pack_pieces(strip, pieces, codes):
    data = np.zeros(strip.code_bytes, np.uint8)
    for at, shift, bits, low in pieces:
        np.bitwise_or.at(data, at, ((codes >> low & ((1 << bits) - 1)) << shift).astype(np.uint8))
    return data


def chain_pieces(strip):
    """The pieces of all codes of a trellis by block, tile and byte, padding channels included."""
    block, tile, byte = np.meshgrid(
        np.arange(strip.blocks), np.arange(strip.tiles), np.arange(64), indexing="ij"
    )
    return pieces_at(strip.codec.bits, block * strip.block_bytes, tile, byte)


def in_chains(strip):
    """Where every element lies in arrays by block, tile and byte."""
    return strip.indices()[0], *places(strip)


def row_places(strip):
    """Index of every element of exact rows in its block."""
    block, t, d = strip.indices()
    index = t * strip.padded + d if strip.is_values else d * strip.block_tokens + t
    return block * (strip.block_bytes * 8 // strip.codec.bits) + index


# ---- Number formats


def from_bfloat16(bits):
    return (bits.astype(np.uint32) << 16).view(F)


def to_bfloat16(values):
    u = np.asarray(values, F).view(np.uint32).astype(np.uint64)
    return ((u + 0x7FFF + (u >> 16 & 1)) >> 16).astype(np.uint16)


def from_float16(bits):
    return bits.view(np.float16).astype(F)


def to_float16(values):
    with np.errstate(over="ignore"):
        return np.asarray(values, F).astype(np.float16).view(np.uint16)


# ---- codecs.md: sums


def dot(a, b):
    """Sums over the last axis, in sixteen lanes."""
    products = a * b
    whole = products.shape[-1] // 16 * 16
    lanes = np.zeros((*products.shape[:-1], 16), F)
    for i in range(0, whole, 16):
        lanes = lanes + products[..., i : i + 16]
    lanes = lanes[..., :8] + lanes[..., 8:]
    lanes = lanes[..., :4] + lanes[..., 4:]
    rest = np.zeros(products.shape[:-1], F)
    for i in range(whole, products.shape[-1]):
        rest = rest + products[..., i]
    return ((lanes[..., 0] + lanes[..., 2]) + (lanes[..., 1] + lanes[..., 3])) + rest


# ---- codecs.md: rotation


def signs(channels):
    mask, result = (1 << 64) - 1, []
    for d in range(channels):
        z = (0x4E6962626C654B56 + (d // 64 + 1) * 0x9E3779B97F4A7C15) & mask
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & mask
        z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
        z ^= z >> 31
        result.append(-1 if z >> d % 64 & 1 else 1)
    return np.array(result, F)


def transform(rows):
    """The matrix of the rotation without the signs; it is its own inverse."""
    tokens, channels = rows.shape
    power = channels & -channels
    odd = channels // power
    x = rows.reshape(tokens, odd, power).copy()
    h = 1
    while h < power:
        pairs = x.reshape(tokens, odd, power // (2 * h), 2, h)
        a, b = pairs[..., 0, :].copy(), pairs[..., 1, :].copy()
        pairs[..., 0, :], pairs[..., 1, :] = a + b, a - b
        h *= 2
    x *= F(1 / math.sqrt(power))
    if odd > 1:
        source, x = x, np.zeros_like(x)
        for i in range(odd):
            for k in range(odd):
                angle = 2 * math.pi * (i * k % odd) / odd
                x[:, i] += F((math.cos(angle) + math.sin(angle)) / math.sqrt(odd)) * source[:, k]
    return x.reshape(tokens, channels)


# ---- Decoding


def decode(strip, data, mean=None):
    """One strip's bytes (codes, then side data) to float32 rows (tokens, channels)."""
    data = np.frombuffer(bytes(data), np.uint8)
    if data.size != strip.code_bytes + strip.side_bytes:
        raise PageError(f"{data.size} bytes where {strip.code_bytes + strip.side_bytes} are needed")
    codes, side = data[: strip.code_bytes], data[strip.code_bytes :]
    refuse_padding(strip, codes)
    rows = decode_codes(strip, codes, side)
    if strip.codec.rotation == "hadamard":
        rows = transform(rows) * signs(strip.channels)
    elif strip.codec.rotation == "aligned":
        rows = synthesize(strip.transform, rows)
        mean = strip.transform.mean if mean is None else mean
    if mean is not None:
        rows = rows + np.asarray(mean, F)
    return rows


def synthesize(transform, coefficients):
    """Rows without their mean: one vector after the other is added."""
    rows = np.zeros_like(coefficients)
    for i, vector in enumerate(transform.synthesis):
        rows = rows + vector * coefficients[:, i : i + 1]
    return rows


def decode_parts(strip, codes, side):
    scale = from_bfloat16(side.view("<u2"))[:, None]
    rows = np.zeros((strip.tokens, strip.channels), F)
    for part in strip.parts:
        rows[:, part.channels] = entries(part.strip, codes[part.codes]) * (part.unit * scale)
    return rows


def entries(strip, codes):
    """The table entry of every element, (tokens, channels)."""
    table_entries = table(strip, None)[0]
    if strip.codec.name == "trellis":
        chains = unpack_pieces(chain_pieces(strip), codes)
        return entries_of(strip.codec.bits, chains)[in_chains(strip)].astype(F)
    return table_entries[unpack(strip, codes)]


def decode_codes(strip, codes, side):
    """Rows as they were encoded: rotated, without the mean."""
    name = strip.codec.name
    if strip.codec.rotation == "aligned":
        return decode_parts(strip, codes, side)
    if name in ROWS:
        index = row_places(strip)
        if name == "float32":
            return codes.view("<f4")[index].astype(F)
        bits = codes.view("<u2")[index]
        return from_float16(bits) if name == "float16" else from_bfloat16(bits)
    if name in OPAQUE:
        data = codes[: strip.exact_bytes].tobytes()
        return interchange.decode(strip.codec, data, strip.tokens, strip.channels)
    table_entries, table_scale, table_zero = table(strip, side)
    zero = np.full((strip.tokens, strip.channels), table_zero, F)
    scale = np.full((strip.tokens, strip.channels), table_scale, F)
    if strip.scale_at is not None:
        size = 2 * strip.scale_shape[0] * strip.scale_shape[1]
        scale *= strip.spread(from_bfloat16(side[strip.scale_at :][:size].view("<u2")))
        if strip.codec.balanced:
            scale *= strip.columns(from_bfloat16(side[strip.column_at :].view("<u2")))
        if strip.zero_at is not None:
            zero += strip.spread(from_float16(side[strip.zero_at :][:size].view("<u2")))
    if strip.codec.name == "bcq":
        values = table_entries[read_selectors(codes, selector_bits(strip)), unpack(strip, codes)]
    elif strip.codec.name == "clustered":
        values = table_entries[unpack(strip, codes)]
    else:
        values = entries(strip, codes)
    rows = (values - zero) * scale
    if strip.codec.outliers:
        index, kept = outliers(strip, side)
        rows.ravel()[index] += kept
    return rows


def outliers(strip, side):
    """Where values that are kept apart lie among all of the strip, and what they add."""
    data = side[strip.outliers_at :].view("<u2").reshape(2, strip.blocks, -1)
    first = np.arange(strip.blocks)[:, None] * strip.block_tokens * strip.channels
    return (data[0].astype(np.int64) + first).ravel(), from_bfloat16(data[1].ravel())


def table(strip, side):
    """What each code stands for, and the table's scale and zero."""
    codec = strip.codec
    if codec.bits == 8:
        return np.arange(256, dtype=np.uint8).view(np.int8).astype(F), F(1), F(0)
    if codec.name == "clustered":
        entries = side[:16].view(np.int8).astype(F)
        return entries, *side[16:24].view("<f4").astype(F)
    if codec.name == "trellis":
        entries, unit = trellis_table(codec.bits)
        return entries.astype(F), unit, F(0)
    if codec.name == "bcq":
        return codebooks(codec.bits).astype(F), F(1), F(0)
    if codec.name == "rotated":
        entries, unit = lloyd_max(codec.bits)
        return np.array(entries, F), unit, F(0)
    levels = 1 << codec.bits
    entries = [c if codec.zero_point else 2 * c - (levels - 1) for c in range(levels)]
    return np.array(entries, F), F(1), F(0)


def refuse_padding(strip, codes):
    """Bits that belong to no element are zero."""
    if strip.codec.rotation == "aligned":
        for part in strip.parts:
            refuse_padding(part.strip, codes[part.codes])
        return
    if strip.codec.name in OPAQUE:
        used = np.where(np.arange(codes.size) < strip.exact_bytes, 255, 0).astype(np.uint8)
    elif strip.codec.name in ROWS:
        used = np.zeros(codes.size * 8 // strip.codec.bits, bool)
        used[row_places(strip)] = True
        used = np.repeat(np.where(used, 255, 0).astype(np.uint8), strip.codec.bits // 8)
    else:
        ones = (1 << strip.codec.bits) - 1
        at = chain_pieces(strip) if strip.codec.name == "trellis" else pieces(strip)
        used = pack_pieces(strip, at, np.full(at[0][0].shape, ones, np.int32))
        if strip.codec.name == "bcq":
            used = write_selectors(used, selector_bits(strip), np.int32(7))
    if np.any(codes & ~used):
        raise PageError("padding is not zero")
