#!/usr/bin/env bash
# On a CUDA machine with both scenes in $MOEGS_DATA: every table that needs one. Name some stages to make
# only their tables; those joined by + run at once. Logs go to $OUT, beside the tables.
#
#   benchmarks/gpu_tables.sh reference method+smoke
set -uo pipefail
here="$(dirname "$0")"
export OUT="${OUT:-benchmarks/results}"
mkdir -p "$OUT"
stage_reference() { "$here/gpu_reference.sh"; } # its times count: nothing beside it
stage_smoke() { "$here/gpu_smoke.sh"; }
stage_method() { "$here/gpu_method.sh"; }
stage_dnerf() { "$here/gpu_dnerf.sh"; }
stage_budgets() { "$here/gpu_budgets.sh"; }
stage_corrected() {
  FRAMES="0 149" BUDGET=1 NAME=basketball_corrected \
    METHODS="${METHODS:-moegs-ex4dgs moegs-4dgaussians moegs-stg}" \
    MIXTURES="${MIXTURES:-moegs-stg,moegs-4dgaussians moegs-ex4dgs,moegs-stg}" \
    EXPERT_OPTIONS="all: --pipeline.model.color-correction True" "$here/gpu_basketball.sh"
}
stage_tf32() { "$here/gpu_tf32.sh"; }
# What another machine needs for `compact_run.py compare`; once the experts of `corrected` are there.
stage_compact() {
  local runs="${RUNS:-outputs/benchmark}"
  for method in moegs-stg moegs-4dgaussians; do
    PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}" python3 -W ignore "$here/compact_run.py" write \
      "$runs/basketball_corrected/$method/seed-0" --folder "$OUT/$method-compact"
  done
}
stages="reference smoke method dnerf corrected compact budgets tf32"
[ $# -gt 0 ] || set -- $stages
for names in "$@"; do
  for name in ${names//+/ }; do
    if ! declare -F "stage_$name" > /dev/null; then
      echo "Expected stages out of $stages, got $name." >&2
      exit 2
    fi
  done
done
for names in "$@"; do
  for name in ${names//+/ }; do
    (
      echo "$(date +%T) $name begins"
      "stage_$name" > "$OUT/$name.log" 2>&1
      echo "$(date +%T) $name ends with $?"
    ) &
  done
  wait
done
