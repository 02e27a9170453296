"""Statistics as immutable values."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any, TypeVar

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class CacheStatistics:
    """What a cache holds. Bytes are integers."""

    held_bytes: int
    """Page slabs and working memory: what the budget limits."""
    pages: int
    """Pages in use, shared ones once."""
    sequences: int
    bits_per_value: float
    """Of compressed pages by the plan: codes, tables, scales, means and padding."""
    disk_bytes: int
    """Of the disk tier's file that are in use."""
    disk_page_bytes: int
    """Of the pages that lie there; LZ4 makes some shorter."""
    prefix_lookups: int
    """Prompts that were looked up."""
    prefix_hits: int
    """Of those, prompts of which a beginning was found."""
    prefix_reused_tokens: int
    """Tokens that were found."""
    prefix_sequences: int
    """Sequences that are remembered."""
    prefix_bytes: int
    """Of their pages in memory; living sequences may share them."""
    prefix_evictions: int
    """How often one was shortened or forgotten to make room."""
    page_tokens: int
    """Tokens of a page, by the policy."""


@dataclass(frozen=True)
class SequenceStatistics:
    """What a sequence holds. Bytes are integers."""

    tokens: int
    """Tokens that every layer has."""
    compressed_tokens: int
    """Of those, tokens in compressed pages."""
    page_bytes: int
    tail_bytes: int
    sink_bytes: int
    total_bytes: int
    """Pages, tail and sinks."""
    exact_bytes: int
    """Float16 rows of the same tokens."""
    bits_per_value: float
    """Of the pages alone."""
    stored_pages: int
    """Pages of all layers that lie in a file and not in memory."""


def value_of(structure: ctypes.Structure, kind: type[_Value]) -> _Value:
    fields: Any = structure._fields_
    return kind(**{field[0]: getattr(structure, field[0]) for field in fields})
