"""How the dynamic library is found."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import nibblekv
from nibblekv._library import _CALLS, NEEDED_ABI, Library, library

HEADER = Path(__file__).parents[2] / "C" / "include" / "nibblekv.h"


def test_the_library_has_the_version_that_is_needed():
    assert library().abi_version >= NEEDED_ABI
    assert f"#define NIBBLE_ABI_VERSION {NEEDED_ABI}\n" in HEADER.read_text()


def test_all_calls_are_in_the_header():
    header = HEADER.read_text()
    assert [name for name in _CALLS if f"nibble_status nibble_{name}(" not in header] == []


def test_libraries_that_are_none_are_refused(tmp_path):
    with pytest.raises(nibblekv.LibraryError, match="cannot be loaded"):
        Library(str(tmp_path / "none.so"))
    maps = Path("/proc/self/maps").read_text().splitlines()
    libc = next(line.split()[-1] for line in maps if "libc.so" in line)
    with pytest.raises(nibblekv.LibraryError, match="no libnibblekv"):
        Library(libc)


def test_a_missing_library_says_how_to_get_one(tmp_path):
    # A copy of the sources has no library inside.
    for file in Path(nibblekv.__file__).parent.glob("*.py"):
        target = tmp_path / "nibblekv" / file.name
        target.parent.mkdir(exist_ok=True)
        target.write_text(file.read_text())
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    environment.pop("NIBBLEKV_LIBRARY", None)
    code = "import nibblekv; nibblekv.Cache(1, 1, 1, 8)"
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert "swift build -c release --product nibblekv" in result.stderr
