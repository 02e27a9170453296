"""LZ4 frames to bytes, from the frame and block formats; for small files, since it takes byte after byte."""

import struct

from nibble_xxhash import xxh32


class FrameError(Exception):
    """Why a frame cannot be read."""


def need(condition, what):
    if not condition:
        raise FrameError(what)


def expand(frame, size):
    """The content of one frame, which must have `size` bytes and end where `frame` ends."""
    try:
        return expand_frame(bytes(frame), size)
    except (IndexError, struct.error):
        raise FrameError("the frame ends early") from None


def expand_frame(frame, size):
    magic, flags, _ = struct.unpack_from("<IBB", frame)
    need(magic == 0x184D2204 and flags >> 6 == 1, "no LZ4 frame")
    has_block_checksum, has_size = flags >> 4 & 1, flags >> 3 & 1
    has_checksum, has_dictionary = flags >> 2 & 1, flags & 1
    need(not has_dictionary, "a dictionary")
    at = 6
    if has_size:
        need(struct.unpack_from("<Q", frame, at)[0] == size, "content size")
        at += 8
    need(frame[at] == xxh32(frame[4:at]) >> 8 & 255, "header checksum")
    at += 1
    content = bytearray()
    while True:
        length = struct.unpack_from("<I", frame, at)[0]
        at += 4
        if length == 0:
            break
        block = frame[at : at + (length & 0x7FFFFFFF)]
        need(len(block) == length & 0x7FFFFFFF, "the frame ends early")
        at += len(block) + 4 * has_block_checksum
        if length >> 31:
            content += block
        else:
            expand_block(block, content, size)
        need(len(content) <= size, "more content than stated")
    if has_checksum:
        need(struct.unpack_from("<I", frame, at)[0] == xxh32(bytes(content)), "content checksum")
        at += 4
    need(at == len(frame) and len(content) == size, "length")
    return bytes(content)


def expand_block(block, content, size):
    """Sequences of literals and a match; the last one has literals alone."""
    at = 0
    while at < len(block):
        token, at = block[at], at + 1
        count, at = length(block, at, token >> 4)
        need(at + count <= len(block), "literals")
        content += block[at : at + count]
        at += count
        if at == len(block):
            return
        distance = block[at] | block[at + 1] << 8
        at += 2
        count, at = length(block, at, token & 15)
        need(0 < distance <= len(content) and len(content) + count + 4 <= size, "match")
        for _ in range(count + 4):
            content.append(content[-distance])


def length(block, at, value):
    if value == 15:
        while True:
            value, at = value + block[at], at + 1
            if block[at - 1] != 255:
                break
    return value, at
