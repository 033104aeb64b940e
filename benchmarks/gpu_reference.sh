#!/usr/bin/env bash
# On a CUDA machine with a D-NeRF scene and the PanopticSports scene in $MOEGS_DATA: 4DGaussians at its
# full recipe where the reference implementation was measured too, one training at a time.
set -uo pipefail
out="${OUT:-benchmarks/results}" runs="${RUNS:-outputs/benchmark}"
train() { # NAME METHOD OPTIONS ...
  python3 -W ignore -m nerfstudio.scripts.train "$2" --output-dir "$runs" --experiment-name "$1" \
    --timestamp seed-0 --machine.seed 0 --vis tensorboard --steps-per-eval-image 0 "${@:3}"
  python3 -W ignore -m moegs_ns.scripts.main report "$runs/$1/$2/seed-0" --output-path "$out/$1.json"
}
train dnerf_mutant moegs-4dgaussians-dnerf --data "$MOEGS_DATA/dnerf_mutant" dnerf-data
train basketball_peer moegs-4dgaussians --data "$MOEGS_DATA/panoptic_basketball" \
  panoptic-data --frames 0 74 --points-file init_t0_22k.npz --min-points 10
