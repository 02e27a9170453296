"""Puts the dynamic library and the Swift runtime that it needs into the wheel."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NEEDED_ABI = 4  # as nibblekv._library.NEEDED_ABI
LIBRARY = "libnibblekv.dylib" if sys.platform == "darwin" else "libnibblekv.so"
# The Swift runtime, which is under the licence Apache-2.0. Other libraries are the system's.
RUNTIME = re.compile(
    r"lib(swift|_?Foundation|_Foundation|dispatch|BlocksRuntime|_Internal)[A-Za-z_]*\.so"
)


class LibraryHook(BuildHookInterface):
    """Finds or builds the library, and marks the wheel as one of this platform."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        library = find_library(Path(self.root))
        included = build_data["force_include"]
        for path in [library, *runtime_libraries(library)]:
            included[str(path)] = f"nibblekv/lib/{path.name}"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform_tag()}"


def find_library(package: Path) -> Path:
    """The library that NIBBLEKV_LIBRARY names, or that of the repository, built where it is
    missing or too old."""
    if named := os.environ.get("NIBBLEKV_LIBRARY"):
        path = Path(named).resolve()
        if not path.is_file():
            raise SystemExit(f"NIBBLEKV_LIBRARY is {named}, which is no file")
        if (abi := abi_version(path)) < NEEDED_ABI:
            raise SystemExit(f"{named} has version {abi} of the interface; {NEEDED_ABI} is needed")
        return path
    repository = package.parent.parent
    if not (repository / "Package.swift").is_file():
        raise SystemExit(
            "there is no libnibblekv here to put into the wheel: install from a clone of the "
            "repository, or set NIBBLEKV_LIBRARY to a library that is built"
        )
    path = repository / ".build" / "release" / LIBRARY
    if not path.is_file() or abi_version(path) < NEEDED_ABI:
        build(repository)
    return path.resolve()


def build(repository: Path) -> None:
    command = ["swift", "build", "-c", "release", "--product", "nibblekv"]
    if shutil.which("swift") is None:
        raise SystemExit(
            "libnibblekv is not built, and there is no Swift toolchain to build it with: install "
            "Swift 6.3 or newer (https://www.swift.org/install), or set NIBBLEKV_LIBRARY"
        )
    result = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    if result.returncode != 0:
        said = (result.stdout + result.stderr)[-4000:]
        raise SystemExit(f"{' '.join(command)} failed in {repository}:\n{said}")


def abi_version(library: Path) -> int:
    """The version in another process: this one could not load the library that is built next."""
    code = "import ctypes, sys; print(ctypes.CDLL(sys.argv[1]).nibble_abi_version())"
    result = subprocess.run([sys.executable, "-c", code, library], capture_output=True, text=True)
    return int(result.stdout) if result.returncode == 0 else 0


def runtime_libraries(library: Path) -> list[Path]:
    """The Swift runtime libraries that the library is linked with. On Apple platforms the system
    has them."""
    if sys.platform == "darwin":
        return []
    said = subprocess.run(["ldd", library], capture_output=True, text=True, check=True).stdout
    paths = re.findall(r"=> (\S+) \(0x", said)
    return [Path(path).resolve() for path in paths if RUNTIME.fullmatch(Path(path).name)]


def platform_tag() -> str:
    if sys.platform == "darwin":
        return f"macosx_15_0_{platform.machine()}"
    bits = ctypes.sizeof(ctypes.c_void_p) * 8
    if bits != 64:
        raise SystemExit(f"this Python has {bits} bits; NibbleKV needs 64")
    return f"linux_{platform.machine()}"
