#!/usr/bin/env bash
# Compares what `nibble plan` says with how much a process grows that holds it (`nibble bench memory`), for shapes, policies and contexts
# of many kinds, and fails where they differ by more than 3 %. A few minutes, up to 1.5 GB of memory.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$root/scripts/common.sh"
cd "$root"

swift build -c release --product nibble >/dev/null
nibble=.build/release/nibble
configurations=Tests/NibbleLlamaTests/Fixtures/configurations
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/fade.yaml" <<'END'
version: 1
keys: int8
values: { codec: linear, bits: 4, rotation: hadamard }
ages:
  - beyond: 4096
    keys: rotated:4
  - beyond: 16384
    keys: rotated:2
    values: rotated:2
END
"$nibble" calibrate --max-text-tokens 3000 --out "$work/embedded.calibration" >/dev/null

failures=0
# check WHAT ARGUMENTS...: one process, one row.
check() {
  local what=$1 row
  shift
  row=$("$nibble" bench memory --threads 2 --json "$@" | python3 -c '
import json, sys
report = json.load(sys.stdin)
planned, grown = report["planned_bytes"], report["resident_growth_bytes"]
name = report["policy"].rsplit("/", 1)[-1]
change = f"{100 * (grown / planned - 1):+.2f}"
print(name, report["tokens"], report["sequences"], planned, grown, change, sep="|")')
  IFS='|' read -r policy tokens sequences planned grown percent <<<"$row"
  printf '| %s | `%s` | %s | %s | %s | %s | %s %% |\n' \
    "$what" "$policy" "$tokens" "$sequences" "$planned" "$grown" "$percent"
  if python3 -c "import sys; sys.exit(abs($percent) <= 3)"; then failures=$((failures + 1)); fi
}

echo '| shape | policy | tokens | sequences | planned bytes | measured growth | difference |'
echo '|---|---|---:|---:|---:|---:|---:|'
check '8 layers, 32 heads of 64' --layers 8 --kv-heads 32 --head-dim 64 --policy linear:4 --context 32768
check '8 layers, 32 heads of 80' --layers 8 --kv-heads 32 --head-dim 80 --policy rotated:4 --context 32768
check 'Phi-3 mini, 32 windows of 2,047, 32 heads of 96' \
  --model "$configurations/phi-3-mini-4k.json" --policy conservative --context 6144
check '8 layers, 32:8 heads of 128' \
  --layers 8 --query-heads 32 --kv-heads 8 --head-dim 128 --policy balanced --context 65536
check '8 layers, 32:8 heads of 128, ages' \
  --layers 8 --query-heads 32 --kv-heads 8 --head-dim 128 --policy "$work/fade.yaml" --context 65536
check 'Gemma 3 4B, 29 windows of 1,024, 8:4 heads of 256' \
  --model "$configurations/gemma-3-4b.json" --policy int8 --context 32768
check 'Gemma 2 9B, 21 windows of 4,096, 16:8 heads of 256' \
  --model "$configurations/gemma-2-9b.json" --policy small --context 12288
check 'gpt-oss 20B, 12 windows of 128, 64:8 heads of 64' \
  --model "$configurations/gpt-oss-20b.json" --policy k=int8+v=bcq:3 --context 65536
check 'Qwen3-Next 80B, its 12 attention layers, 16:2 heads of 256' \
  --model "$configurations/qwen3-next-80b.json" --policy clustered:4@page_tokens=256 --context 65536
check 'GPT-2, 12 heads of 64' \
  --model "$configurations/gpt2.json" --policy linear:2@skip_below=0.01 --context 65536
check 'the embedded model, calibrated, 8:2 heads of 64' \
  --model Examples/Models/harbour-3m --calibration "$work/embedded.calibration" \
  --policy trellis:3@k.rotation=aligned --context 524288
check 'Llama 4 Scout, 36 chunks of 8,192, 40:8 heads of 128' \
  --model "$configurations/llama-4-scout.json" --policy linear:3@outliers=1 --context 12288
check 'Mistral 7B, 32 windows of 4,096, decoded token by token' \
  --model "$configurations/mistral-7b.json" --policy float16 --chunk 16 --context 4608
check '8 layers, 8:8 heads of 128, eight sequences' \
  --layers 8 --kv-heads 8 --head-dim 128 --policy k=int8+v=rotated:4 --context 8192 --sequences 8
[ "$failures" -eq 0 ] || die "$failures of these differ by more than 3 %"
say "all within 3 %"
