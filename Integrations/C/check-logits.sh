#!/usr/bin/env bash
# Checks that Swift, C and Python compute the same, bit for bit, for several policies: attention of the same rows, written by a
# program in C; and logits of the host in Swift (`nibble logits`), the example in C and the example in Python, 600 tokens of text on
# the embedded model, 24 that follow, and all logits of every token. The first test is built like those of scripts/test.sh.
#
# PYTHON names an interpreter with NumPy; python3 unless it is given.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
source "$root/scripts/common.sh"
cd "$root"
source Integrations/C/library.sh

python=${PYTHON:-python3}
"$python" -c 'import numpy' 2>/dev/null ||
  die "$python has no NumPy; PYTHON names one that has, and scripts/install-dependencies.sh --developer installs it"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
swift build -c release --product nibble
folder=$(build_library)
compile_llama "$folder" "$work/llama"
export PYTHONPATH=$root/Integrations/Python/src NIBBLEKV_LIBRARY=$folder/$library_name

mkdir "$work/rows"
"${CC:-cc}" -std=c11 -O2 -Wall -Wextra -Werror -I Integrations/C/include Integrations/C/rows.c \
  -L "$folder" -lnibblekv -Wl,-rpath,"$folder" -o "$work/rows-program"
"$work/rows-program" "$work/rows" >"$work/log"
"$python" Integrations/C/check_rows.py "$work/rows"
NIBBLE_ROWS=$work/rows scripts/test.sh --filter OtherHostsTests >"$work/log" 2>&1 || die "$(tail -n 40 "$work/log")"
say "attention of $(wc -l < <(ls "$work/rows")) files of rows, the same in Swift, C and Python"

model=Examples/Models/harbour-3m
calibration=$work/harbour.calibration
"$folder/nibble" calibrate --documents 1 --out "$calibration" >"$work/log"

checks=2
for policy in float16 balanced small trellis:3 "trellis:3@k.rotation=aligned"; do
  options=(--policy "$policy" --ids "$(llama_prompt)" --chunk 96)
  case $policy in *aligned*) options+=(--calibration "$calibration") ;; esac
  "$folder/nibble" logits --model "$model" "${options[@]}" --max-tokens 24 --out "$work/swift" >"$work/log"
  "$work/llama" --model "$model" "${options[@]}" --tokens 24 --threads 1 --logits "$work/c" >"$work/log" 2>&1
  "$python" Integrations/Python/examples/llama.py "$model" "${options[@]}" --tokens 24 --logits "$work/python" >"$work/log"
  for host in c python; do
    cmp "$work/swift" "$work/$host" || die "$policy: the logits of Swift and of $host differ"
    checks=$((checks + 1))
  done
  # What compression does must be seen in them: a comparison of empty or equal files would pass as well.
  if [ "$policy" = float16 ]; then
    mv "$work/swift" "$work/float16"
  elif cmp -s "$work/swift" "$work/float16"; then
    die "$policy: the logits are those of float16"
  fi
  checks=$((checks + 1))
  say "$policy: $(($(wc -c <"$work/c") / 4)) logits, the same in Swift, C and Python"
done
say "$checks checks passed"
