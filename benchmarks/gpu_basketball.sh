#!/usr/bin/env bash
# On a CUDA machine with the PanopticSports scene in $MOEGS_DATA: two experts at a fifth of their
# recipes, trained side by side, then the router; table and pictures go to $OUT.
set -uo pipefail
export PYTHONPATH="$(dirname "$0")${PYTHONPATH:+:$PYTHONPATH}"
python3 -W ignore benchmarks/mixture.py --name "${NAME:-basketball}" \
  --data "$MOEGS_DATA/panoptic_basketball" --parser panoptic-data \
  --parser-options="--frames ${FRAMES:-0 66}" --budget "${BUDGET:-0.2}" \
  --train-options="${TRAIN_OPTIONS:-}" --router-options="${ROUTER_OPTIONS:-}" \
  ${EXPERT_OPTIONS:+--expert-options "$EXPERT_OPTIONS"} --router-budget "${ROUTER_BUDGET:-1}" --seeds ${SEEDS:-0} \
  --output-dir "${RUNS:-outputs/benchmark}" --results-dir "${OUT:-benchmarks/results}" \
  --pictures-dir "${OUT:-outputs/benchmark}"
