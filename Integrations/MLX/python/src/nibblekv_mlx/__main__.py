"""``python -m nibblekv_mlx``: prompt caches of MLX as compressed sessions, and back."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from nibblekv import FileFailedError, NibbleError

from .convert import Summary, compress, describe, restore


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m nibblekv_mlx", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    one = commands.add_parser("compress", help="a prompt cache to a session")
    one.add_argument("file", type=Path, metavar="PROMPT_CACHE", help="a safetensors file")
    one.add_argument("--out", type=Path, required=True, help="the session file")
    one.add_argument("--policy", default="balanced", help="a preset, a short form or a file")
    one.add_argument("--tokens", type=Path, metavar="FILE", help="a JSON array of all token ids")
    one.add_argument(
        "--query-heads", type=int, metavar="N", help="the model's, for other hosts of NibbleKV"
    )
    one.add_argument(
        "--fingerprint", metavar="TEXT", help="what names the model's weights, for the same hosts"
    )

    two = commands.add_parser("restore", help="a session to the prompt cache that it was made of")
    two.add_argument("file", type=Path, metavar="SESSION")
    two.add_argument("--out", type=Path, required=True, help="the safetensors file")

    three = commands.add_parser("show", help="what a session or a prompt cache holds")
    three.add_argument("file", type=Path, metavar="FILE")

    for command in (one, two, three):
        command.add_argument("--json", action="store_true", help="one JSON object")
    for command in (one, two):
        command.add_argument("--threads", type=int, metavar="N", help="without it, all")
    return parser


def main(given: list[str] | None = None) -> int:
    options = arguments().parse_args(given)
    try:
        summary = run(options)
    except (NibbleError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    fields = {name: value for name, value in asdict(summary).items() if value is not None}
    if options.json:
        print(json.dumps(fields, indent=2))
        return 0
    for name, value in fields.items():
        text = json.dumps(value) if isinstance(value, dict) else str(value).strip()
        print(f"{name.replace('_', ' '):20} {text}")
    return 0


def run(options: argparse.Namespace) -> Summary:
    """Does what a command line asks for."""
    if options.command == "show":
        return describe(options.file)
    if options.command == "restore":
        return restore(options.file, options.out, threads=options.threads)
    return compress(
        options.file,
        options.out,
        options.policy,
        tokens=None if options.tokens is None else _ids(options.tokens),
        query_heads=options.query_heads,
        fingerprint=options.fingerprint,
        threads=options.threads,
    )


def _ids(path: Path) -> list[int]:
    try:
        ids = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, RecursionError, ValueError) as error:
        raise FileFailedError(f"{path} cannot be read: {error}") from error
    if not isinstance(ids, list) or any(type(number) is not int for number in ids):
        raise FileFailedError(f"{path} is no JSON array of token ids")
    return ids


if __name__ == "__main__":
    sys.exit(main())
