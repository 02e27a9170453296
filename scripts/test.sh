#!/usr/bin/env bash
# Runs the tests: the same as `make test`. Arguments go to `swift test`, for example --filter Codec.
#
# They are built optimised, because the numeric code is many times slower without, and into a folder
# of their own, because tests need -enable-testing: sharing .build would compile everything anew each
# time a person goes from the tests to the program and back.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$root/scripts/common.sh"
cd "$root"

# A sanitizer has a folder of its own too.
build=(--scratch-path .build-tests)
if [ -n "${NIBBLE_SANITIZER:-}" ]; then
  build=(--scratch-path ".build-$NIBBLE_SANITIZER" --sanitize="$NIBBLE_SANITIZER")
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
swift test -c release --disable-xctest "${build[@]}" "$@" 2>&1 | tee "$log" || status=$?

# A filter that matches nothing, or a suite that was lost, also "passes".
if [ "$status" -eq 0 ] && ! grep -qE 'Test run with [1-9][0-9]* tests? .*passed' "$log"; then
  die "no test ran"
fi
exit "$status"
