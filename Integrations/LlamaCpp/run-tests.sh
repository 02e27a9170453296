#!/usr/bin/env bash
# Makes a virtual environment from PyPI, builds llama.cpp for it, installs the packages, and runs the checks, the
# example and the tests.
#
#   run-tests.sh [FOLDER [WHEELS]]
#
# FOLDER is .venv beside this script unless it is given; one that exists is used again. WHEELS, FOLDER/wheels unless it
# is given, keeps the wheel of llama-cpp-python, whose build takes some minutes and a C++ compiler. The library of
# NibbleKV is built first, unless NIBBLEKV_LIBRARY names one that is built. PyTorch's own index has wheels without CUDA:
# PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/../../scripts/common.sh"
root=$(cd "$here/../.." && pwd)
folder=${1:-$here/.venv}
llama=llama-cpp-python==0.3.36

if [ -z "${NIBBLEKV_LIBRARY:-}" ]; then
  (cd "$root" && swift build -c release --product nibblekv)
fi
python3 -m venv "$folder"
folder=$(cd "$folder" && pwd)
wheels=${2:-$folder/wheels}
PATH=$folder/bin:$PATH
pip install --quiet torch==2.13.0 transformers==5.24.0 gguf==0.19.0 pytest==9.2.0 ruff==0.17.6 mypy==2.4.1
if ! compgen -G "$wheels/llama_cpp_python-0.3.36-*.whl" >/dev/null; then
  say "building $llama"
  # Less optimisation builds in half the time; the model of the tests is small.
  CMAKE_ARGS="-DLLAVA_BUILD=OFF -DLLAMA_OPENSSL=OFF -DGGML_OPENMP=OFF -DGGML_LLAMAFILE=OFF -DCMAKE_CXX_FLAGS_RELEASE='-O1 -DNDEBUG'" \
    pip wheel --quiet --no-deps --no-binary llama-cpp-python --wheel-dir "$wheels" "$llama"
fi
pip install --quiet --find-links "$wheels" --only-binary llama-cpp-python "$llama"
pip install --quiet --force-reinstall --no-deps "$here/../Python" "$here"

cd "$here"
ruff format --check --quiet || die "ruff format mends the layout"
ruff check --quiet
mypy --no-error-summary src
unset PYTHONPATH NIBBLEKV_LIBRARY
say "example"
python3 make_gguf.py "$root/Examples/Models/harbour-3m" "$folder/harbour-3m.gguf"
python3 examples/save_and_go_on.py "$folder/harbour-3m.gguf"
say "tests"
python3 -m pytest
