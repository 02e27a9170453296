#!/usr/bin/env bash
# Checks the types of the Swift package, sources and tests, against the real modules of mlx-swift and mlx-swift-lm.
#
#   check-interface.sh [FOLDER]     FOLDER, .build/interface beside this script unless it is given, takes clones and modules;
#                                   clones that are there are used as they are
#
# On Linux MLX itself is not built: its modules are made of its declarations alone, without the bodies of functions. So this tells whether the stubs
# have the right interface, and nothing about what MLX does. Run `swift build --build-tests` before: its modules of NibbleKV are used.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/../../scripts/common.sh"
folder=${1:-$here/.build/interface}
mkdir -p "$folder/modules"
folder=$(cd "$folder" && pwd)
build=$here/.build/debug
[ -e "$build/Modules/NibbleMLXTests.swiftmodule" ] || die "run swift build --build-tests in $here first"

lm_revision=14414441fa44f45eee35a61e9fa0bab577cf9734
mlx_revision=09051ed1986b6f2c69b6fda4e32ca42dd7dcdec3
c_revision=0726ca922fc902c4c61ef9c27d94132be418e945

# clone FOLDER REVISION URL: a checkout of one revision, unless there is one.
clone() {
  [ -e "$folder/$1/.git" ] && return
  git init --quiet "$folder/$1"
  git -C "$folder/$1" fetch --quiet --depth 1 "$3" "$2"
  git -C "$folder/$1" checkout --quiet FETCH_HEAD
}

say "sources"
clone mlx-swift-lm "$lm_revision" https://github.com/ml-explore/mlx-swift-lm
clone mlx-swift "$mlx_revision" https://github.com/ml-explore/mlx-swift
clone mlx-swift/Source/Cmlx/mlx-c "$c_revision" https://github.com/ml-explore/mlx-c
clone swift-numerics 1.1.1 https://github.com/apple/swift-numerics

# module NAME FLAG... FILE...: makes a module of declarations.
module() {
  local name=$1
  shift
  say "module $name"
  swiftc -emit-module -module-name "$name" -emit-module-path "$folder/modules/$name.swiftmodule" -parse-as-library \
    -suppress-warnings -I "$folder/modules" "${c_modules[@]}" "$@"
}

c_modules=(-I "$folder/swift-numerics/Sources/_NumericsShims/include" -I "$folder/mlx-swift/Source/Cmlx/include")
declarations=(-swift-version 5 -Xfrontend -experimental-skip-all-function-bodies)
for name in RealModule ComplexModule Numerics; do
  module "$name" "${declarations[@]}" "$folder/swift-numerics/Sources/$name"/*.swift
done
files=()
for file in "$folder"/mlx-swift/Source/MLX/*.swift; do
  case $file in */GPU+Metal.swift | */MLXArray+Metal.swift) ;; *) files+=("$file") ;; esac
done
module MLX "${declarations[@]}" "${files[@]}"
for library in mlx-swift/Source/MLXNN mlx-swift/Source/MLXOptimizers mlx-swift-lm/Libraries/MLXLMCommon; do
  files=()
  while IFS= read -r -d '' file; do files+=("$file"); done < <(find "$folder/$library" -name '*.swift' -print0)
  module "${library##*/}" -package-name mlx "${declarations[@]}" "${files[@]}"
done

# What the stubs' build made of NibbleKV, and of nothing else.
for name in NibbleKV NibbleCodec NibblePolicy NibbleFiles Crypto CryptoBoringWrapper CoreMetrics Logging Yams; do
  cp "$build/Modules/$name.swiftmodule" "$folder/modules"
done
for map in "$build/CNibble.build" "$here/../../Sources/CLZ4" "$here/../../Sources/CXXHash"; do
  c_modules+=(-Xcc "-fmodule-map-file=$map/module.modulemap")
done
while IFS= read -r map; do
  c_modules+=(-I "$(dirname "$map")")
done < <(find "$here/.build/checkouts" -path '*/Sources/*/include/module.modulemap')

ours=(-swift-version 6 -enable-upcoming-feature ExistentialAny -enable-upcoming-feature MemberImportVisibility
  -enable-upcoming-feature InternalImportsByDefault)
module NibbleMLX "${ours[@]}" "$here"/Sources/NibbleMLX/*.swift
toolchain=$(dirname "$(dirname "$(command -v swiftc)")")
plugins=(-plugin-path "$toolchain/lib/swift/host/plugins" -plugin-path "$toolchain/lib/swift/host/plugins/testing")
module NibbleMLXTests "${ours[@]}" "${plugins[@]}" "$here"/Tests/NibbleMLXTests/*.swift
say "the package fits the interface of mlx-swift-lm ${lm_revision:0:8}"
