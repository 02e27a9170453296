#!/usr/bin/env bash
# Compiles the C kernels and their test with the address and undefined-behaviour sanitizers, and runs
# it on every instruction set that the machine has. SwiftPM has no such sanitizer for Swift.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$root/scripts/common.sh"
cd "$root"

program=$(mktemp)
trap 'rm -f "$program" "$program.emulated"' EXIT
sources=()
while IFS= read -r -d '' file; do
  sources+=("$file")
done < <(find Sources/CNibble Tests/CNibble -name '*.c' -print0 | sort -z)

# The gold linker of older systems prints hundreds of warnings about the sanitizers' own symbols.
linker=()
[ "$(uname -s)" = Linux ] && linker=(-fuse-ld=lld)
"${CLANG:-clang}" ${linker[@]+"${linker[@]}"} -std=c11 -O1 -g -Wall -Wextra -Werror -fno-omit-frame-pointer \
  -fsanitize=address,undefined,float-cast-overflow -fno-sanitize-recover=all \
  -I Sources/CNibble/include -I Sources/CNibble "${sources[@]}" -lm -o "$program"
if ! "$program" --list | grep -qw avx512 && [ "$(uname -m)" = x86_64 ]; then
  say "AVX-512 kernels, emulated"
  "${CLANG:-clang}" ${linker[@]+"${linker[@]}"} -std=c11 -O2 -Wall -Wextra -Werror -Wno-psabi \
    '-DNIBBLE_EMULATED_AVX512="emulated_avx512.h"' -I Tests/CNibble \
    -I Sources/CNibble/include -I Sources/CNibble "${sources[@]}" -lm -o "$program.emulated"
  "$program.emulated" && rm -f "$program.emulated"
fi
for isa in scalar ""; do
  say "kernels under sanitizers, NIBBLE_ISA=${isa:-(best)}"
  if [ -n "$isa" ]; then NIBBLE_ISA=$isa "$program"; else "$program"; fi
done
