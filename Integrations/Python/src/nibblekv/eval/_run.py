"""Text through a model with several caches at once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import DynamicCache

from ..errors import InvalidArgumentError
from ._caches import MeasuredCache, measured_cache, row_values
from ._tally import QualityRow, StepComparison, Tally

_DEFAULT_STEP = 64


def evaluate(
    model: Any,
    documents: Sequence[Sequence[int]],
    caches: Sequence[str] = ("balanced",),
    *,
    name: str = "model",
    threads: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[QualityRow]:
    """Compares what a model predicts with each cache with what it predicts with an exact one.

    Text is fed in steps of at most a page, so that a position sees its history compressed as it
    would be in decoding. A position counts once its history holds compressed tokens in every cache
    that compresses; where none does, all count.

    Args:
        model: A causal language model of transformers, on the CPU.
        documents: Token ids; each document is read with empty caches.
        caches: Policies of NibbleKV; ``dynamic``, ``quanto:4`` or ``hqq:4`` for caches of
            transformers.
        name: What the rows call the model.
        threads: Threads of a NibbleKV cache.
        progress: Told tokens that are done, and all, after each step.

    Returns:
        One row a cache, in their order.
    """
    config = model.config.get_text_config(decoder=True)
    total = sum(len(document) for document in documents)
    if total == 0:
        raise InvalidArgumentError("the text has no tokens")
    measured = [measured_cache(each, config, threads) for each in caches]
    step = min((each.step_tokens for each in measured if each.step_tokens), default=_DEFAULT_STEP)
    tallies = [Tally() for _ in measured]
    done = 0
    for document in documents:
        exact = DynamicCache(config=config)
        for each in measured:
            each.begin()
        for first in range(0, len(document), step):
            _compare(model, document, first, step, exact, measured, tallies)
            done += len(document[first : first + step])
            progress(done, total)
        for each, tally in zip(measured, tallies, strict=True):
            tally.end_document(each.compressed_tokens(), each.total_bytes(), each.bits_per_value())
    exact_bytes = 2 * 2 * total * config.num_hidden_layers * row_values(config)
    return [
        tally.row(name, each.name, total, exact_bytes)
        for each, tally in zip(measured, tallies, strict=True)
    ]


def _compare(
    model: Any,
    document: Sequence[int],
    first: int,
    step: int,
    exact: Any,
    measured: Sequence[MeasuredCache],
    tallies: Sequence[Tally],
) -> None:
    """Feeds one step to all caches."""
    ids = torch.tensor([document[first : first + step]])
    following = list(document[first + 1 : first + step + 1])
    reference = _logits(model, ids, exact)
    comparisons, count = [], True
    for each in measured:
        before = each.compressed_tokens()
        logits = _logits(model, ids, each.cache)
        comparisons.append(StepComparison(reference, logits, following))
        count = count and (not each.compresses or each.sees_compressed(before))
    if count:
        for tally, comparison in zip(tallies, comparisons, strict=True):
            tally.add(comparison)


@torch.inference_mode()
def _logits(model: Any, ids: torch.Tensor, cache: Any) -> torch.Tensor:
    """(tokens, vocabulary)"""
    logits: torch.Tensor = model(
        input_ids=ids, use_cache=True, **{cache_argument(model.forward): cache}
    ).logits[0]
    return logits


def cache_argument(function: Any) -> str:
    """What a function of transformers calls its cache: its name changes within version 5."""
    names = inspect.signature(function).parameters
    return "cache" if "cache" in names else "past_key_values"
