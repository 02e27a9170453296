#!/usr/bin/env bash
# The API documentation of the public modules with its articles, as a DocC archive in .build-docs/NibbleKV.doccarchive. A link that leads nowhere
# is an error. The symbols come from the modules of a release build.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$root/scripts/common.sh"
cd "$root"

docc=$(command -v docc || true)
[ -n "$docc" ] || docc=$(dirname "$(readlink -f "$(command -v swift)")")/docc
[ -x "$docc" ] || die "there is no docc beside the swift compiler; it comes with the toolchains of swift.org"

output=.build-docs
graphs=$output/symbol-graphs
catalogue=$output/NibbleKV.docc
rm -rf "$output"
mkdir -p "$graphs" "$catalogue"

swift build -c release >"$output/build.log" 2>&1 || { tail -n 20 "$output/build.log" >&2; die "the build failed"; }
built=$(swift build -c release --show-bin-path)
target=$(swift -print-target-info | sed -nE 's/.*"unversionedTriple": "([^"]*)".*/\1/p')
[ "$(uname -s)" = Linux ] || target=$(swift -print-target-info | sed -nE 's/.*"triple": "([^"]*)".*/\1/p' | head -n 1)

# The C modules that the Swift ones import.
maps=()
for map in "$built"/C*.build/module.modulemap Sources/C*/module.modulemap .build/checkouts/*/Sources/*/include/module.modulemap; do
  [ -e "$map" ] && maps+=(-Xcc "-fmodule-map-file=$map")
done
for module in NibbleCodec NibblePolicy NibbleKV NibbleGenerate NibbleLlama NibbleEval; do
  swift symbolgraph-extract -module-name "$module" -target "$target" -I "$built/Modules" "${maps[@]}" \
    -minimum-access-level public -skip-synthesized-members -output-dir "$graphs"
  cp -R "Sources/$module/$module.docc/." "$catalogue/"
done

"$docc" convert "$catalogue" --additional-symbol-graph-dir "$graphs" --warnings-as-errors \
  --fallback-display-name NibbleKV --fallback-bundle-identifier NibbleKV \
  --output-dir "$output/NibbleKV.doccarchive"
say "documentation: $output/NibbleKV.doccarchive (docc preview, or any static web server, shows it)"
