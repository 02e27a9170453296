#!/usr/bin/env bash
# Builds the dynamic library, compiles example.c against it with the system's C compiler, and runs it.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root"

flags=()
if [ "$(uname -s)" = Linux ]; then
  # Shows the functions of nibblekv.h only; everything else inside, Swift or C, stays out of the host's way.
  flags=(-Xlinker "--version-script=$root/Integrations/C/exports.map")
fi
swift build -c release --product nibblekv ${flags[@]+"${flags[@]}"}
library=$(swift build -c release --show-bin-path)
example=.build/c-example

"${CC:-cc}" -std=c11 -O2 -Wall -Wextra -Werror -I Integrations/C/include Integrations/C/example.c \
  -L "$library" -lnibblekv -lm -Wl,-rpath,"$library" -o "$example"

if [ "$(uname -s)" = Linux ]; then
  # A small letter in the second column is a name that no other file can see.
  others=$(nm -D --defined-only "$library/libnibblekv.so" | awk '$2 ~ /[A-Z]/ && $3 !~ /^nibble_/ { print $3 }')
  if [ -n "$others" ]; then
    printf 'error: the library shows names that are not ours:\n%s\n' "$others" >&2
    exit 1
  fi
fi
"$example"
