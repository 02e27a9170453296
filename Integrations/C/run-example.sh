#!/usr/bin/env bash
# Builds the dynamic library, compiles the examples against it with the system's C compiler, and runs them.
# `--valgrind` runs them under valgrind, and fails on what it finds.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
source "$root/scripts/common.sh"
cd "$root"
source Integrations/C/library.sh

runner=()
case ${1:-} in
  "") ;;
  # What Swift's runtime keeps for good is "possibly lost" to valgrind, and no leak.
  --valgrind)
    command -v valgrind >/dev/null 2>&1 || die "there is no valgrind; scripts/install-dependencies.sh --developer installs it"
    runner=(valgrind --quiet --error-exitcode=1 --leak-check=full --errors-for-leak-kinds=definite --show-leak-kinds=definite)
    ;;
  *) die "unknown argument $1; usage: run-example.sh [--valgrind]" ;;
esac

library=$(build_library)
if [ "$is_darwin" = no ]; then
  check_functions "$library/$library_name"
fi

if [ ${#runner[@]} -gt 0 ]; then
  # Valgrind cannot read the debug information of Swift's compiler; names of functions stay.
  mkdir -p .build/c-valgrind
  strip --strip-debug -o ".build/c-valgrind/$library_name" "$library/$library_name"
  library=$root/.build/c-valgrind
fi

for name in example sessions; do
  program=.build/c-$name
  "${CC:-cc}" -std=c11 -O2 -Wall -Wextra -Werror -I Integrations/C/include "Integrations/C/$name.c" \
    -L "$library" -lnibblekv -lm -Wl,-rpath,"$library" -o "$program"
  ${runner[@]+"${runner[@]}"} "$program"
done
