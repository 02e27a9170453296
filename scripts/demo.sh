#!/usr/bin/env bash
# Text from the embedded model with a compressed cache, then what compression costs: `make demo`.
# `--quick` measures on little text, to see that everything works; its figures mean little.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$root/scripts/common.sh"
cd "$root"

text_tokens=24000
questions=40
case ${1:-} in
  "") ;;
  --quick) text_tokens=1500 questions=4 ;;
  *) die "unknown argument $1; usage: demo.sh [--quick]" ;;
esac

policies=exact,conservative,balanced,small,linear:4,rotated:4,clustered:4
prompt=$'The story of Ada and the lighthouse.\n\nOn Monday the harbour was full of people, because the wind had turned to the north. '
prompt+='Ada keeps the silver compass in the old boat.'

say "building (a few minutes the first time)"
swift build -c release --product nibble
nibble=$(swift build -c release --show-bin-path)/nibble

say "nibble generate --policy balanced: a story continued with a compressed cache"
"$nibble" generate --policy balanced --prompt "$prompt" --max-tokens 300 --temperature 0.8 --seed 3
say "nibble compare $policies: $text_tokens tokens of held-out stories, $questions questions"
"$nibble" compare "$policies" --max-text-tokens "$text_tokens" --max-questions "$questions"
