#!/usr/bin/env bash
# Files from strangers under the address sanitizer: 200,000 mutated or truncated session files, as many policies and as many safetensors
# files. Each is read or refused; nothing crashes, hangs, or takes more memory than the file's bytes and 64 MiB. Prints how many were
# refused, and why. NIBBLE_MUTATIONS says how many of each kind.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$root/scripts/common.sh"
cd "$root"

# The sanitizer ends the process at once where a single allocation or all of them go beyond any measure.
export ASAN_OPTIONS=${ASAN_OPTIONS:-max_allocation_size_mb=512:hard_rss_limit_mb=6144:allocator_may_return_null=0}
export NIBBLE_MUTATIONS=${NIBBLE_MUTATIONS:-200000}
NIBBLE_SANITIZER=address scripts/test.sh --filter '/mutatedFiles'
