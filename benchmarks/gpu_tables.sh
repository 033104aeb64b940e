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
stage_students() { "$here/gpu_students.sh"; }
stage_dnerf() { "$here/gpu_dnerf.sh"; }
stage_budgets() { "$here/gpu_budgets.sh"; }
# All experts at their full recipes on all frames, and the published mixtures; the longest first, so
# that two GPUs end together.
whole_clip() { # NAME OPTIONS
  local mixtures="moegs-ex4dgs,moegs-stg moegs-stg,moegs-4dgaussians \
moegs-ex4dgs,moegs-stg,moegs-ed3dgs moegs-ex4dgs,moegs-stg,moegs-ed3dgs,moegs-4dgaussians"
  [ -z "${METHODS:-}" ] || mixtures="" # of those alone that are named
  FRAMES="0 149" BUDGET=1 NAME="$1" EXPERT_OPTIONS="${2:-}" MIXTURES="${MIXTURES:-$mixtures}" \
    METHODS="${METHODS:-moegs-ed3dgs moegs-ex4dgs moegs-stg moegs-4dgaussians}" \
    "$here/gpu_basketball.sh"
}
stage_full() { whole_clip basketball_full; }
stage_corrected() {
  whole_clip basketball_corrected "all: --pipeline.model.color-correction True"
}
# One on each GPU at a time, so that their times count; several GPUs share the host, which delays them.
stage_alone() {
  ONE_BY_ONE=1 whole_clip "${NAME:-basketball_alone}" "${EXPERT_OPTIONS:-}"
}
stage_router() { "$here/gpu_router.sh"; }
stage_sharing() { "$here/gpu_sharing.sh"; } # by itself: its times count
stage_tf32() { "$here/gpu_tf32.sh"; }
# What another machine needs for `compact_run.py compare`; once the experts of `corrected` are there.
stage_compact() {
  local runs="${RUNS:-outputs/benchmark}"
  for method in moegs-stg moegs-4dgaussians; do
    PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}" python3 -W ignore "$here/compact_run.py" write \
      "$runs/basketball_corrected/$method/seed-0" --folder "$OUT/$method-compact"
  done
}
stages="reference smoke method students dnerf full corrected compact alone budgets router tf32 sharing"
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
