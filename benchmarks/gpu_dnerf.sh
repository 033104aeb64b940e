#!/usr/bin/env bash
# On a CUDA machine with a D-NeRF scene in $MOEGS_DATA: all four experts and the mixture of one moving
# camera (MoE-GS, Table 10). E-D3DGS deforms and densifies from the start, keeps opacity and colour
# constant over time and fixes its clocks, as every image has a camera of its own. It is capped: free to
# grow until the end, it made 235 140 Gaussians and fitted single images (23.87 dB held-out).
set -uo pipefail
own="--pipeline.model.expert."
recipe="--pipeline.model.recipe."
ed3dgs="${own}deform-opacity False ${own}deform-sh False ${recipe}motion-steps 0 \
  ${recipe}densification.start 500 ${recipe}appearance-start 0 ${recipe}appearance-steps 0 \
  --optimizers.time-offsets.optimizer.lr 0 ${recipe}densification.max-gaussians 40000"
PYTHONPATH="$(dirname "$0")${PYTHONPATH:+:$PYTHONPATH}" python3 -W ignore benchmarks/mixture.py \
  --name "${NAME:-dnerf}" --data "$MOEGS_DATA/${SCENE:-dnerf_mutant}" --parser dnerf-data \
  --budget "${BUDGET:-1}" --router-budget "${ROUTER_BUDGET:-1}" \
  --methods moegs-4dgaussians-dnerf moegs-ed3dgs moegs-ex4dgs moegs-stg \
  --mixtures moegs-4dgaussians-dnerf,moegs-ed3dgs --expert-options "moegs-ed3dgs: $ed3dgs" \
  ${TRAIN_OPTIONS:+--train-options="$TRAIN_OPTIONS"} --output-dir "${RUNS:-outputs/benchmark}" \
  --results-dir "${OUT:-benchmarks/results}" --pictures-dir "${OUT:-outputs/benchmark}"
