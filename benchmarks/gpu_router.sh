#!/usr/bin/env bash
# On a CUDA machine with the PanopticSports scene in $MOEGS_DATA: how long and at what rates the router is
# trained, over two experts of full recipes with colour correction, on validation cameras that neither
# stage has seen.
set -uo pipefail
here="$(dirname "$0")"
export PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}"
runs="${RUNS:-outputs/validation}"
compare() { # NAME VARIANTS ...
  python3 -W ignore "$here/validation.py" --name "$1" --data "$MOEGS_DATA/panoptic_basketball" \
    --parser panoptic-data --parser-options="--frames ${FRAMES:-0 66}" --val-cameras 4 12 20 26 \
    --at-once "${AT_ONCE:-4}" --output-dir "$runs" --results-dir "${OUT:-benchmarks/results}" \
    --variants "${@:2}"
}
expert="--budget ${BUDGET:-1} --machine.seed 0 --pipeline.model.color-correction True"
compare validation_router_experts "ex4dgs: moegs-ex4dgs $expert" "stg: moegs-stg $expert"
experts="--machine.seed 0 --experts $runs/validation_router_experts/moegs-ex4dgs/ex4dgs
  $runs/validation_router_experts/moegs-stg/stg"
compare validation_router_training "published: moegs-router $experts" \
  "1500-steps: moegs-router --budget 0.3 $experts" "500-steps: moegs-router --budget 0.1 $experts" \
  "decay-within-the-steps: moegs-router --optimizers.router-weights.scheduler.max-steps 5000 $experts" \
  "rates-of-Technicolor: moegs-router-technicolor $experts" \
  "smooth-gates: moegs-router --pipeline.model.recipe.weight-gate-change 0.05 $experts"
