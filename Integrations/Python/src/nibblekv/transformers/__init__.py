"""A KV cache that stays compressed, for models of Hugging Face transformers 5.

```python
cache = NibbleCache(model.config, policy="balanced")
model.generate(**inputs, past_key_values=cache)
```
"""

from ._cache import NibbleCache
from ._layer import NibbleLayer

__all__ = ["NibbleCache", "NibbleLayer"]
