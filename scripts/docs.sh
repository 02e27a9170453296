#!/usr/bin/env bash
# The API documentation of the public modules, as a DocC archive in .build-docs/NibbleKV.doccarchive.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$root/scripts/common.sh"
cd "$root"

docc=$(command -v docc || true)
[ -n "$docc" ] || docc=$(dirname "$(readlink -f "$(command -v swift)")")/docc
[ -x "$docc" ] || die "there is no docc beside the swift compiler; it comes with the toolchains of swift.org"

output=.build-docs
graphs=$output/symbol-graphs
rm -rf "$output"
mkdir -p "$graphs"

log=$output/symbol-graphs.log
# The package's own test bundle is no module that can be extracted, so the command's status says nothing.
swift package dump-symbol-graph --minimum-access-level public --skip-synthesized-members \
  >"$log" 2>&1 || true
made=$(dirname "$(swift build --show-bin-path)")/symbolgraph
for module in NibbleCodec NibblePolicy NibbleKV NibbleGenerate NibbleLlama NibbleEval; do
  cp "$made/$module"*.symbols.json "$graphs/" || die "no symbols of $module; see $log"
done

catalogue=()
[ -d Sources/NibbleKV/NibbleKV.docc ] && catalogue=(Sources/NibbleKV/NibbleKV.docc)
"$docc" convert ${catalogue[@]+"${catalogue[@]}"} --additional-symbol-graph-dir "$graphs" \
  --fallback-display-name NibbleKV --fallback-bundle-identifier NibbleKV \
  --output-dir "$output/NibbleKV.doccarchive"
say "documentation: $output/NibbleKV.doccarchive (docc preview, or any static web server, shows it)"
