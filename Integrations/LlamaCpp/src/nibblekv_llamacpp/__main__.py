"""``python -m nibblekv_llamacpp``: compresses and restores saved sequences of llama.cpp."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from nibblekv import NibbleError

from . import Summary, compress, describe, restore, summary


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m nibblekv_llamacpp", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    command = commands.add_parser("compress", help="a saved sequence to a compressed state")
    command.add_argument(
        "state", type=Path, help="from llama_state_seq_save_file or llama_state_seq_get_data"
    )
    command.add_argument(
        "--policy", default="balanced", help="a preset, a short form or a policy file"
    )
    heads = command.add_mutually_exclusive_group()
    heads.add_argument("--kv-heads", type=int, metavar="N", help="KV heads of the model")
    heads.add_argument("--model", type=Path, metavar="GGUF", help="the model, which tells them")
    _add_output(command, "the compressed state")

    command = commands.add_parser("restore", help="a compressed state to one for llama.cpp")
    command.add_argument("state", type=Path, help="a compressed state")
    _add_output(command, "the state")

    command = commands.add_parser("show", help="what a state or a compressed state holds")
    command.add_argument("state", type=Path)
    command.add_argument("--json", action="store_true", help="one JSON object")
    return parser


def _add_output(command: argparse.ArgumentParser, what: str) -> None:
    command.add_argument("--out", type=Path, required=True, metavar="FILE", help=what)
    command.add_argument("--threads", type=int, metavar="N")
    command.add_argument("--json", action="store_true", help="one JSON object")


def main(given: list[str] | None = None) -> int:
    options = arguments().parse_args(given)
    try:
        fields, text = _run(options)
    except NibbleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(fields, indent=2) if options.json else text)
    return 0


def _run(options: argparse.Namespace) -> tuple[dict[str, object], str]:
    """Does what was asked for, and says what came of it: for programs, and for people."""
    if options.command == "restore":
        restored = restore(options.state, options.out, threads=options.threads)
        same = "the bytes that were compressed" if restored.is_identical else "rows were rounded"
        fields = {
            "file": str(restored.path),
            "bytes": restored.bytes,
            "is_identical": restored.is_identical,
        }
        return fields, f"{restored.path}: {restored.bytes:,} bytes; {same}"
    if options.command == "compress":
        written = compress(
            options.state,
            options.out,
            policy=options.policy,
            kv_heads=options.kv_heads,
            model=options.model,
            threads=options.threads,
        )
        shown = summary(written)
    else:
        shown = describe(options.state)
    return asdict(shown), _text(shown)


def _text(shown: Summary) -> str:
    kind = "sequence data" if shown.is_blob else "a sequence state file"
    if shown.is_compressed:
        ratio = shown.bytes / shown.state_bytes
        lines = [
            f"{shown.file}: {shown.bytes:,} bytes, {ratio:.3f} of the {shown.state_bytes:,} of "
            f"{kind}",
            f"policy {shown.policy.strip() if shown.policy else ''}",
        ]
    else:
        lines = [f"{shown.file}: {shown.bytes:,} bytes, {kind}"]
    lines.append(f"{shown.tokens:,} tokens")
    for stream in shown.streams:
        transposed = " transposed" if stream.values_transposed else ""
        line = (
            f"cache {stream.part}, stream {stream.stream} of {stream.streams}: {stream.cells:,} "
            f"cells at positions {stream.first_position} to {stream.last_position}, "
            f"{stream.layers} layers of {stream.channels} channels, keys {stream.key_type}, "
            f"values {stream.value_type}{transposed}, {stream.row_bytes:,} bytes"
        )
        if stream.session_bytes is not None:
            line += (
                f"; heads: {stream.kv_heads} of {stream.head_dim} channels, "
                f"{stream.session_bytes:,} bytes"
            )
        lines.append(line)
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
