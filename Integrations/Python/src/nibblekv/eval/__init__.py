"""What a cache does to a model's predictions: KL divergence to the exact cache, and bytes.

``python -m nibblekv.eval --help`` is its command line.
"""

from ._caches import MeasuredCache, measured_cache
from ._run import evaluate
from ._tally import QualityRow

__all__ = ["MeasuredCache", "QualityRow", "evaluate", "measured_cache"]
