#!/usr/bin/env bash
# What uses a cache from many threads, under the thread sanitizer: sequences side by side, a server's load, prefixes, the disk tier,
# sessions, workers. Any report of a race fails.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$root/scripts/common.sh"
cd "$root"

export TSAN_OPTIONS=${TSAN_OPTIONS:-exitcode=66:second_deadlock_stack=1:suppressions=$root/scripts/thread-sanitizer.supp}
# Kills end processes that the sanitizer does not follow; mutated files have a check of their own.
NIBBLE_SANITIZER=thread scripts/test.sh \
  --filter 'NibbleKVTests\.(Concurrency|ServerLoad|Prefix|Disk|Session|Workers|Budget|Batch|Fork|Telemetry)' \
  --skip 'SessionKill|SessionFuzz'
