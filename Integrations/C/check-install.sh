#!/usr/bin/env bash
# Checks what `make install` puts into a prefix: the files, the functions that the library shows, its name and what it needs, that
# programs which pkg-config describes compile and run with nothing but the prefix, in C, C++ and Swift, and that `make uninstall`
# takes all files away.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
source "$root/scripts/common.sh"
cd "$root"
source Integrations/C/library.sh
[ "$(uname -s)" = Linux ] || die "this check knows the tools of Linux only"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
checks=0
passed() { checks=$((checks + 1)); }
# files_of FOLDER: files and links, one a line.
files_of() { (cd "$1" && find . -type f -printf '%P\n' -o -type l -printf '%P -> %l\n' | sort); }

prefix=$work/prefix
make --no-print-directory install PREFIX="$prefix"
expected="include/nibblekv.h
lib/libnibblekv.so -> libnibblekv.so.$generation
lib/libnibblekv.so.$generation -> libnibblekv.so.$generation.$abi.0
lib/libnibblekv.so.$generation.$abi.0
lib/pkgconfig/nibblekv.pc"
diff <(echo "$expected") <(files_of "$prefix") || die "other files are installed"
passed

library=$prefix/lib/libnibblekv.so.$generation.$abi.0
check_functions "$library"
passed
dynamic=$(readelf -d "$library")
grep -q "SONAME.*\[libnibblekv.so.$generation\]" <<<"$dynamic" || die "its name is not libnibblekv.so.$generation"
# Only libraries of the system: no Swift, and no folder of this machine to look for them in.
others=$(sed -nE 's/.*NEEDED.*\[(.*)\]/\1/p' <<<"$dynamic" |
  grep -vE '^(lib(lz4|xxhash|m|c|dl|pthread|rt|stdc\+\+|gcc_s)\.so\.|ld-linux)' || true)
[ -z "$others" ] || die "it needs $others"
folders=$(sed -nE 's/.*(RPATH|RUNPATH).*\[(.*)\]/\2/p' <<<"$dynamic")
[ -z "$folders" ] || [ "$folders" = '$ORIGIN' ] || die "it looks for libraries in $folders"
passed

# Programs of the installed files alone, without the environment of this shell.
export PKG_CONFIG_PATH=$prefix/lib/pkgconfig
cp Integrations/C/*.[ch] "$work"
awk '/^```c$/ { is_code = 1; next } /^```$/ { is_code = 0 } is_code' Integrations/C/README.md >"$work/readme.c"
[ -s "$work/readme.c" ] || die "Integrations/C/README.md has no example"
# A user has no pkg-config files of what only the library needs.
PKG_CONFIG_LIBDIR=$prefix/lib/pkgconfig pkg-config --cflags --libs nibblekv >"$work/log"
passed
for name in readme example sessions; do
  # shellcheck disable=SC2046
  "${CC:-cc}" -std=c11 -Wall -Wextra -Werror "$work/$name.c" $(pkg-config --cflags --libs nibblekv) -lm \
    -Wl,-rpath,"$prefix/lib" -o "$work/$name"
  (cd "$work" && env -i "./$name" >"$work/log") || die "$name: $(cat "$work/log")"
  passed
done
# shellcheck disable=SC2046
"${CC:-cc}" -std=c11 -O2 -ffp-contract=off Integrations/C/llama/*.c $(pkg-config --cflags --libs nibblekv openblas) -lm \
  -Wl,-rpath,"$prefix/lib" -o "$work/llama"
env -i "$work/llama" --model Examples/Models/harbour-3m --ids 0,454,1137 --tokens 3 >"$work/log" 2>&1 || die "$(cat "$work/log")"
passed
if command -v "${CXX:-c++}" >/dev/null 2>&1; then
  echo '#include <nibblekv.h>
int main() { return nibble_abi_version() == NIBBLE_ABI_VERSION ? 0 : 1; }' >"$work/cxx.cpp"
  # shellcheck disable=SC2046
  "${CXX:-c++}" -Wall -Wextra -Werror "$work/cxx.cpp" $(pkg-config --cflags --libs nibblekv) -Wl,-rpath,"$prefix/lib" -o "$work/cxx"
  env -i "$work/cxx" || die "the library has another version of the interface than the header"
  passed
fi
# A host in Swift has a runtime of its own, and the library keeps out of its way.
mkdir "$work/module"
echo "module Installed [system] { header \"$prefix/include/nibblekv.h\" link \"nibblekv\" }" >"$work/module/module.modulemap"
cat >"$work/main.swift" <<'SWIFT'
import Foundation
import Installed

var shape = nibble_model_shape(layers: 1, query_heads: 8, kv_heads: 2, head_dim: 64)
var cache: OpaquePointer?
var sequence: OpaquePointer?
let rows = (0..<500 * 128).map { Float($0 % 17) }
var output = [Float](repeating: .nan, count: 512)
precondition(nibble_cache_create(&shape, "trellis:3", 0, 2, &cache) == NIBBLE_OK)
precondition(nibble_sequence_create(cache, &sequence) == NIBBLE_OK)
precondition(nibble_sequence_append(sequence, 0, 500, rows, rows) == NIBBLE_OK)
precondition(nibble_sequence_attend(sequence, 0, 1, rows, 0, 0, 0, &output) == NIBBLE_OK)
precondition(output.allSatisfy(\.isFinite))
precondition((try? JSONEncoder().encode(output)) != nil)
nibble_sequence_free(sequence)
nibble_cache_free(cache)
SWIFT
swiftc -O -I "$work/module" -L "$prefix/lib" -Xlinker -rpath -Xlinker "$prefix/lib" "$work/main.swift" -o "$work/swift-host"
"$work/swift-host"
passed
version=$(sed -nE 's/.*static let text = "(.*)".*/\1/p' Sources/NibbleKV/NibbleKVVersion.swift)
[ "$(pkg-config --modversion nibblekv)" = "$version" ] || die "nibblekv.pc has another version than $version"
passed

# A package is made in a folder of its own, whose files name the prefix alone.
make --no-print-directory install DESTDIR="$work/stage" PREFIX=/usr
diff <(echo "$expected") <(files_of "$work/stage/usr") || die "other files are staged"
! grep -rl "$work" "$work/stage" || die "these files name the folder that they were staged in"
passed

make --no-print-directory uninstall PREFIX="$prefix"
make --no-print-directory uninstall DESTDIR="$work/stage" PREFIX=/usr
left=$(files_of "$prefix")$(files_of "$work/stage")
[ -z "$left" ] || die "uninstalling left $left"
passed
if make --no-print-directory install PREFIX=relative >"$work/log" 2>&1; then die "a relative PREFIX is taken"; fi
grep -q "PREFIX is relative; expected an absolute path" "$work/log" || die "$(cat "$work/log")"
passed
say "$checks checks passed"
