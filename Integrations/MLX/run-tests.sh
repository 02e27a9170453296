#!/usr/bin/env bash
# Makes a virtual environment from PyPI, checks and tests the converter of prompt caches in it with two versions of
# mlx-lm, and runs the commands of the README; then builds and tests the Swift package, on Linux against stubs of MLX.
#
#   run-tests.sh [FOLDER]     FOLDER is .venv beside this script unless it is given; one that exists is used again
#
# Without --python or --swift before it, both are tested. NIBBLEKV_LIBRARY names a library that is built already.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/../../scripts/common.sh"
root=$(cd "$here/../.." && pwd)
parts=(python swift)
case ${1:-} in
  --python | --swift)
    parts=("${1#--}")
    shift
    ;;
esac
folder=${1:-$here/.venv}

check_python() {
  if [ -z "${NIBBLEKV_LIBRARY:-}" ]; then
    (cd "$root" && swift build -c release --product nibblekv)
  fi
  python3 -m venv "$folder"
  folder=$(cd "$folder" && pwd)
  local older=$folder/mlx-lm-0.31.3
  PATH=$folder/bin:$PATH
  local mlx=mlx==0.32.4
  if [ "$(uname -s)" = Linux ]; then
    mlx=mlx[cpu]==0.32.4
  fi
  pip install --quiet "$mlx" mlx-lm==0.32.2 pytest==9.2.0 ruff==0.17.6 mypy==2.4.1
  pip install --quiet --force-reinstall --no-deps "$root/Integrations/Python" "$here/python"
  pip install --quiet --upgrade --no-deps --target "$older" mlx-lm==0.31.3

  cd "$here/python"
  ruff format --check --quiet || die "ruff format mends the layout"
  ruff check --quiet
  mypy --no-error-summary src
  say "the example"
  env -u PYTHONPATH -u NIBBLEKV_LIBRARY "$here/python/example.sh" "$root/Examples/Models/harbour-3m"
  # Without src on the path: the tests are of the package as it was installed, and of its own library.
  say "mlx-lm 0.32.2"
  env -u PYTHONPATH -u NIBBLEKV_LIBRARY python3 -m pytest
  say "mlx-lm 0.31.3"
  env -u NIBBLEKV_LIBRARY PYTHONPATH="$older" python3 -m pytest
}

check_swift() {
  (cd "$here" && swift test --disable-xctest)
}

for part in "${parts[@]}"; do
  "check_$part"
done
