#!/usr/bin/env bash
# On a CUDA machine with the PanopticSports scene in $MOEGS_DATA: 4DGaussians with and without TF32 on
# validation cameras, several seeds side by side. Their times are no figures.
set -uo pipefail
variants=()
for seed in ${SEEDS:-0 1 2}; do
  for tf32 in True False; do
    variants+=("tf32-$tf32-seed-$seed: moegs-4dgaussians --budget ${BUDGET:-0.5} --machine.seed $seed
      --pipeline.model.expert.tf32 $tf32")
  done
done
PYTHONPATH="$(dirname "$0")${PYTHONPATH:+:$PYTHONPATH}" python3 -W ignore benchmarks/validation.py \
  --name validation_tf32 --data "$MOEGS_DATA/panoptic_basketball" --parser panoptic-data \
  --parser-options="--frames ${FRAMES:-0 66} --points-file init_t0_22k.npz --min-points 10" \
  --val-cameras 4 12 20 26 --variants "${variants[@]}" --at-once "${AT_ONCE:-3}" \
  --output-dir "${RUNS:-outputs/validation}" --results-dir "${OUT:-benchmarks/results}"
