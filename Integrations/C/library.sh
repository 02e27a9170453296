# Sourced by the scripts beside it, after scripts/common.sh and in the repository's root. Bash only.

header=Integrations/C/include/nibblekv.h
exports=Integrations/C/exports.map
# The interface's version. It grows by additions only, so programs name the library by its generation, which rises
# if ever something is taken away.
generation=1
abi=$(sed -nE 's/^#define NIBBLE_ABI_VERSION ([0-9]+)$/\1/p' "$header")
case $(uname -s) in
  Darwin) is_darwin=yes library_name=libnibblekv.dylib ;;
  *) is_darwin=no library_name=libnibblekv.so ;;
esac

# build_library: builds the dynamic library and prints its folder.
# On Linux it shows the functions of nibblekv.h only; everything else inside, Swift or C, stays out of the host's way.
build_library() {
  local options=(-c release --product nibblekv) folder
  if [ "$is_darwin" = no ]; then
    options+=(-Xlinker "--version-script=$PWD/$exports")
  fi
  folder=$(swift build "${options[@]}" --show-bin-path) || return 1
  # The package manager does not look at the list of names when it decides what is out of date.
  if [ "$exports" -nt "$folder/$library_name" ]; then rm -f "$folder/$library_name"; fi
  swift build "${options[@]}" >&2 || return 1
  echo "$folder"
}

# The names of functions, one a line and sorted: those that the header declares, that exports.map lists, that a library shows.
# A small letter in the second column of nm is a name that no other file can see.
header_functions() { "${CC:-cc}" -E -P "$header" | grep -oE '\bnibble_[a-z0-9_]+ *\(' | tr -d ' (' | sort -u; }
listed_functions() { sed -nE 's/^ *(nibble_[a-z0-9_]+);$/\1/p' "$exports" | sort -u; }
shown_functions() { nm -D --defined-only "$1" | awk '$2 ~ /[A-Z]/ { print $3 }' | sort -u; }

# check_functions LIBRARY: fails if the three lists differ.
check_functions() {
  local declared
  declared=$(header_functions)
  [ -n "$declared" ] || die "no function is found in $header"
  diff <(printf '%s\n' "$declared") <(listed_functions) ||
    die "$header (<) and $exports (>) have different functions"
  diff <(printf '%s\n' "$declared") <(shown_functions "$1") ||
    die "$header (<) and $1 (>) have different functions"
}

# compile_llama FOLDER PROGRAM [OPTION...]: compiles the Llama example against the library in a folder.
compile_llama() {
  local folder=$1 program=$2
  shift 2
  # shellcheck disable=SC2046
  "${CC:-cc}" -std=c11 -O2 -ffp-contract=off -Wall -Wextra -Wpedantic -Werror "$@" -I Integrations/C/include \
    Integrations/C/llama/*.c $(pkg-config --cflags --libs openblas) -L "$folder" -lnibblekv -lm \
    -Wl,-rpath,"$folder" -o "$program"
}

llama_prompt() { tr -d '\n' <Integrations/C/llama/prompt.ids; }
