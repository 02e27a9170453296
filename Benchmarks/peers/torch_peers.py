"""PyTorch: its fused attention, and attention by hand as two matrix products for each KV head."""

import numpy
import torch

from rows import empty

VERSION = torch.__version__
TYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def set_threads(count):
    torch.set_num_threads(count)


def tensor(array, name):
    """A tensor of the type, in huge pages."""
    source = torch.from_numpy(array)
    if name == "fp32":
        return source
    target = torch.from_numpy(empty(array.shape, numpy.int16)).view(TYPES[name])
    return target.copy_(source)


class Torch:
    """Attention of the newest tokens of some rows, at any place of a prefill.

    Calling it with (first, count) attends with the queries of `count` tokens from `first` on.
    """

    def __init__(self, rows, name, fused):
        self.name = f"torch {'scaled_dot_product_attention' if fused else 'matmul'} {name}"
        self.bound = 0.03 if name == "bf16" else 1e-4
        self.rows = rows
        self.fused = fused
        self.keys = tensor(rows.keys, name)
        self.values = tensor(rows.values, name)
        self.type = TYPES[name]

    @torch.inference_mode()
    def prepare(self, count, first=None):
        """Queries and masks of a call; not timed, as a model has them already."""
        self.count = count
        self.first = self.rows.tokens - count if first is None else first
        visible = self.first + count
        # (query heads, tokens, channels), which is also (KV heads, group * tokens, channels).
        queries = torch.from_numpy(self.rows.queries[:count]).transpose(0, 1)
        self.query = queries.to(self.type).contiguous()
        self.mask = None
        if count > 1:
            places = torch.arange(self.first, visible)[:, None]
            self.mask = torch.arange(visible)[None, :] <= places
            self.hidden = ~self.mask[:, self.first :].repeat(self.rows.group, 1)

    @torch.inference_mode()
    def __call__(self):
        self.output = self.attend_fused() if self.fused else self.attend_by_hand()

    def result(self):
        """The output as (tokens, query heads, channels)."""
        rows = self.rows
        return self.output.float().reshape(rows.query_heads, self.count, -1).transpose(0, 1).numpy()

    def attend_fused(self):
        visible = self.first + self.count
        return torch.nn.functional.scaled_dot_product_attention(
            self.query[None],
            self.keys[None, :, :visible],
            self.values[None, :, :visible],
            attn_mask=self.mask,
            enable_gqa=self.rows.group > 1,
        )

    def attend_by_hand(self):
        rows = self.rows
        visible = self.first + self.count
        output = []
        for head in range(rows.kv_heads):
            queries = self.query[head * rows.group : (head + 1) * rows.group].flatten(0, 1)
            scores = torch.matmul(queries, self.keys[head, :visible].T).mul_(rows.scale)
            if self.mask is not None:
                scores[:, self.first :].masked_fill_(self.hidden, -torch.inf)
            output.append(torch.matmul(torch.softmax(scores, -1), self.values[head, :visible]))
        return torch.stack(output)


def decode(rows):
    """The ways of PyTorch to decode one token."""
    peers = [Torch(rows, name, fused) for name in TYPES for fused in (True, False)]
    for peer in peers:
        peer.prepare(1)
    return peers


def prefill(rows):
    """The ways of PyTorch to prefill; each has to be prepared for every chunk."""
    return [Torch(rows, name, fused) for name in TYPES for fused in (False, True)]
