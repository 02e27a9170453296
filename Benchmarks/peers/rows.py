"""Random rows in huge pages, exact attention over them, and reading of memory between measurements."""

import mmap

import numpy

HEAD_DIM = 128


def empty(shape, dtype):
    """An array in huge pages, where the system grants them, as NibbleKV's pages are."""
    count = int(numpy.prod(shape))
    size = count * numpy.dtype(dtype).itemsize
    memory = mmap.mmap(-1, max(size, mmap.PAGESIZE))
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return numpy.frombuffer(memory, dtype, count).reshape(shape)


def copied(array, dtype=None):
    """A contiguous copy in huge pages."""
    target = empty(array.shape, dtype or array.dtype)
    target[...] = array
    return target


class Rows:
    """Standard normal keys and values of one layer, head by head, and queries of its newest tokens.

    keys, values: (kv heads, tokens, HEAD_DIM). queries: (query tokens, query heads, HEAD_DIM).
    """

    def __init__(self, query_heads, kv_heads, tokens, query_tokens=1):
        generator = numpy.random.default_rng(5)
        self.query_heads, self.kv_heads, self.tokens = query_heads, kv_heads, tokens
        self.group = query_heads // kv_heads
        self.scale = HEAD_DIM**-0.5
        shape = (kv_heads, tokens, HEAD_DIM)
        self.keys = copied(generator.standard_normal(shape, numpy.float32))
        self.values = copied(generator.standard_normal(shape, numpy.float32))
        self.queries = generator.standard_normal((query_tokens, query_heads, HEAD_DIM), numpy.float32)

    def exact(self, row, visible):
        """Attention of one row of the queries over the first tokens, in double precision: (query heads, HEAD_DIM)."""
        output = []
        for head in range(self.kv_heads):
            queries = self.queries[row, head * self.group : (head + 1) * self.group].astype(float)
            scores = queries @ self.keys[head, :visible].T.astype(float) * self.scale
            weights = numpy.exp(scores - scores.max(axis=1, keepdims=True))
            weights /= weights.sum(axis=1, keepdims=True)
            output.append(weights @ self.values[head, :visible].astype(float))
        return numpy.concatenate(output)


def relative_error(output, exact):
    """Norm of the difference over the norm of the exact rows."""
    difference = numpy.asarray(output, float).reshape(exact.shape) - exact
    return float(numpy.linalg.norm(difference) / numpy.linalg.norm(exact))


class Reading:
    """A buffer larger than caches; reading it leaves nothing else in them."""

    def __init__(self, size=256 << 20):
        self.words = empty(size // 8, numpy.int64)
        self.words[:] = numpy.arange(self.words.size)

    def __call__(self):
        return int(self.words.sum())
