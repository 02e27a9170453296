#!/usr/bin/env bash
# Sessions, longer than the tests do it: 200 kills of a process that saves, and the files of Specs/vectors/sessions with the second
# reader.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$root/scripts/common.sh"
cd "$root"

NIBBLE_SESSION_KILLS=${NIBBLE_SESSION_KILLS:-200} scripts/test.sh --filter 'Session'
python3 Specs/reference/nibble_session.py --vectors
