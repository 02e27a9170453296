#!/usr/bin/env bash
# Installs the dynamic library, its header and its pkg-config file; `make install` and `make uninstall` call this.
#
#   PREFIX=/usr/local DESTDIR= install.sh [--uninstall]
#
# PREFIX is where programs find it, DESTDIR a folder to put before that while a package is made. The library has the Swift
# runtime inside: whoever uses it needs no Swift, and a host's own Swift stays apart. Directories stay when it is uninstalled.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
source "$root/scripts/common.sh"
cd "$root"
source Integrations/C/library.sh

prefix=${PREFIX:-/usr/local}
case $prefix in
  /*) ;;
  *) die "PREFIX is $prefix; expected an absolute path" ;;
esac
libraries=${DESTDIR:-}$prefix/lib
if [ "$is_darwin" = yes ]; then
  file=libnibblekv.$generation.$abi.0.dylib soname=libnibblekv.$generation.dylib
  older="libnibblekv.$generation.*.0.dylib"
else
  file=libnibblekv.so.$generation.$abi.0 soname=libnibblekv.so.$generation
  older="libnibblekv.so.$generation.*.0"
fi
headers=${DESTDIR:-}$prefix/include
packages=$libraries/pkgconfig
rights=

case ${1:-} in
  "") ;;
  --uninstall)
    if [ -d "$libraries" ] && ! [ -w "$libraries" ]; then rights=as_root; fi
    # Older versions of the interface too: their links are gone.
    # shellcheck disable=SC2086
    $rights rm -f "$libraries"/$older "$libraries/$soname" "$libraries/$library_name" "$headers/nibblekv.h" "$packages/nibblekv.pc"
    exit 0
    ;;
  *) die "unknown argument $1; usage: install.sh [--uninstall]" ;;
esac

# link_with_runtime FOLDER OUTPUT: links the objects that the package manager made once more, with the Swift runtime inside. Its
# own --static-swift-stdlib would compile everything anew. ICU is what Foundation needs and does not name.
link_with_runtime() {
  local objects=$1/nibblekv.product/Objects.LinkFileList
  [ -f "$objects" ] || die "$objects is missing: this version of the Swift package manager keeps its list elsewhere"
  swiftc -emit-library -static-stdlib -use-ld=lld -o "$2" "@$objects" \
    -lCoreFoundation -l_FoundationCShims -l_FoundationCollections -l_FoundationICU \
    -Xlinker "--version-script=$exports" -Xlinker "-soname=$soname" -Xlinker -z -Xlinker defs -Xlinker --gc-sections -Xlinker -s
}

# Everything is made before anything is written to the prefix, and only that asks for more rights, where they are needed.
built=$(build_library)
staged=$(mktemp -d)
trap 'rm -rf "$staged"' EXIT
if [ "$is_darwin" = yes ]; then
  # There the runtime is the system's.
  cp "$built/$library_name" "$staged/$file"
  install_name_tool -id "$prefix/lib/$soname" "$staged/$file"
else
  link_with_runtime "$built" "$staged/$file"
fi
version=$(sed -nE 's/.*static let text = "(.*)".*/\1/p' Sources/NibbleKV/NibbleKVVersion.swift)
cat >"$staged/nibblekv.pc" <<PC
prefix=$prefix
libdir=\${prefix}/lib
includedir=\${prefix}/include

Name: nibblekv
Description: A paged KV cache for transformer inference that stays compressed
Version: $version
Libs: -L\${libdir} -lnibblekv
Cflags: -I\${includedir}
PC

if ! install -d "$libraries" "$headers" "$packages" 2>/dev/null || ! [ -w "$libraries" ] || ! [ -w "$headers" ] || ! [ -w "$packages" ]; then
  rights=as_root
fi
$rights install -d "$libraries" "$headers" "$packages"
$rights install -m 755 "$staged/$file" "$libraries/$file"
$rights ln -sf "$file" "$libraries/$soname"
$rights ln -sf "$soname" "$libraries/$library_name"
$rights install -m 644 "$header" "$headers/nibblekv.h"
$rights install -m 644 "$staged/nibblekv.pc" "$packages/nibblekv.pc"
say "installed $libraries/$file"
