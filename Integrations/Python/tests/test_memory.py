"""Memory of a long context, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "decode.py"
WORKING_BYTES = 16 << 20


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are read as Linux tells them")
def test_resident_memory_does_not_grow_by_full_precision_rows():
    options = ["--caches", "balanced", "--context", "16384", "--steps", "2", "--json"]
    command = [sys.executable, BENCHMARK, *options]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    [row] = json.loads(result.stdout)["rows"]
    assert row["total_bytes"] < 0.25 * row["dynamic_bytes"]
    assert row["resident_growth_bytes"] < 0.35 * row["dynamic_bytes"] + WORKING_BYTES
