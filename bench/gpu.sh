#!/usr/bin/env bash
# What only a GPU can show. Parts, all of them when none is named:
#   tests          the tests marked gpu
#   study DIR      the ten ResNet-18 jobs of the bare command, on the image folder DIR
# PYTHON chooses the interpreter, EPOCHS shortens the study.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-.venv/bin/python}

tests() { "$python" -m pytest -m gpu -rs; }

study() {
  local images=${1:?study needs an image folder: bench/gpu.sh study DIR}
  time "$python" -m train -m prune=usp,sp rate=0,0.2,0.4,0.6,0.8 trainer=gpu name=gpu-study \
    data=image_folder data.root="$images" epochs="${EPOCHS:-50}"
}

case ${1:-all} in
  tests) tests ;;
  study) study "${2-}" ;;
  all) tests && study "${2-}" ;;
  *) echo "bench/gpu.sh: no part called $1; there are tests and study" >&2; exit 2 ;;
esac
