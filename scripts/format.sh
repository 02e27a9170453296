#!/usr/bin/env bash
# Lays out the Swift and C sources; `--check` only reports, and fails on a finding.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$root/scripts/common.sh"
cd "$root"

check=no
case ${1:-} in
  "") ;;
  --check) check=yes ;;
  *) die "unknown argument $1; usage: format.sh [--check]" ;;
esac

swift_paths=()
for path in Package.swift Sources Tests Examples Integrations Benchmarks; do
  [ -e "$path" ] && swift_paths+=("$path")
done
c_files=()
while IFS= read -r -d '' file; do
  c_files+=("$file")
done < <(find Sources Tests Examples Integrations -name '.build*' -prune -o \
  \( -name '*.c' -o -name '*.h' \) -print0 | sort -z)

command -v clang-format >/dev/null 2>&1 ||
  die "there is no clang-format; scripts/install-dependencies.sh --developer installs it"

if [ "$check" = yes ]; then
  status=0
  swift format lint --strict --parallel --recursive "${swift_paths[@]}" || status=1
  clang-format --dry-run -Werror "${c_files[@]}" || status=1
  exit "$status"
fi
swift format format --in-place --parallel --recursive "${swift_paths[@]}"
clang-format -i "${c_files[@]}"
