#!/usr/bin/env bash
# On a CUDA machine: parity of the kernels, then single pass against separate passes.
set -uo pipefail
export PYTHONPATH="$(dirname "$0")${PYTHONPATH:+:$PYTHONPATH}"
python3 -m pytest -q -m gpu tests
python3 benchmarks/single_pass.py --results-dir "${OUT:-benchmarks/results}"
