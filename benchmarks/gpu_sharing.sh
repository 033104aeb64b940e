#!/usr/bin/env bash
# On a CUDA machine with the PanopticSports scene in $MOEGS_DATA: training steps of three experts side by
# side on one GPU, first as they are, then as clients of NVIDIA's MPS. One table for each.
set -uo pipefail
here="$(dirname "$0")"
export PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}"
three() { # NAME
  local method
  for method in stg ex4dgs ed3dgs; do
    python3 -W ignore "$here/training_step.py" --name "sharing_$1_$method" --warmup 400 \
      --steps "${STEPS:-1500}" --profiled 0 --results-dir "${OUT:-benchmarks/results}" --command \
      "moegs-$method --data $MOEGS_DATA/panoptic_basketball panoptic-data --frames ${FRAMES:-0 74}" &
  done
  wait
}
three plain
pipes="$(mktemp -d)"
export CUDA_MPS_PIPE_DIRECTORY="$pipes" CUDA_MPS_LOG_DIRECTORY="$pipes"
if ! nvidia-cuda-mps-control -d; then
  echo "Expected NVIDIA's MPS to start, but it did not; its half of the tables is missing." >&2
  exit 1
fi
trap 'echo quit | nvidia-cuda-mps-control' EXIT
three mps
