#!/usr/bin/env bash
# Compiles the Llama example, runs it on the embedded model as it is, under the address and undefined behaviour sanitizers and,
# where there is one, under valgrind, and gives it files and arguments that are wrong.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
source "$root/scripts/common.sh"
cd "$root"
source Integrations/C/library.sh

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
folder=$(build_library)
compile_llama "$folder" "$work/llama"
compile_llama "$folder" "$work/llama-checked" -g -fsanitize=address,undefined -fno-sanitize-recover=all

arguments=(--model Examples/Models/harbour-3m --ids "$(llama_prompt)" --policy small --tokens 40)
"$work/llama" "${arguments[@]}" --logits "$work/plain" >"$work/text"
cat "$work/text"
echo
# The model asks itself something about the text, and answers: words that the prompt does not have.
grep -q "What does the tiny cup cost at the orchard? Answer: 45 coins" "$work/text" || die "the text is not continued"
checks=1

say "under sanitizers"
"$work/llama-checked" "${arguments[@]}" --logits "$work/checked" >/dev/null 2>"$work/log" || die "$(cat "$work/log")"
cmp "$work/plain" "$work/checked"
checks=$((checks + 1))

if command -v valgrind >/dev/null 2>&1; then
  say "under valgrind"
  # Valgrind cannot read the debug information of Swift's compiler.
  mkdir "$work/stripped"
  strip --strip-debug -o "$work/stripped/$library_name" "$folder/$library_name"
  compile_llama "$work/stripped" "$work/llama-stripped"
  valgrind --quiet --error-exitcode=1 --leak-check=full --errors-for-leak-kinds=definite --show-leak-kinds=definite \
    "$work/llama-stripped" --model Examples/Models/harbour-3m --ids 0,454,1137 --tokens 2 --threads 1 >/dev/null 2>"$work/log" ||
    die "$(cat "$work/log")"
  checks=$((checks + 1))
fi

say "wrong files and arguments"
python3 Integrations/C/llama/check_input.py "$work/llama-checked" Examples/Models/harbour-3m "$work"
say "$((checks + 1)) checks passed"
