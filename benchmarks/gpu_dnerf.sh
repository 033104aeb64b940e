#!/usr/bin/env bash
# On a CUDA machine with a D-NeRF scene in $MOEGS_DATA: all four experts and the mixture of one moving
# camera (MoE-GS, Table 10).
set -uo pipefail
PYTHONPATH="$(dirname "$0")${PYTHONPATH:+:$PYTHONPATH}" python3 -W ignore benchmarks/mixture.py \
  --name "${NAME:-dnerf}" --data "$MOEGS_DATA/${SCENE:-dnerf_mutant}" --parser dnerf-data \
  --budget "${BUDGET:-1}" --router-budget "${ROUTER_BUDGET:-1}" \
  --methods moegs-4dgaussians-dnerf moegs-ed3dgs-dnerf moegs-ex4dgs moegs-stg \
  --mixtures moegs-4dgaussians-dnerf,moegs-ed3dgs-dnerf \
  ${TRAIN_OPTIONS:+--train-options="$TRAIN_OPTIONS"} --output-dir "${RUNS:-outputs/benchmark}" \
  --results-dir "${OUT:-benchmarks/results}" --pictures-dir "${OUT:-outputs/benchmark}"
