#!/usr/bin/env bash
# On a CUDA machine with the PanopticSports scene in $MOEGS_DATA: experts trained side by side, then
# the routers of the mixtures; table and pictures go to $OUT.
set -uo pipefail
export PYTHONPATH="$(dirname "$0")${PYTHONPATH:+:$PYTHONPATH}"
methods=(${METHODS:-moegs-stg moegs-4dgaussians})
mixtures=(${MIXTURES:-})
python3 -W ignore benchmarks/mixture.py --name "${NAME:-basketball}" \
  --data "$MOEGS_DATA/panoptic_basketball" --parser panoptic-data \
  --parser-options="--frames ${FRAMES:-0 66}" --budget "${BUDGET:-0.2}" \
  --methods "${methods[@]}" ${mixtures:+--mixtures "${mixtures[@]}"} \
  --train-options="${TRAIN_OPTIONS:-}" --router-options="${ROUTER_OPTIONS:-}" \
  ${EXPERT_OPTIONS:+--expert-options "$EXPERT_OPTIONS"} --router-budget "${ROUTER_BUDGET:-1}" \
  --seeds ${SEEDS:-0} --seeds-at-once "${SEEDS_AT_ONCE:-1}" ${JOINT:+--joint} \
  ${ONE_BY_ONE:+--one-by-one} \
  --output-dir "${RUNS:-outputs/benchmark}" \
  --results-dir "${OUT:-benchmarks/results}" --pictures-dir "${OUT:-outputs/benchmark}"
