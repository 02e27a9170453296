#!/usr/bin/env bash
# Compiles the C kernels and their test with the address and undefined-behaviour sanitizers, and runs
# it on every instruction set that the machine has. SwiftPM has no such sanitizer for Swift.
# AVX-512 and AVX-VNNI are emulated by headers too, Arm by QEMU.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$root/scripts/common.sh"
cd "$root"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sources=()
while IFS= read -r -d '' file; do
  sources+=("$file")
done < <(find Sources/CNibble Tests/CNibble -name '*.c' -print0 | sort -z)

# compile PROGRAM OPTIONS...: the kernels and their test.
compile() {
  local result=$1
  shift
  # The gold linker of older systems prints hundreds of warnings about the sanitizers' own symbols.
  [ "$(uname -s)" = Linux ] && set -- "$@" -fuse-ld=lld
  "${CLANG:-clang}" "$@" -std=c11 -Wall -Wextra -Werror \
    -I Sources/CNibble/include -I Sources/CNibble "${sources[@]}" -lm -o "$result"
}

# expect_choice NAME COMMAND...: that the program takes the kernels of this name.
expect_choice() {
  local name=$1 line
  shift
  line=$("$@" --list) || die "the kernel test does not start: $*"
  [ "${line##*in use: }" = "$name" ] || die "expected the $name kernels, not: $line"
}

# Emulators take one case in a few: a stride that has no factor in common with the lists of shapes.
check_native() {
  say "kernels under sanitizers"
  compile "$work/native" -O1 -g -fno-omit-frame-pointer \
    -fsanitize=address,undefined,float-cast-overflow -fno-sanitize-recover=all
  expect_choice scalar env NIBBLE_ISA=scalar "$work/native"
  "$work/native"
  [ "$(uname -m)" = x86_64 ] || return 0
  # Where the machine has the instructions, a few cases show that the emulation is complete.
  local has sample=13
  has=$("$work/native" --list)
  if ! grep -qw avx512 <<<"$has" || ! grep -qw avxvnni <<<"$has"; then sample=3; fi
  say "AVX-512 and AVX-VNNI kernels, emulated, one case in $sample"
  compile "$work/emulated" -O2 -Wno-psabi -I Tests/CNibble \
    '-DNIBBLE_EMULATED_AVX512="emulated_avx512.h"' '-DNIBBLE_EMULATED_AVXVNNI="emulated_avxvnni.h"'
  "$work/emulated" --sample "$sample"
}

# On processors of three ages. The newest runs the tables of all three; the others show that each
# table is chosen where it should be, and keeps to the instructions that it may use.
check_arm() {
  case $(uname -m) in aarch64 | arm64) return 0 ;; esac
  local emulator processor name sample
  emulator=$(command -v qemu-aarch64-static || command -v qemu-aarch64) ||
    die "the Arm kernels were not checked: there is no qemu-aarch64. On Debian and Ubuntu
scripts/install-dependencies.sh --developer installs it; elsewhere, run this on a 64-bit Arm machine"
  compile "$work/arm" -O2 -static --target=aarch64-linux-gnu ||
    die "the Arm kernels were not built; scripts/install-dependencies.sh --developer installs an Arm libc"
  while read -r processor name sample; do
    say "Arm kernels, emulated $processor, one case in $sample"
    expect_choice "$name" "$emulator" -cpu "$processor" "$work/arm"
    "$emulator" -cpu "$processor" "$work/arm" --sample "$sample"
  done <<END
cortex-a72 neon 13
neoverse-n1 dotprod 13
max i8mm 3
END
  for name in dotprod neon scalar; do
    expect_choice "$name" env "NIBBLE_ISA=$name" "$emulator" -cpu max "$work/arm"
  done
}

# Both at once, as most of the time goes by on one core; what was said of Arm comes last. Each has a
# process group of its own, which ends with this script: what only runs in the background would
# ignore an interrupt.
set -m
check_native &
native=$!
check_arm >"$work/arm.log" 2>&1 &
arm=$!
set +m
trap 'kill -- "-$native" "-$arm" 2>/dev/null || true; rm -rf "$work"' EXIT
status=0
wait "$native" || status=1
wait "$arm" || status=1
cat "$work/arm.log"
exit "$status"
