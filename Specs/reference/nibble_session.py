#!/usr/bin/env python3
"""A second reader of session files, written from session-format.md alone.

    python3 Specs/reference/nibble_session.py [--calibration FILE] FILE...
                                                        reads and checks files
    python3 Specs/reference/nibble_session.py --vectors  checks all of vectors/sessions

It refuses what the document says must be refused, with the word of its table, and decodes rows with
nibble_page.py. Rows of a plan that uses a calibration need that calibration's file. Needs numpy.
"""

import argparse
import functools
import hashlib
import json
import pathlib
import struct
import sys
from dataclasses import dataclass, field

import numpy as np

from nibble_calibration import Calibration, CalibrationError
from nibble_lz4 import FrameError, expand
from nibble_page import F, PageError, Strip, decode, page_offsets, parse_codec
from nibble_xxhash import xxh64

VECTORS = pathlib.Path(__file__).resolve().parent.parent / "vectors" / "sessions"
SPACING, DATA, SUPERBLOCK, HEADER = 4096, 8192, 128, 64


class SessionError(Exception):
    """Why a file is refused: the word of the table, and the details."""

    def __init__(self, word, details=""):
        super().__init__(f"{word}: {details}")
        self.word = word


def sha(data):
    return hashlib.sha256(data).digest()


def need(condition, what, word="invalid-field"):
    if not condition:
        raise SessionError(word, what)


# ---- Superblocks


@dataclass
class Superblock:
    generation: int
    size: int
    index: slice
    index_digest: bytes
    digest: bytes


def read_superblock(data, at):
    """None where there is none, or where it is damaged."""
    block = data[at : at + SUPERBLOCK]
    if block[:8] != b"NibbleKV":
        return None
    if sha(block[:96]) != block[96:]:
        return None
    version, flags, generation, size, start, count = struct.unpack_from("<IIQQQQ", block, 8)
    need(version == 1, version, "unknown-version")
    need(flags == 0, "flags")
    need(1 <= generation <= 1 << 62 and at == (0 if generation % 2 else SPACING), "generation")
    need(DATA <= size <= 1 << 62 and size % 64 == 0, "byte count")
    need(DATA <= start <= size and start % 64 == 0, "index offset")
    need(1 <= count <= size - start, "index length")
    need(not any(block[80:96]), "padding of the superblock")
    return Superblock(generation, size, slice(start, start + count), block[48:80], block[96:])


def choose(data):
    """The superblock that counts."""
    if len(data) < DATA:
        raise SessionError("truncated" if data[:8] == b"NibbleKV" else "not-a-session")
    places = [at for at in (0, SPACING) if data[at : at + 8] == b"NibbleKV"]
    need(places, "no magic", "not-a-session")
    blocks = [block for at in places if (block := read_superblock(data, at))]
    problems = []
    for block in sorted(blocks, key=lambda block: -block.generation):
        if block.size > len(data):
            problems.append(SessionError("truncated", block.size))
        elif sha(data[block.index]) != block.index_digest:
            problems.append(SessionError("damaged", "index"))
        else:
            return block
    raise (problems or [SessionError("damaged", "superblock")])[0]


def check_end(data, block):
    rest = data[block.size :]
    if len(rest) <= HEADER:
        return
    header = b"NibbleSg" + struct.pack("<Q", block.generation + 1) + block.digest
    need(rest[:HEADER] == header + sha(header)[:16], len(rest), "longer")


# ---- Index


class Words:
    """Takes numbers out of the index, in order."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        need(0 <= count <= len(self.data) - self.at, f"{count} bytes at {self.at} of the index")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, what, low=0, high=0xFFFFFFFF):
        value = struct.unpack("<I", self.take(4))[0]
        need(low <= value <= high, f"{what} is {value}; expected {low} to {high}")
        return value

    def array(self, kind, count):
        values = np.frombuffer(self.take(np.dtype(kind).itemsize * count), kind)
        need(values.dtype.kind != "f" or np.all(np.isfinite(values)), "not finite")
        return values

    def text(self, count):
        try:
            return self.take(count).decode("utf-8")
        except UnicodeDecodeError:
            raise SessionError("invalid-field", "a text is not UTF-8") from None

    def pad(self):
        need(not any(self.take(-self.at % 4)), "padding")


@dataclass
class Page:
    offset: int
    stored: int
    encoding: int
    checksum: int


@dataclass
class Layer:
    tokens: int
    count: int  # pages
    sealed: int
    dropped: int
    exact_size: int  # bytes of an exact page
    sink_size: int
    sizes: list  # bytes of sealed pages, by rung
    aged: list = field(default_factory=list)  # pages of at least each later rung
    sink: Page | None = None
    pages: list = field(default_factory=list)  # from the dropped ones on
    frames: list = field(default_factory=list)  # first page, vectors of the centred strips

    def size(self, index):
        if index < 0:
            return self.sink_size
        return self.sizes[self.rung(index)] if index < self.sealed else self.exact_size

    def rung(self, index):
        return sum(index < count for count in self.aged)

    def stored_pages(self):
        first = [(-1, self.sink)] if self.sink else []
        return first + [(self.dropped + i, page) for i, page in enumerate(self.pages)]


class Index:
    def __init__(self, data, block):
        words = Words(data[block.index])
        number = words.number
        self.layer_count = number("layers", 1, 512)
        self.query_heads = number("query heads", 1, 512)
        self.heads = number("KV heads", 1, 512)
        self.dim = number("head dimension", 8, 512)
        self.page_tokens = number("page tokens", 16, 1024)
        self.sinks = number("sinks", 0, 1024)
        self.recent = number("recent", 0, 65536)
        self.sink_tokens = number("sink page", 16, 1024)
        codecs = number("codecs", 1, 65536)
        exact = number("exact rows", 0, codecs - 1)
        self.flags = number("flags", 0, 7)
        ids = number("token ids")
        lengths = [number("bytes of a text") for _ in range(3)]
        number("padding", 0, 0)
        self.calibration = words.take(32)
        need(self.flags & 2 or not any(self.calibration), "digest of the calibration")
        need(self.flags & 4 or lengths[1] == 0, "bytes of the fingerprint")
        need(self.query_heads % self.heads == 0 and self.dim % 8 == 0, "shape")
        self.windows = [number("window", 0, 1 << 24) for _ in range(self.layer_count)]
        self.version, self.fingerprint, self.policy = [words.text(n) for n in lengths]
        words.pad()
        need(4 * codecs <= len(words.data), "codecs")
        lengths = [number("length of a codec", 1, 4096) for _ in range(codecs)]
        self.codecs = [words.text(n) for n in lengths]
        words.pad()
        self.exact = self.codecs[exact]
        counts = [number("rungs of a layer", 1, 5) for _ in range(self.layer_count)]
        for count in counts:
            ages = [number("age", 1 if i else 0, 1 << 24 if i else 0) for i in range(count)]
            need(all(a < b for a, b in zip(ages, ages[1:])), "ages")
        # By layer and rung: arrays (sides, heads).
        self.strips = [[words.array("<u2", 2 * self.heads) for _ in range(n)] for n in counts]
        need(all(np.all(s < codecs) for rungs in self.strips for s in rungs), "codec of a strip")
        self.strips = [[s.reshape(2, -1) for s in rungs] for rungs in self.strips]
        self.ids = words.array("<i4", ids)
        need(np.all(self.ids >= 0), "a token id")
        self.layers = [self.read_layer(i, words, block) for i in range(self.layer_count)]
        need(sum(layer.dropped for layer in self.layers) <= 1 << 22, "dropped pages")
        need(words.at == len(words.data), "end of the index")
        need(ids <= min(layer.tokens for layer in self.layers), "token ids")
        self.check_space(block)

    def codec(self, layer, side, head, rung=0):
        return self.codecs[self.strips[layer][rung][side, head]]

    def centred(self, layer):
        """Pairs (head, side) of the layer's centred strips."""
        strips = [(head, side) for head in range(self.heads) for side in (0, 1)]
        return [s for s in strips if removes_mean(self.codec(layer, s[1], s[0]))]

    def read_layer(self, number, words, block):
        tokens = words.number("tokens", 0, 1 << 24)
        paged = max(0, tokens - self.sinks)
        count = -(-paged // self.page_tokens)
        words.number("pages", count, count)
        full, codecs = paged // self.page_tokens, {self.codecs[i] for i in self.strips[number][0].flat}
        is_coded = codecs != {self.exact}
        sealed = words.number("sealed pages", 0, full if is_coded else 0)
        most = 0 if not self.windows[number] else sealed if is_coded else full
        dropped = words.number("dropped pages", 0, most)
        centred = self.centred(number) if sealed else []
        frames = words.number("frames", 1 if centred else 0, sealed if centred else 0)
        flags = words.number("flags of a layer", 0, 3)
        need(flags == (1 if tokens and self.sinks else 0) + (2 if centred else 0), "flags")
        rungs = len(self.strips[number])
        exact, sink, *sizes = [words.number("bytes of a page", 64) for _ in range(2 + rungs)]
        need(not any(size % 64 for size in [exact, sink, *sizes]), "bytes of a page")
        layer = Layer(tokens, count, sealed, dropped, exact, sink, sizes)
        for _ in range(rungs - 1):
            layer.aged.append(words.number("aged pages", 0, min([sealed, *layer.aged])))
        if flags & 1:
            layer.sink = self.read_page(-1, layer, words, block)
        for index in range(dropped, count):
            layer.pages.append(self.read_page(index, layer, words, block))
        for _ in centred:
            pages = words.array("<f8", 1)[0]
            need(1 <= pages <= 2.0**53 and pages == np.floor(pages), "pages of the sums")
            words.array("<f8", 2 * self.dim)
        for _ in range(frames):
            last = layer.frames[-1][0] if layer.frames else -1
            first = words.number("page of a frame", last + 1, sealed - 1 if layer.frames else 0)
            vectors = words.array("<f4", self.dim * len(centred)).reshape(-1, self.dim)
            layer.frames.append((first, dict(zip(centred, vectors.astype(F)))))
        return layer

    def read_page(self, index, layer, words, block):
        offset, stored, encoding = struct.unpack("<QII", words.take(16))
        size = layer.size(index)
        need(DATA <= offset <= block.size and offset % 64 == 0, "offset of a page")
        need(encoding in (0, 1, 2, 4) and size % max(1, encoding) == 0, "encoding")
        low, high = (1, size - 1) if encoding else (size, size)
        need(low <= stored <= min(high, block.size - offset), "stored bytes")
        return Page(offset, stored, encoding, struct.unpack("<Q", words.take(8))[0])

    def check_space(self, block):
        used = [(block.index.start, block.index.stop)]
        for layer in self.layers:
            used += [(page.offset, page.offset + page.stored) for _, page in layer.stored_pages()]
        used.sort()
        for (_, end), (start, _) in zip(used, used[1:]):
            need(end + -end % 64 <= start, "offset of a page")


# ---- Pages and rows


class Session:
    """A session; making one checks all but the pages. Its plan may need a calibration for the rows."""

    def __init__(self, data, calibration=None):
        self.data = data
        self.block = choose(data)
        self.index = Index(data, self.block)
        check_end(data, self.block)
        self.calibration = calibration if self.index.flags & 2 else None
        if self.calibration:
            self.check_calibration()

    def check_calibration(self):
        """Refuses another calibration than that which pages were encoded with."""
        header, found = self.index, self.calibration
        need(found.digest == header.calibration, "the digest of the calibration", "other-plan")
        shape = (header.layer_count, header.heads, header.dim)
        need(found.shape == shape, "the shape of the calibration", "other-plan")
        fingerprint = header.fingerprint if header.flags & 4 else None
        need(found.fingerprint == fingerprint, "the calibration's model", "other-plan")

    def page(self, page, size):
        """The bytes of a page."""
        stored = self.data[page.offset : page.offset + page.stored]
        need(xxh64(stored) == page.checksum, f"page at {page.offset}", "damaged")
        if page.encoding == 0:
            return stored
        try:
            raw = expand(stored, size)
        except FrameError as error:
            raise SessionError("damaged", f"page at {page.offset}: {error}") from None
        if page.encoding == 1:
            return raw
        return np.frombuffer(raw, np.uint8).reshape(page.encoding, -1).T.tobytes()

    def strips(self, layer, index):
        """The pairs of strips of a page, and how many tokens of it exist."""
        header, held = self.index, self.index.layers[layer]
        rung = held.rung(index) if 0 <= index < held.sealed else None
        length, there = header.page_tokens, held.tokens - header.sinks - index * header.page_tokens
        if index < 0:
            length, there = header.sink_tokens, header.sinks
        pairs = [
            tuple(self.strip(layer, side, head, rung, length) for side in (0, 1))
            for head in range(header.heads)
        ]
        return pairs, max(0, min(length, there, held.tokens))

    def strip(self, layer, side, head, rung, length):
        """A strip of a sealed page of a rung, or of exact rows where that is None."""
        header, transform = self.index, None
        codec = header.exact if rung is None else header.codec(layer, side, head, rung)
        if needs_calibration(codec):
            need(self.calibration, "rows need the session's calibration", "other-plan")
            transform = self.calibration.transform(layer, side, head)
        return strip(codec, side == 1, header.dim, length, transform)

    def rows(self, layer):
        """Keys and values of all tokens: two arrays (tokens, heads, channels); dropped rows are zero."""
        header, held = self.index, self.index.layers[layer]
        result = np.zeros((2, held.tokens, header.heads, header.dim), F)
        for index, page in held.stored_pages():
            pairs, count = self.strips(layer, index)
            has_summaries = bool(header.flags & 1) and 0 <= index < held.sealed
            offsets, size = page_offsets(pairs, has_summaries)
            need(size == held.size(index), "bytes of a page")
            data = self.page(page, size)
            first = 0 if index < 0 else header.sinks + index * header.page_tokens
            means = self.means(held, index)
            for head, (keys, values) in enumerate(pairs):
                for side, coded in enumerate((keys, values)):
                    codes, side_data = offsets[head][side], offsets[head][2 + side]
                    bits = data[codes : codes + coded.code_bytes]
                    bits += data[side_data : side_data + coded.side_bytes]
                    mean = means.get((head, side)) if coded.codec.mean else None
                    decoded = decode(coded, bits, mean)
                    result[side, first : first + count, head] = decoded[:count]
        return result

    def means(self, held, index):
        """The vectors that were subtracted from a page, by (head, side)."""
        if not 0 <= index < held.sealed:
            return {}
        frames = [vectors for first, vectors in held.frames if first <= index]
        return frames[-1] if frames else {}

    def check_pages(self):
        for layer in self.index.layers:
            for index, page in layer.stored_pages():
                self.page(page, layer.size(index))


def removes_mean(codec):
    return "mean=removed" in codec.split()[1:]


def needs_calibration(codec):
    return not {"rotation=aligned", "shaping=queries"}.isdisjoint(codec.split()[1:])


@functools.cache
def strip(codec, is_values, dim, tokens, transform):
    return Strip(parse_codec(codec), is_values, dim, tokens, transform)


# ---- Checking


def rows_digest(session):
    """The SHA-256 of all rows: layer by layer, keys before values, as float32."""
    total = hashlib.sha256()
    for layer in range(session.index.layer_count):
        total.update(session.rows(layer).astype("<f4").tobytes())
    return total.hexdigest()


def check(path, expected):
    """What is wrong with a vector; None if nothing is."""
    word = expected.get("error")
    try:
        session = Session(path.read_bytes(), calibration(expected))
        session.check_pages()
        if word:
            # Whether it suits a cache is not a matter of the file; whether it has this calibration is.
            is_cached = word.startswith("other-") and "calibration" not in expected
            return None if is_cached else "it was read"
        found = {
            "generation": session.block.generation,
            "tokens": min(layer.tokens for layer in session.index.layers),
            "token_ids": len(session.index.ids),
            "rows": rows_digest(session),
        }
    except SessionError as error:
        return None if error.word == word else str(error)
    except (PageError, CalibrationError) as error:
        return str(error)
    wrong = [key for key in found if found[key] != expected[key]]
    return ", ".join(f"{key}: {found[key]}" for key in wrong) or None


def calibration(expected):
    name = expected.get("calibration")
    return Calibration(VECTORS / name) if name else None


def check_vectors():
    cases = json.loads((VECTORS / "sessions.json").read_text())["files"]
    failures = 0
    for name, expected in sorted(cases.items()):
        problem = check(VECTORS / name, expected)
        if problem:
            failures += 1
            print(f"{name}: {problem}")
    print(f"{len(cases)} sessions, {failures} wrong")
    return 1 if failures or not cases else 0


def main(arguments):
    parser = argparse.ArgumentParser(description="Reads and checks session files.")
    parser.add_argument("--vectors", action="store_true", help="check all of vectors/sessions")
    parser.add_argument("--calibration", metavar="FILE", help="what the sessions were encoded with")
    parser.add_argument("files", nargs="*", metavar="FILE")
    options = parser.parse_args(arguments)
    if options.vectors:
        return check_vectors()
    status = 0
    for path in options.files:
        try:
            given = Calibration(options.calibration) if options.calibration else None
            session = Session(pathlib.Path(path).read_bytes(), given)
            session.check_pages()
            print(f"{path}: generation {session.block.generation}, rows {rows_digest(session)}")
        except (SessionError, PageError, CalibrationError) as error:
            status = 1
            print(f"{path}: {error}")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
