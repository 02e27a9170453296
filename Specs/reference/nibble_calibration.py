"""Calibrations, read from files as calibration.md says. Needs numpy."""

import hashlib
import json
import pathlib
import struct

import numpy as np

from nibble_aligned import F, Transform

PARTS = ("mean", "analysis", "synthesis", "weights")
MATRICES = ("analysis", "synthesis")
SIDES = ("keys", "values")


class CalibrationError(Exception):
    """What a calibration must not be."""


def need(condition, what):
    if not condition:
        raise CalibrationError(what)


class Calibration:
    """The transforms of a model, by layer, side (0: keys) and KV head."""

    def __init__(self, path):
        data = pathlib.Path(path).read_bytes()
        need(len(data) >= 8, "no safetensors file")
        start = 8 + struct.unpack_from("<Q", data)[0]
        need(start <= len(data), "the header ends behind the file")
        try:
            header = json.loads(data[8:start])
        except ValueError:
            raise CalibrationError("the header is no JSON") from None
        words = header.pop("__metadata__", {})
        need(words.get("format") == "nibblekv-calibration", "no calibration")
        need(words.get("version") == "1", "unknown version")
        self.fingerprint = words.get("fingerprint")
        limits = {"layers": 512, "kv_heads": 512, "head_dim": 512, "tokens": 1 << 40}
        for word, limit in limits.items():
            need(words.get(word, "").isdecimal() and 1 <= int(words[word]) <= limit, word)
        self.shape = tuple(int(words[word]) for word in ("layers", "kv_heads", "head_dim"))
        self.check_offsets(header, len(data) - start)
        layers, heads, dim = self.shape
        digest, self.transforms = hashlib.sha256(), []
        for layer in range(layers):
            for side in SIDES:
                arrays = {}
                for part in PARTS:
                    shape = (heads, dim, dim) if part in MATRICES else (heads, dim)
                    name = f"layers.{layer}.{side}.{part}"
                    entry = header.get(name)
                    need(entry and entry["dtype"] == "F32" and tuple(entry["shape"]) == shape, name)
                    begin, end = entry["data_offsets"]
                    need(end - begin == 4 * np.prod(shape), name)
                    bits = data[start + begin : start + end]
                    digest.update(bits)
                    arrays[part] = np.frombuffer(bits, "<f4").astype(F).reshape(shape)
                self.transforms += [self.transform_of(arrays, head) for head in range(heads)]
        self.digest = digest.digest()

    @staticmethod
    def check_offsets(header, size):
        """Tensors follow each other from the start of the data to their end."""
        at = 0
        for begin, end in sorted(entry["data_offsets"] for entry in header.values()):
            need(begin == at <= end, "tensors overlap, or bytes belong to none")
            at = end
        need(at == size, "bytes belong to no tensor")

    @staticmethod
    def transform_of(arrays, head):
        transform = Transform(*(arrays[part][head] for part in PARTS))
        for part in PARTS:
            values = getattr(transform, part)
            need(np.all(np.isfinite(values)) and np.all(np.abs(values) <= 1e12), part)
        need(np.all(np.diff(transform.weights) <= 0) and transform.weights[-1] >= 0, "weights")
        products = np.zeros_like(transform.analysis)
        for channel in range(len(products)):
            column = transform.analysis[:, channel]
            products = products + np.outer(column, transform.synthesis[:, channel]).astype(F)
        need(np.all(np.abs(products - np.eye(len(products))) < 0.01), "vectors are no inverses")
        return transform

    def transform(self, layer, side, head):
        heads = self.shape[1]
        return self.transforms[(2 * layer + side) * heads + head]
