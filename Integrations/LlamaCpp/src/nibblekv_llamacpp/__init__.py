"""Saved sequences of llama.cpp, compressed with NibbleKV.

```python
nibblekv_llamacpp.compress("slot.state", "slot.nibble", policy="balanced", model="model.gguf")
nibblekv_llamacpp.restore("slot.nibble", "slot.state")
```

Failures are the errors of ``nibblekv``: ``FileFailedError`` for what is damaged, and
``UnsupportedError`` for what is not covered.
"""

from ._compress import compress
from ._container import Container
from ._describe import StreamSummary, Summary, describe, summary
from ._restore import Restored, restore

__version__ = "0.1.0"

__all__ = [
    "Container",
    "Restored",
    "StreamSummary",
    "Summary",
    "compress",
    "describe",
    "restore",
    "summary",
]
