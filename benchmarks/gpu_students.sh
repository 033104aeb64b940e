#!/usr/bin/env bash
# On a CUDA machine with the PanopticSports scene in $MOEGS_DATA: three experts with colour correction at
# a fifth of the steps and their mixture, which then teaches students that correct colours too. Without
# the tint of single cameras, held-out views differ by far less from one training to the next.
set -uo pipefail
here="$(dirname "$0")"
export PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}" NAME=students RUNS="${RUNS:-outputs/benchmark}"
out="${OUT:-benchmarks/results}" colors="--pipeline.model.color-correction True"
families="moegs-ed3dgs moegs-ex4dgs moegs-stg"
METHODS="$families" ROUTER_BUDGET="${ROUTER_BUDGET:-0.2}" EXPERT_OPTIONS="all: $colors" \
  MIXTURES=moegs-ex4dgs,moegs-stg,moegs-ed3dgs "$here/gpu_basketball.sh"
python3 -W ignore "$here/distillation.py" --name basketball_students \
  --data "$MOEGS_DATA/panoptic_basketball" --parser panoptic-data \
  --parser-options="--frames ${FRAMES:-0 66}" --train-options="$colors" \
  --teacher "$RUNS/students/moegs-router/seed-0-ex4dgs-stg-ed3dgs" --methods $families \
  --budget "${BUDGET:-0.2}" --seeds ${SEEDS:-0 1} --at-once "${AT_ONCE:-6}" --output-dir "$RUNS" \
  --results-dir "$out" --pictures-dir "$out"
