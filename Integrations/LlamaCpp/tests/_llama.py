"""Contexts of llama.cpp over the embedded model, through the plain C interface."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np

TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q8_0": 8, "bf16": 30}


class Model:
    """A GGUF file that was loaded."""

    def __init__(self, path: Path) -> None:
        llama_cpp.llama_backend_init()
        _quiet()
        parameters = llama_cpp.llama_model_default_params()
        self.handle = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
        assert self.handle is not None, f"llama.cpp cannot load {path}"
        self.vocabulary = llama_cpp.llama_model_get_vocab(self.handle)
        self.size = llama_cpp.llama_vocab_n_tokens(self.vocabulary)

    def context(self, type_name: str = "f16", **options: Any) -> Context:
        return Context(self, type_name, **options)

    def tokens(self, text: str) -> list[int]:
        """Ids of a text, the token that begins one first."""
        content = text.encode()
        ids = (llama_cpp.llama_token * (len(content) + 2))()
        count = llama_cpp.llama_tokenize(
            self.vocabulary, content, len(content), ids, len(ids), True, False
        )
        assert count > 0
        return list(ids[:count])

    def close(self) -> None:
        llama_cpp.llama_model_free(self.handle)


class Context:
    """An empty context. With more than one stream, sequences lie apart from each other."""

    def __init__(
        self,
        model: Model,
        type_name: str = "f16",
        *,
        flash: bool = False,
        sequences: int = 1,
        cells: int = 1024,
    ) -> None:
        self.model = model
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = cells * sequences
        parameters.n_batch = parameters.n_ubatch = 512
        parameters.n_seq_max = sequences
        parameters.n_threads = parameters.n_threads_batch = 1
        parameters.type_k = parameters.type_v = TYPES[type_name]
        parameters.flash_attn_type = 1 if flash else 0
        parameters.kv_unified = False
        self.handle = llama_cpp.llama_init_from_model(model.handle, parameters)
        assert self.handle is not None

    def feed(
        self, ids: Sequence[int], first: int = 0, sequence: int = 0
    ) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Logits of each token, (tokens, vocabulary)."""
        rows = []
        for begin in range(0, len(ids), 256):
            part = ids[begin : begin + 256]
            batch = llama_cpp.llama_batch_init(len(part), 0, 1)
            batch.n_tokens = len(part)
            for index, token in enumerate(part):
                batch.token[index], batch.pos[index] = token, first + begin + index
                batch.n_seq_id[index], batch.seq_id[index][0] = 1, sequence
                batch.logits[index] = 1
            assert llama_cpp.llama_decode(self.handle, batch) == 0
            llama_cpp.llama_batch_free(batch)
            logits = llama_cpp.llama_get_logits(self.handle)
            shape = (len(part), self.model.size)
            rows.append(np.ctypeslib.as_array(logits, shape).copy())
        return np.concatenate(rows)

    def remove(self, first: int, end: int, sequence: int = 0) -> None:
        memory = llama_cpp.llama_get_memory(self.handle)
        assert llama_cpp.llama_memory_seq_rm(memory, sequence, first, end)

    def save(self, path: Path, ids: Sequence[int], sequence: int = 0) -> None:
        tokens = (llama_cpp.llama_token * len(ids))(*ids)
        assert llama_cpp.llama_state_seq_save_file(
            self.handle, str(path).encode(), sequence, tokens, len(ids)
        )

    def load(self, path: Path, sequence: int = 0) -> list[int] | None:
        """The token ids of a file that was loaded; ``None`` if llama.cpp refused it."""
        ids, count = (llama_cpp.llama_token * 4096)(), ctypes.c_size_t()
        read = llama_cpp.llama_state_seq_load_file(
            self.handle, str(path).encode(), sequence, ids, len(ids), ctypes.byref(count)
        )
        return list(ids[: count.value]) if read else None

    def data(self, sequence: int = 0) -> bytes:
        size = llama_cpp.llama_state_seq_get_size(self.handle, sequence)
        content = (ctypes.c_uint8 * size)()
        assert llama_cpp.llama_state_seq_get_data(self.handle, content, size, sequence) == size
        return bytes(content)

    def set_data(self, content: bytes, sequence: int = 0) -> bool:
        array = (ctypes.c_uint8 * len(content)).from_buffer_copy(content)
        return bool(llama_cpp.llama_state_seq_set_data(self.handle, array, len(content), sequence))

    def close(self) -> None:
        llama_cpp.llama_free(self.handle)

    def __enter__(self) -> Context:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@llama_cpp.llama_log_callback
def _silence(level: int, text: bytes, data: Any) -> None:
    pass


def _quiet() -> None:
    llama_cpp.llama_log_set(_silence, ctypes.c_void_p())
