"""The tables of a comparison, as Markdown."""

# The peer of the second ratio: as small as ours, and what llama.cpp's users have.
SAME_SIZE = "llama.cpp flash q4_0"


def cells(row):
    return "| " + " | ".join(row) + " |"


def table(head, rows):
    return "\n".join([cells(head), cells(["---"] + ["---:"] * (len(head) - 1)), *map(cells, rows)])


def title(case):
    tokens = case["tokens"]
    length = f"{tokens // 1024}K" if tokens % 1024 == 0 else str(tokens)
    return f"{case['query_heads']}:{case['kv_heads']} {length} {case['threads']}T"


def number(value, text):
    return "-" if value is None else format(value, text)


def median(case, name):
    entry = case["times"].get(name)
    return entry and entry["median_us"]


def ratios(cases, ours):
    """Two rows: times of the fastest peer and of the peer of the same size, over ours."""
    fastest, same = [], []
    for case in cases:
        own = median(case, ours)
        peers = {name: entry["median_us"] for name, entry in case["times"].items() if not entry["is_ours"]}
        best = min(peers, key=peers.get) if peers else None
        fastest.append(f"{peers[best] / own:.2f} ({best})" if best else "-")
        same.append(f"{peers[SAME_SIZE] / own:.2f}" if SAME_SIZE in peers else "-")
    rows = [[f"fastest peer / `{ours}`", *fastest]]
    if any(cell != "-" for cell in same):
        rows.append([f"{SAME_SIZE} / `{ours}`", *same])
    return rows


def section(heading, cases):
    """Times, errors and ratios of the cases, one column for each."""
    names = list(dict.fromkeys(name for case in cases for name in case["times"]))
    owners = {name: entry["is_ours"] for case in cases for name, entry in case["times"].items()}
    labels = {name: f"NibbleKV `{name}`" if owners[name] else name for name in names}
    titles = [title(case) for case in cases]
    times = [[labels[name], *(number(median(case, name), ",.0f") for case in cases)] for name in names]
    errors = [
        [labels[name], *(number(case["times"].get(name, {}).get("relative_error"), ".1e") for case in cases)]
        for name in names
    ]
    compared = [row for name in names if owners[name] for row in ratios(cases, name)]
    parts = [f"## {heading}", table(["median, microseconds", *titles], times)]
    parts += [table(["ratio of times", *titles], compared)]
    parts += [table(["relative error", *titles], errors)]
    if all("read_bytes_per_second" in case for case in cases):
        speeds = [f"{case['read_bytes_per_second'] / 1e9:.1f}" for case in cases]
        parts.append(table(["plain reading, GB/s", *titles], [["this machine", *speeds]]))
    return "\n\n".join(parts)


def text(report):
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    parts = [f"{report['machine']}; {versions}; instruction set of NibbleKV: {report['isa']}"]
    if report["decode"]:
        parts.append(section("Decode, one token, one layer", report["decode"]))
    if report["prefill"]:
        parts.append(section("Prefill, all chunks, one layer", report["prefill"]))
    return "\n\n".join(parts)
