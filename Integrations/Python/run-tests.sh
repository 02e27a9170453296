#!/usr/bin/env bash
# Makes a virtual environment from PyPI, installs the package with the library in it, and runs its checks and tests.
#
#   run-tests.sh [FOLDER]     FOLDER is .venv beside this script unless it is given; one that exists is used again
#
# PyTorch's own index has wheels without CUDA, several gigabytes smaller:
# PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/../../scripts/common.sh"
root=$here/../..
folder=${1:-$here/.venv}

# The tests compare figures with those of the command line.
for product in nibblekv nibble; do
  (cd "$root" && swift build -c release --product "$product")
done

python3 -m venv "$folder"
folder=$(cd "$folder" && pwd)
PATH=$folder/bin:$PATH
pip install --quiet torch==2.13.0 transformers==5.24.0 optimum-quanto==0.2.7 \
  pytest==9.2.0 ruff==0.17.6 mypy==2.4.1
pip install --quiet --force-reinstall --no-deps "$here"

cd "$here"
ruff format --check --quiet || die "ruff format mends the layout"
ruff check --quiet
mypy --no-error-summary src
# Without src on the path: the tests are of the package as it was installed, and of its own library.
env -u PYTHONPATH -u NIBBLEKV_LIBRARY python3 -m pytest
