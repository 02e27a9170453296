#!/usr/bin/env bash
# A prompt cache of mlx-lm, compressed, restored and continued; needs the packages mlx-lm and nibblekv-mlx.
#
#   example.sh MODEL [POLICY]
set -euo pipefail
model=$1
policy=${2:-balanced}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

prompt=$(
  for name in Ada Mabel Tom Nora Finn Ivy Otto Rose; do
    for place in harbour river garden mill; do
      printf 'In the morning %s walked to the %s with a small basket. ' "$name" "$place"
    done
  done
)
python3 -m mlx_lm cache_prompt --model "$model" --prompt "$prompt" --prompt-cache-file "$folder/prompt.safetensors"

python3 -m nibblekv_mlx compress "$folder/prompt.safetensors" --policy "$policy" --out "$folder/prompt.session"
python3 -m nibblekv_mlx restore "$folder/prompt.session" --out "$folder/restored.safetensors" >"$folder/restored"

for name in prompt restored; do
  printf '\nfrom %s.safetensors:\n' "$name"
  python3 -m mlx_lm generate --model "$model" --prompt-cache-file "$folder/$name.safetensors" \
    --prompt "In the evening Ada" --max-tokens 40 --temp 0 --verbose False
done
