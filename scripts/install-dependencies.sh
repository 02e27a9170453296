#!/usr/bin/env bash
# Installs the system libraries that the package links: liblz4, libxxhash and, on Linux, OpenBLAS with pkg-config.
# Does nothing when they are there. `--developer` adds what the sources are checked with: clang-format, valgrind, numpy for the second reader, jsonschema and
# PyYAML for the schema of policies, Chromium to open reports with and, where the machine is no 64-bit Arm, an emulator of one with the libc to build for it.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/common.sh"

developer=no
for argument in "$@"; do
  case $argument in
    --developer) developer=yes ;;
    *) die "unknown argument $argument; usage: install-dependencies.sh [--developer]" ;;
  esac
done

require_swift() {
  command -v swift >/dev/null 2>&1 ||
    die "there is no swift on the path; install Swift 6.3 or newer from https://swift.org/install"
  local version
  version=$(swift --version 2>/dev/null | sed -nE 's/.*Swift version ([0-9]+)\.([0-9]+).*/\1 \2/p' | head -n 1)
  # shellcheck disable=SC2086
  set -- $version
  [ $# -eq 2 ] || die "could not read the version of swift; Swift 6.3 or newer is needed"
  if [ "$1" -lt 6 ] || { [ "$1" -eq 6 ] && [ "$2" -lt 3 ]; }; then
    die "Swift $1.$2 is too old; install Swift 6.3 or newer from https://swift.org/install"
  fi
}

install_with_apt() {
  local missing=()
  command -v pkg-config >/dev/null 2>&1 || missing+=(pkg-config)
  if ! command -v pkg-config >/dev/null 2>&1 || ! pkg-config --exists liblz4; then
    missing+=(liblz4-dev)
  fi
  if ! command -v pkg-config >/dev/null 2>&1 || ! pkg-config --exists libxxhash; then
    missing+=(libxxhash-dev)
  fi
  if ! command -v pkg-config >/dev/null 2>&1 || ! pkg-config --exists openblas; then
    missing+=(libopenblas-dev)
  fi
  if [ "$developer" = yes ] && ! command -v clang-format >/dev/null 2>&1; then
    missing+=(clang-format)
  fi
  if [ "$developer" = yes ] && ! command -v valgrind >/dev/null 2>&1; then
    missing+=(valgrind libc6-dbg)
  fi
  if [ "$developer" = yes ] && ! python3 -c 'import numpy' >/dev/null 2>&1; then
    missing+=(python3-numpy)
  fi
  # Virtual environments, and what llama.cpp is built with for them.
  if [ "$developer" = yes ] && ! python3 -c 'import ensurepip' >/dev/null 2>&1; then
    missing+=(python3-venv)
  fi
  if [ "$developer" = yes ] && ! command -v c++ >/dev/null 2>&1; then
    missing+=(g++)
  fi
  if [ "$developer" = yes ] && ! python3 -c 'import jsonschema; jsonschema.Draft202012Validator' >/dev/null 2>&1; then
    missing+=(python3-jsonschema)
  fi
  if [ "$developer" = yes ] && ! python3 -c 'import yaml' >/dev/null 2>&1; then
    missing+=(python3-yaml)
  fi
  # Ubuntu has no package of it; there, tests that need a browser are skipped.
  if [ "$developer" = yes ] && grep -qs '^ID=debian' /etc/os-release; then
    command -v chromium >/dev/null 2>&1 || missing+=(chromium)
  fi
  if [ "$developer" = yes ] && [ "$(uname -m)" != aarch64 ]; then
    command -v qemu-aarch64-static >/dev/null 2>&1 || missing+=(qemu-user-static)
    command -v aarch64-linux-gnu-gcc >/dev/null 2>&1 || missing+=(gcc-aarch64-linux-gnu)
    [ -e /usr/aarch64-linux-gnu/lib/libc.a ] || missing+=(libc6-dev-arm64-cross)
  fi
  [ ${#missing[@]} -gt 0 ] || return 0
  say "installing with apt: ${missing[*]}"
  local install=(env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends)
  # A fresh machine has no package lists yet, an old one may have lists that are out of date.
  as_root "${install[@]}" "${missing[@]}" || {
    as_root apt-get update -q
    as_root "${install[@]}" "${missing[@]}"
  }
}

install_with_brew() {
  command -v brew >/dev/null 2>&1 || die "Homebrew is needed to install lz4 and xxhash: https://brew.sh"
  local library
  for library in lz4 xxhash; do
    brew list --versions "$library" >/dev/null || brew install "$library"
  done
  if [ "$developer" = yes ] && ! command -v clang-format >/dev/null 2>&1; then
    brew install clang-format
  fi
}

explain_by_hand() {
  command -v pkg-config >/dev/null 2>&1 && pkg-config --exists liblz4 libxxhash openblas && return 0
  die "only apt (Debian, Ubuntu) and Homebrew (macOS) are known here; install the development files of
lz4, xxHash and OpenBLAS and the pkg-config tool with your system's package manager, then run this again"
}

require_swift
case $(uname -s) in
  Darwin) install_with_brew ;;
  Linux) if command -v apt-get >/dev/null 2>&1; then install_with_apt; else explain_by_hand; fi ;;
  *) explain_by_hand ;;
esac
