#!/usr/bin/env bash
# On a CUDA machine with the PanopticSports scene in $MOEGS_DATA: what can be done to a mixture, at a
# fifth of the steps. Experts and mixtures first, then all at once, spread over the GPUs: pruning of
# both mixtures by every criterion, router variants and ablations with the fused set, students of three
# families, depth consistency. Every table is written row by row.
set -uo pipefail
here="$(dirname "$0")"
export PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}" NAME=method RUNS="${RUNS:-outputs/benchmark}"
out="${OUT:-benchmarks/results}" views="${MAX_VIEWS:-200}" router_budget="${ROUTER_BUDGET:-0.2}"
METHODS="moegs-ex4dgs moegs-stg moegs-ed3dgs" ROUTER_BUDGET="$router_budget" \
  MIXTURES="moegs-ex4dgs,moegs-stg moegs-ex4dgs,moegs-stg,moegs-ed3dgs" "$here/gpu_basketball.sh"
scene=(--data "$MOEGS_DATA/panoptic_basketball" --parser panoptic-data
  --parser-options="--frames ${FRAMES:-0 66}" --train-options="${TRAIN_OPTIONS:-}" --results-dir "$out"
  --pictures-dir "$out")
two="$RUNS/method/moegs-router/seed-0-ex4dgs-stg" three="$two-ed3dgs"
devices=($(python3 -W ignore -c 'from moegs_ns.launch.jobs import visible_devices
print(*visible_devices() or [0])'))
gpus=${#devices[@]}
on() { # PLACE SCRIPT OPTIONS...
  CUDA_VISIBLE_DEVICES=${devices[$1 % gpus]} python3 -W ignore "$here/$2" "${@:3}" || echo "$2 failed"
}
prune() { # PLACE NAME RUN
  on "$1" pruning.py --name "basketball_pruning_$2" --run "$3" --max-views "$views" --results-dir "$out" \
    --pictures-dir "$out"
}
(prune 0 two "$two"; on 0 depth_consistency.py --runs "$three" --fuse-views "$views" \
  --name basketball_depth_consistency --results-dir "$out") &
prune 1 three "$three" &
python3 -W ignore "$here/router_variants.py" --name basketball_router_variants "${scene[@]}" \
  --experts "$RUNS"/method/moegs-{ex4dgs,stg,ed3dgs}/seed-0 --budget "$router_budget" \
  --seeds ${SEEDS:-0} --output-dir "$RUNS" &
python3 -W ignore "$here/distillation.py" --name basketball_distillation "${scene[@]}" \
  --teacher "$three" --methods moegs-stg moegs-ex4dgs moegs-ed3dgs --budget "${BUDGET:-0.2}" \
  --seeds ${SEEDS:-0} --at-once "$((2 * gpus))" --output-dir "$RUNS" &
wait
