#!/usr/bin/env python3
"""Times attention of NibbleKV and of other libraries side by side, on the same shapes, in one run.

    setup.sh
    swift build -c release --product nibble
    .venv/bin/python compare.py [--quick] [--json FILE]

Decode: one token of one layer, its pages cold. Peers take turns, round after round, and a buffer of 256 MiB is read before
each step; NibbleKV runs before and after them, and its time is the mean of the two medians. Prefill: the attention of all
chunks of one layer. Rows are standard normal; all outputs are checked against double precision, quantized ones against the
rows before quantization. NibbleKV's own error is against its decoded pages.
"""

import argparse
import importlib
import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path

import report
from nibble import Nibble
from rows import Reading, Rows, relative_error

ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = {"torch": "torch_peers", "ggml": "ggml_peers", "mlx": "mlx_peers"}


def main():
    options = parsed()
    peers = installed(options.without)
    nibble = Nibble(options.nibble, options.policies.split(","))
    result = {"machine": machine(), "versions": {name: peer.VERSION for name, peer in peers.items()}}
    result["decode"] = decode_all(options, nibble, peers)
    result["prefill"] = prefill_all(options, nibble, peers)
    cases = result["decode"] + result["prefill"]
    result["isa"] = cases[0]["isa"] if cases else "unknown"
    print(report.text(result))
    if options.json:
        Path(options.json).write_text(json.dumps(result, indent=2) + "\n")
    wrong = [f"{report.title(case)}: {name}" for case in cases for name in case["wrong"]]
    if wrong:
        sys.exit("error: outputs that are not attention: " + "; ".join(wrong))


def parsed():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nibble", default=str(ROOT / ".build/release/nibble"), help="the program")
    parser.add_argument("--policies", default="float16,linear:4,rotated:4", help="NibbleKV's policies")
    parser.add_argument("--heads", default="32:8,8:8", help="query heads:KV heads")
    parser.add_argument("--contexts", default="4096,16384,65536", help="tokens in the cache when a token is decoded")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--rounds", type=int, default=7, help="decode steps to time")
    parser.add_argument("--prefill", type=int, default=8192, help="tokens to prefill; 0 leaves prefill out")
    parser.add_argument("--chunk", type=int, default=512)
    parser.add_argument("--prefill-runs", type=int, default=1)
    parser.add_argument("--patience", type=float, default=30, help="seconds after which a prefill is given up")
    parser.add_argument("--without", default="", help="libraries to leave out: torch,ggml,mlx")
    parser.add_argument("--json", help="a file for all figures")
    parser.add_argument("--quick", action="store_true", help="unless given: 32:8, 4K tokens, prefill of 2K, 5 rounds")
    if "--quick" in sys.argv:
        parser.set_defaults(heads="32:8", contexts="4096", rounds=5, prefill=2048)
    options = parser.parse_args()
    if not os.access(options.nibble, os.X_OK):
        parser.error(f"there is no program {options.nibble}; build it: swift build -c release --product nibble")
    return options


def installed(without):
    """The libraries' modules that can be loaded."""
    modules = {}
    for name, module in LIBRARIES.items():
        if name in without.split(","):
            continue
        try:
            modules[name] = importlib.import_module(module)
        except (ImportError, OSError) as error:
            note(f"{name} is left out: {error}")
    return modules


def machine():
    """The processor and its cores."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        model = names[0] if names else model
    return f"{model}, {os.cpu_count()} cores"


def note(text):
    print(text, file=sys.stderr, flush=True)


def numbers(text):
    return [int(word) for word in text.split(",")]


# Decode


def decode_all(options, nibble, peers):
    """The cases of all shapes and threads."""
    reading = Reading()
    cases = []
    for heads in options.heads.split(","):
        for tokens in numbers(options.contexts):
            rows = Rows(*map(int, heads.split(":")), tokens)
            exact = rows.exact(0, tokens)
            steps = [step for peer in peers.values() for step in peer.decode(rows)]
            for threads in numbers(options.threads):
                note(f"decode {heads}, {tokens} tokens, {threads} threads")
                for peer in peers.values():
                    peer.set_threads(threads)
                cases.append(decode(options, nibble, rows, exact, steps, threads, reading))
    return cases


def decode(options, nibble, rows, exact, steps, threads, reading):
    shape = (threads, rows.tokens, rows.query_heads, rows.kv_heads)
    own = [nibble.bench("decode", *shape)]
    times = {step.name: [] for step in steps}
    for turn in range(options.rounds + 1):
        for step in steps:
            reading()
            start = time.perf_counter()
            step()
            # The first turn warms up.
            if turn > 0:
                times[step.name].append(time.perf_counter() - start)
    own.append(nibble.bench("decode", *shape))
    case = new_case(shape, own[0])
    case["read_bytes_per_second"] = statistics.mean(row["machine_read_bytes_per_second"] for run in own for row in run)
    for rows_of_policy in zip(*own):
        add_own(case, rows_of_policy)
    for step in steps:
        add_peer(case, step, times[step.name], relative_error(step.result(), exact))
    return case


def new_case(shape, own):
    case = dict(zip(("threads", "tokens", "query_heads", "kv_heads"), shape))
    return case | {"isa": own[0]["isa"], "times": {}, "wrong": []}


def add_own(case, runs):
    """One policy of NibbleKV, from one or more runs of the program."""
    medians = [run["median_us"] for run in runs]
    case["times"][runs[0]["policy"]] = {
        "is_ours": True,
        "median_us": statistics.mean(medians),
        "medians_us": medians,
        "page_bytes": runs[0]["page_bytes"],
        "share_of_read_bandwidth": runs[0].get("share_of_read_bandwidth"),
        "relative_error": runs[0]["relative_error"],
    }


def add_peer(case, peer, times, error):
    case["times"][peer.name] = {
        "is_ours": False,
        "median_us": statistics.median(times) * 1e6,
        "min_us": min(times) * 1e6,
        "runs": len(times),
        "relative_error": error,
    }
    if not error <= peer.bound:
        case["wrong"].append(peer.name)


# Prefill


def prefill_all(options, nibble, peers):
    if options.prefill == 0:
        return []
    query_heads, kv_heads = map(int, options.heads.split(",")[0].split(":"))
    threads = max(numbers(options.threads))
    shape = (threads, options.prefill, query_heads, kv_heads)
    note(f"prefill {query_heads}:{kv_heads}, {options.prefill} tokens, {threads} threads")
    runs = nibble.bench("prefill", *shape, "--chunk", options.chunk, "--runs", options.prefill_runs)
    case = new_case(shape, runs) | {"chunk": options.chunk}
    for row in runs:
        add_own(case, [row])
    rows = Rows(query_heads, kv_heads, options.prefill, query_tokens=options.chunk)
    for peer in peers.values():
        peer.set_threads(threads)
        for step in getattr(peer, "prefill", lambda rows: [])(rows):
            times = [prefill(step, options) for _ in range(options.prefill_runs)]
            if None in times:
                note(f"{step.name} is left out: more than {options.patience:g} s")
            else:
                add_peer(case, step, times, prefill_error(step, rows))
    return [case]


def prefill(step, options):
    """Seconds of the attention of all chunks, or None if patience ends."""
    total = 0.0
    for first in range(0, options.prefill, options.chunk):
        step.prepare(min(options.chunk, options.prefill - first), first)
        start = time.perf_counter()
        step()
        total += time.perf_counter() - start
        if total > options.patience:
            return None
    return total


def prefill_error(step, rows):
    """The error of the first and the last row of the last chunk."""
    chosen = (0, step.count - 1)
    output = step.result()
    return max(relative_error(output[row], rows.exact(row, step.first + row + 1)) for row in chosen)


if __name__ == "__main__":
    main()
