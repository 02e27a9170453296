"""MLX on the processor: its fused attention, and attention over groups quantized to 4 bits."""

import mlx.core as mlx
import numpy

VERSION = mlx.__version__
GROUP = 64
BITS = 4


def set_threads(count):
    """MLX uses one core for these operations, whatever is set."""


class Peer:
    def __init__(self, rows):
        self.rows = rows
        # (1, query heads, 1, channels)
        self.query = mlx.array(rows.queries.transpose(1, 0, 2)[None])

    def __call__(self):
        self.output = self.attend()
        mlx.eval(self.output)

    def result(self):
        return numpy.array(self.output).reshape(1, self.rows.query_heads, -1)


class Fused(Peer):
    name = "mlx fused fp32"
    bound = 1e-4

    def __init__(self, rows):
        super().__init__(rows)
        self.keys = mlx.array(rows.keys[None])
        self.values = mlx.array(rows.values[None])
        mlx.eval(self.query, self.keys, self.values)

    def attend(self):
        return mlx.fast.scaled_dot_product_attention(self.query, self.keys, self.values, scale=self.rows.scale)


class Quantized(Peer):
    name = "mlx quantized 4 bit"
    bound = 0.3

    def __init__(self, rows):
        super().__init__(rows)
        shape = (rows.kv_heads, rows.group, 1, -1)
        self.query = (self.query * rows.scale).reshape(shape)
        self.keys = self.quantized(rows.keys)
        self.values = self.quantized(rows.values)
        mlx.eval(self.query, self.keys, self.values)

    @staticmethod
    def quantized(array):
        # The second axis is that of a group's query heads.
        return [part[:, None] for part in mlx.quantize(mlx.array(array), GROUP, BITS)]

    def attend(self):
        scores = mlx.quantized_matmul(self.query, *self.keys, transpose=True, group_size=GROUP, bits=BITS)
        weights = mlx.softmax(scores, axis=-1)
        return mlx.quantized_matmul(weights, *self.values, transpose=False, group_size=GROUP, bits=BITS)


def decode(rows):
    return [Fused(rows), Quantized(rows)]
