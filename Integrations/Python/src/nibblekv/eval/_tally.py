"""Comparisons of predictions, position by position, and the row that they become."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class QualityRow:
    """The fields of ``nibble eval`` in Specs/cli.md, and the positions that were compared."""

    model: str
    policy: str
    tokens: int
    compressed_tokens: int
    positions: int
    bits_per_value: float
    total_bytes: int
    exact_bytes: int
    kl_mean: float | None
    kl_mean_low: float | None
    kl_mean_high: float | None
    kl_median: float | None
    kl_p99: float | None
    same_top_1: float | None
    perplexity: float | None
    perplexity_exact: float | None


class StepComparison:
    """What two caches predict at the positions of one step. All in double precision."""

    def __init__(self, exact: torch.Tensor, other: torch.Tensor, following: list[int]) -> None:
        reference = torch.log_softmax(exact.double(), dim=-1)
        compared = torch.log_softmax(other.double(), dim=-1)
        divergence = (reference.exp() * (reference - compared)).sum(-1)
        # Rounding may leave a crumb below zero, which the divergence never is.
        self.divergence = divergence.clamp(min=0).numpy()
        self.same_top = (exact.argmax(-1) == other.argmax(-1)).numpy()
        rows, ids = torch.arange(len(following)), torch.tensor(following, dtype=torch.long)
        self.exact_losses = -reference[rows, ids].numpy()
        self.losses = -compared[rows, ids].numpy()


class Tally:
    """All comparisons of one cache."""

    def __init__(self) -> None:
        self._steps: list[StepComparison] = []
        self.compressed_tokens = 0
        self.total_bytes = 0
        self._weighted_bits = 0.0

    def add(self, step: StepComparison) -> None:
        self._steps.append(step)

    def end_document(self, compressed_tokens: int, total_bytes: int, bits: float) -> None:
        self.compressed_tokens += compressed_tokens
        self.total_bytes += total_bytes
        self._weighted_bits += bits * compressed_tokens

    def row(self, model: str, policy: str, tokens: int, exact_bytes: int) -> QualityRow:
        divergence = self._joined("divergence")
        low, high = interval(divergence)
        return QualityRow(
            model=model,
            policy=policy,
            tokens=tokens,
            compressed_tokens=self.compressed_tokens,
            positions=len(divergence),
            bits_per_value=self._weighted_bits / max(1, self.compressed_tokens),
            total_bytes=self.total_bytes,
            exact_bytes=exact_bytes,
            kl_mean=_mean(divergence),
            kl_mean_low=low,
            kl_mean_high=high,
            kl_median=float(np.median(divergence)) if len(divergence) else None,
            kl_p99=float(np.quantile(divergence, 0.99)) if len(divergence) else None,
            same_top_1=_mean(self._joined("same_top")),
            perplexity=_perplexity(self._joined("losses")),
            perplexity_exact=_perplexity(self._joined("exact_losses")),
        )

    def _joined(self, name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        parts = [getattr(step, name).astype(np.float64) for step in self._steps]
        return np.concatenate(parts) if parts else np.empty(0)


def interval(
    values: np.ndarray[Any, np.dtype[np.float64]], draws: int = 1000
) -> tuple[float | None, float | None]:
    """The 95 % bootstrap interval of a mean; seeded, so that a run can be repeated."""
    if len(values) == 0:
        return None, None
    generator = np.random.default_rng(1)
    means = [values[generator.integers(0, len(values), len(values))].mean() for _ in range(draws)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def _mean(values: np.ndarray[Any, np.dtype[np.float64]]) -> float | None:
    return float(values.mean()) if len(values) else None


def _perplexity(losses: np.ndarray[Any, np.dtype[np.float64]]) -> float | None:
    return math.exp(losses.mean()) if len(losses) else None
