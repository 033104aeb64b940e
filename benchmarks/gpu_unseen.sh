#!/usr/bin/env bash
# On a CUDA machine with the PanopticSports scene in $MOEGS_DATA: does a router choose better if it is
# shown cameras that its experts were not? Two experts are trained with all training cameras but the
# validation cameras, and once more without a few others; both routers see these others.
set -uo pipefail
export PYTHONPATH="$(dirname "$0")${PYTHONPATH:+:$PYTHONPATH}"
runs="${RUNS:-outputs/validation}" budget="${BUDGET:-0.2}" unseen="${UNSEEN:-2 9 18 24}"
scene=(--data "$MOEGS_DATA/panoptic_basketball" --parser panoptic-data
  --parser-options="--frames ${FRAMES:-0 66}" --output-dir "$runs"
  --results-dir "${OUT:-benchmarks/results}")
compare() { # NAME VALIDATION-CAMERAS VARIANTS...
  python3 -W ignore benchmarks/validation.py --name "$1" --val-cameras $2 "${scene[@]}" \
    --at-once "${AT_ONCE:-4}" --variants "${@:3}"
}
experts=("stg: moegs-stg --budget $budget" "ex4dgs: moegs-ex4dgs --budget $budget")
compare validation_unseen_experts "4 12 20 26" "${experts[@]}" &
compare validation_unseen_fewer "4 12 20 26 $unseen" "${experts[@]}" &
wait
over() { # NAME OF THE EXPERTS' COMPARISON
  echo "--experts $runs/$1/moegs-stg/stg $runs/$1/moegs-ex4dgs/ex4dgs"
}
router="moegs-router --budget ${ROUTER_BUDGET:-0.2}"
compare validation_unseen "4 12 20 26" "all-cameras: $router $(over validation_unseen_experts)" \
  "unseen-cameras: $router $(over validation_unseen_fewer)"
