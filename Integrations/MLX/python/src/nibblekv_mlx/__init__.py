"""Prompt caches of MLX as compressed sessions of NibbleKV, and back.

```python
nibblekv_mlx.compress("prompt.safetensors", "prompt.session", policy="balanced")
nibblekv_mlx.restore("prompt.session", "again.safetensors")
```

The first file is what ``mlx_lm.models.cache.save_prompt_cache`` or ``savePromptCache`` of
mlx-swift-lm writes; the last is one that they load. Failures are the errors of ``nibblekv``.
"""

from .convert import Summary, compress, describe, restore

__version__ = "0.1.0"

__all__ = ["Summary", "compress", "describe", "restore"]
