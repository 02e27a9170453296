"""A paged KV cache that stays compressed: attention reads the packed pages directly.

```python
cache = nibblekv.Cache(layers=32, query_heads=32, kv_heads=8, head_dim=128, policy="balanced")
sequence = cache.sequence()
sequence.append(layer, keys, values)
output = sequence.attend(layer, queries)
```

``nibblekv.transformers`` has a cache for models of Hugging Face transformers.
"""

from ._statistics import CacheStatistics, SequenceStatistics
from .cache import Cache
from .errors import (
    FileFailedError,
    InvalidArgumentError,
    InvalidPolicyError,
    LibraryError,
    NibbleError,
    OtherSessionError,
    OverBudgetError,
    UnsupportedError,
)
from .sequence import Sequence

__version__ = "0.1.0"

__all__ = [
    "Cache",
    "CacheStatistics",
    "FileFailedError",
    "InvalidArgumentError",
    "InvalidPolicyError",
    "LibraryError",
    "NibbleError",
    "OtherSessionError",
    "OverBudgetError",
    "Sequence",
    "SequenceStatistics",
    "UnsupportedError",
]
