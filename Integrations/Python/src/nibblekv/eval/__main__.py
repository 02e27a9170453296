"""``python -m nibblekv.eval``: caches on a local model and text, as a table or as JSON."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from ..errors import NibbleError
from ._run import evaluate
from ._tally import QualityRow
from ._text import documents_of

_COLUMNS = {
    "policy": "{}",
    "tokens": "{}",
    "compressed_tokens": "{}",
    "bits_per_value": "{:.2f}",
    "total_bytes": "{}",
    "kl_mean": "{:.3g}",
    "kl_median": "{:.3g}",
    "same_top_1": "{:.3f}",
    "perplexity": "{:.4g}",
}


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m nibblekv.eval", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="a Hugging Face directory")
    parser.add_argument(
        "--policies",
        default="balanced",
        help="policies of NibbleKV, dynamic, quanto:4 or hqq:4, separated by commas",
    )
    text = parser.add_mutually_exclusive_group(required=True)
    text.add_argument("--text", type=Path, help="UTF-8 text, or a JSON array of texts")
    text.add_argument("--tokens", type=Path, help="a JSON array of token ids, or of such arrays")
    parser.add_argument("--documents", type=int, metavar="N", help="the first N alone")
    parser.add_argument("--max-text-tokens", type=int, metavar="N", help="the first N alone")
    parser.add_argument("--threads", type=int, metavar="N", help="of NibbleKV and of PyTorch")
    parser.add_argument(
        "--dtype", default="float32", choices=["float32", "bfloat16", "float16"], help="of weights"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    return parser


def main(given: list[str] | None = None) -> int:
    options = arguments().parse_args(given)
    logging.getLogger("transformers").setLevel(logging.ERROR)
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        rows = measure(options)
    except (NibbleError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps({"rows": [asdict(row) for row in rows]}, indent=2))
    else:
        print(table(rows))
    return 0


def measure(options: argparse.Namespace) -> list[QualityRow]:
    model: Any = AutoModelForCausalLM.from_pretrained(
        options.model, dtype=getattr(torch, options.dtype), local_files_only=True
    ).eval()
    documents = documents_of(
        model.config,
        options.model,
        text=options.text,
        tokens=options.tokens,
        count=options.documents,
        limit=options.max_text_tokens,
    )
    return evaluate(
        model,
        documents,
        options.policies.split(","),
        name=options.model.resolve().name,
        threads=options.threads,
        progress=_show_progress if sys.stderr.isatty() else lambda done, total: None,
    )


def table(rows: list[QualityRow]) -> str:
    """One line a row, columns aligned: names to the left, numbers to the right."""
    lines = [list(_COLUMNS)]
    for row in rows:
        fields = asdict(row)
        lines.append(
            [
                "" if fields[name] is None else form.format(fields[name])
                for name, form in _COLUMNS.items()
            ]
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(_COLUMNS))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def _show_progress(done: int, total: int) -> None:
    print(f"\r{done} of {total} tokens", end="\n" if done == total else "", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
