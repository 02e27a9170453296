#!/usr/bin/env bash
# Makes a virtual environment with the libraries that compare.py measures beside NibbleKV: PyTorch and MLX as their
# wheels, ggml (llama.cpp) built for this machine from the source package of llama-cpp-python.
#
#   setup.sh [FOLDER]     FOLDER is .venv beside this script unless it is given
#
# Needs Python 3.10 or newer and a C++ compiler; cmake and ninja come with pip. PyTorch's own index has wheels without CUDA,
# several gigabytes smaller: PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu. A library that does not install is
# left out of the comparison.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/../../scripts/common.sh"
folder=${1:-$here/.venv}
llama=llama-cpp-python==0.3.36

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$folder"
folder=$(cd "$folder" && pwd)
PATH=$folder/bin:$PATH
pip install --quiet numpy cmake ninja
pip install --quiet torch==2.13.0 || say "PyTorch was not installed; compare.py goes on without"
pip install --quiet 'mlx[cpu]==0.32.4' || say "MLX was not installed; compare.py goes on without"

build_ggml() {
  pip download --quiet --no-deps --no-binary llama-cpp-python --dest "$work" "$llama" &&
    tar --extract --gzip --file "$work"/llama_cpp_python-*.tar.gz --directory "$work" --strip-components 1 &&
    cmake -G Ninja -S "$here" -B "$work/build" -DGGML_SOURCE="$work/vendor/llama.cpp/ggml" \
      -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=ON -DGGML_NATIVE=ON \
      -DCMAKE_LIBRARY_OUTPUT_DIRECTORY="$folder/ggml/lib" &&
    nice cmake --build "$work/build" --parallel 2
}
build_ggml >"$work/log" 2>&1 || {
  tail -n 20 "$work/log" >&2
  say "ggml was not built; compare.py goes on without"
}
say "ready: $folder/bin/python $here/compare.py"
