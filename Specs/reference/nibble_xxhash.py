"""XXH32 and XXH64 with seed 0, from the specification of xxHash; slow, for small files."""

import struct


def xxh32(data):
    primes = 2654435761, 2246822519, 3266489917, 668265263, 374761393
    p1, p2, p3, p4, p5 = primes
    total, at, rotate, mask = stripes(data, primes, 32)
    total = total + len(data) & mask
    while at + 4 <= len(data):
        total = rotate(total + struct.unpack_from("<I", data, at)[0] * p3 & mask, 17) * p4 & mask
        at += 4
    for byte in data[at:]:
        total = rotate(total + byte * p5 & mask, 11) * p1 & mask
    return avalanche(total, p2, p3, (15, 13, 16), mask)


def xxh64(data):
    primes = (
        0x9E3779B185EBCA87,
        0xC2B2AE3D27D4EB4F,
        0x165667B19E3779F9,
        0x85EBCA77C2B2AE63,
        0x27D4EB2F165667C5,
    )
    p1, p2, p3, p4, p5 = primes
    total, at, rotate, mask = stripes(data, primes, 64)
    total = total + len(data) & mask
    while at + 8 <= len(data):
        lane = rotate(struct.unpack_from("<Q", data, at)[0] * p2 & mask, 31) * p1 & mask
        total = rotate(total ^ lane, 27) * p1 + p4 & mask
        at += 8
    if at + 4 <= len(data):
        word = struct.unpack_from("<I", data, at)[0]
        total = rotate(total ^ (word * p1 & mask), 23) * p2 + p3 & mask
        at += 4
    for byte in data[at:]:
        total = rotate(total ^ (byte * p5 & mask), 11) * p1 & mask
    return avalanche(total, p2, p3, (33, 29, 32), mask)


def stripes(data, primes, bits):
    """Four lanes over all whole stripes of four words, joined; and how many bytes that were."""
    p1, p2, _, p4, p5 = primes
    mask = (1 << bits) - 1
    words, turn = ("<4I", 13) if bits == 32 else ("<4Q", 31)

    def rotate(x, n):
        return (x << n | x >> bits - n) & mask

    size = struct.calcsize(words)
    if len(data) < size:
        return p5, 0, rotate, mask
    lanes = [p1 + p2 & mask, p2, 0, -p1 & mask]
    count = len(data) // size
    for stripe in struct.iter_unpack(words, data[: count * size]):
        lanes = [rotate(x + w * p2 & mask, turn) * p1 & mask for x, w in zip(lanes, stripe)]
    total = sum(rotate(x, n) for x, n in zip(lanes, (1, 7, 12, 18))) & mask
    if bits == 64:
        for lane in lanes:
            lane = rotate(lane * p2 & mask, turn) * p1 & mask
            total = (total ^ lane) * p1 + p4 & mask
    return total, count * size, rotate, mask


def avalanche(total, p2, p3, shifts, mask):
    first, second, third = shifts
    total = (total ^ total >> first) * p2 & mask
    total = (total ^ total >> second) * p3 & mask
    return total ^ total >> third
