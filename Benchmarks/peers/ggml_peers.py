"""llama.cpp: the attention of its graphs, on ggml's processor backend.

The library is called through ctypes, as setup.sh built it. Its cache is token-major, keys of all heads of a token side by
side; without flash attention, values are transposed. Head-major rows are what suits ggml's kernels best.
"""

import ctypes
import sys
from ctypes import c_bool, c_char_p, c_float, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path

import numpy

from rows import HEAD_DIM, copied, empty

FOLDER = Path(sys.prefix) / "ggml" / "lib"
# Numbers of ggml's types.
TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q8_0": 8}
# Half precision also sums values in half precision, so its error grows with the context.
BOUNDS = {"f16": 0.1, "q8_0": 0.1, "q4_0": 0.3}


class Parameters(ctypes.Structure):
    _fields_ = [("size", c_size_t), ("buffer", c_void_p), ("no_alloc", c_bool)]


def loaded():
    """The functions of all libraries by name, with their types."""
    names = ("libggml-base.so", "libggml-cpu.so")
    libraries = [ctypes.CDLL(str(FOLDER / name), ctypes.RTLD_GLOBAL) for name in names]
    pointer, integer = c_void_p, c_int64
    signatures = {
        "ggml_init": (pointer, [Parameters]),
        "ggml_version": (c_char_p, []),
        "ggml_row_size": (c_size_t, [c_int, integer]),
        "ggml_quantize_chunk": (c_size_t, [c_int, pointer, pointer, integer, integer, integer, pointer]),
        "ggml_new_tensor_3d": (pointer, [pointer, c_int] + [integer] * 3),
        "ggml_view_3d": (pointer, [pointer, pointer] + [integer] * 3 + [c_size_t] * 3),
        "ggml_mul_mat": (pointer, [pointer] * 3),
        "ggml_soft_max_ext": (pointer, [pointer] * 3 + [c_float] * 2),
        "ggml_flash_attn_ext": (pointer, [pointer] * 5 + [c_float] * 3),
        "ggml_new_graph": (pointer, [pointer]),
        "ggml_build_forward_expand": (None, [pointer] * 2),
        "ggml_free": (None, [pointer]),
        "ggml_backend_cpu_init": (pointer, []),
        "ggml_backend_cpu_set_n_threads": (None, [pointer, c_int]),
        "ggml_backend_cpu_buffer_from_ptr": (pointer, [pointer, c_size_t]),
        "ggml_backend_buffer_free": (None, [pointer]),
        "ggml_backend_tensor_alloc": (c_int, [pointer] * 3),
        "ggml_backend_alloc_ctx_tensors": (pointer, [pointer] * 2),
        "ggml_backend_tensor_set": (None, [pointer, pointer, c_size_t, c_size_t]),
        "ggml_backend_tensor_get": (None, [pointer, pointer, c_size_t, c_size_t]),
        "ggml_backend_graph_compute": (c_int, [pointer] * 2),
    }
    functions = {}
    for name, (result, arguments) in signatures.items():
        library = next(library for library in libraries if hasattr(library, name))
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
        functions[name.removeprefix("ggml_")] = function
    return functions


call = loaded()
backend = call["backend_cpu_init"]()
VERSION = call["version"]().decode()


def set_threads(count):
    call["backend_cpu_set_n_threads"](backend, count)


def encoded(array, name):
    """The rows of an array in one of ggml's types, in huge pages."""
    array = numpy.ascontiguousarray(array)
    length = array.shape[-1]
    rows = array.size // length
    target = empty((rows * call["row_size"](TYPES[name], length),), numpy.uint8)
    call["quantize_chunk"](TYPES[name], array.ctypes.data, target.ctypes.data, 0, rows, length, None)
    return target


class Graph:
    """A graph of one step of attention. `build` of a subclass makes its nodes and returns the output."""

    def __init__(self, rows):
        self.rows = rows
        self.kept = []
        self.context = call["init"](Parameters(1 << 20, None, True))
        query = self.tensor("f32", (HEAD_DIM, 1, rows.query_heads), copied(rows.queries))
        mask = self.tensor("f16", (rows.tokens, 1, 1), copied(numpy.zeros(rows.tokens, numpy.float16)))
        self.output = self.build(query, mask)
        self.graph = call["new_graph"](self.context)
        call["build_forward_expand"](self.graph, self.output)
        self.memory = call["backend_alloc_ctx_tensors"](self.context, backend)

    def __del__(self):
        call["backend_buffer_free"](self.memory)
        for _, buffer in self.kept:
            call["backend_buffer_free"](buffer)
        call["free"](self.context)

    def __call__(self):
        status = call["backend_graph_compute"](backend, self.graph)
        if status != 0:
            raise RuntimeError(f"ggml_backend_graph_compute returned {status}")

    def result(self):
        output = numpy.empty((1, self.rows.query_heads, HEAD_DIM), numpy.float32)
        call["backend_tensor_get"](self.output, output.ctypes.data, 0, output.nbytes)
        return output

    def tensor(self, name, shape, data):
        """A tensor that lies in the memory of an array."""
        tensor = call["new_tensor_3d"](self.context, TYPES[name], *shape)
        place = data.ctypes.data
        buffer = call["backend_cpu_buffer_from_ptr"](place, data.nbytes)
        if call["backend_tensor_alloc"](buffer, tensor, place) != 0:
            raise RuntimeError("ggml_backend_tensor_alloc failed")
        self.kept.append((data, buffer))
        return tensor

    def head_major(self, name, data):
        shape = (HEAD_DIM, self.rows.tokens, self.rows.kv_heads)
        return self.tensor(name, shape, encoded(data, name))

    def token_major(self, name, data):
        rows = self.rows
        width = HEAD_DIM * rows.kv_heads
        data = data.transpose(1, 0, 2).reshape(rows.tokens, width)
        base = self.tensor(name, (width, rows.tokens, 1), encoded(data, name))
        strides = call["row_size"](TYPES[name], width), call["row_size"](TYPES[name], HEAD_DIM)
        return call["view_3d"](self.context, base, HEAD_DIM, rows.tokens, rows.kv_heads, *strides, 0)


class Flash(Graph):
    def __init__(self, rows, name, is_head_major=False):
        self.type = name
        self.lay = self.head_major if is_head_major else self.token_major
        self.name = f"ggml flash, head-major {name}" if is_head_major else f"llama.cpp flash {name}"
        self.bound = BOUNDS[name]
        super().__init__(rows)

    def build(self, query, mask):
        keys = self.lay(self.type, self.rows.keys)
        values = self.lay(self.type, self.rows.values)
        return call["flash_attn_ext"](self.context, query, keys, values, mask, self.rows.scale, 0, 0)


class Plain(Graph):
    """Without flash attention: two products, the values transposed."""

    name = "llama.cpp without flash f16"
    bound = 0.02

    def build(self, query, mask):
        rows = self.rows
        keys = self.token_major("f16", rows.keys)
        values = encoded(rows.values.transpose(0, 2, 1), "f16")
        values = self.tensor("f16", (rows.tokens, HEAD_DIM, rows.kv_heads), values)
        scores = call["mul_mat"](self.context, keys, query)
        weights = call["soft_max_ext"](self.context, scores, mask, rows.scale, 0)
        return call["mul_mat"](self.context, values, weights)


def decode(rows):
    peers = [Flash(rows, name) for name in ("f16", "q8_0", "q4_0")]
    peers += [Plain(rows)]
    return peers + [Flash(rows, name, is_head_major=True) for name in ("f16", "q4_0")]
