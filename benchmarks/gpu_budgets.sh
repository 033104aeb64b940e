#!/usr/bin/env bash
# On a CUDA machine with the PanopticSports scene in $MOEGS_DATA: the mixture of three experts at
# several budgets of the experts (MoE-GS, Table 6) and with five seeds at a fifth of the steps
# (Table 12), and two experts trained jointly against two stages (appendix B.1). The tables *_gains
# tell what mixtures gain over the best expert of the same seed. All at once, spread over the GPUs.
set -uo pipefail
here="$(dirname "$0")"
export ROUTER_BUDGET="${ROUTER_BUDGET:-0.2}"
three="moegs-ed3dgs moegs-ex4dgs moegs-4dgaussians"
mixture() { # NAME METHODS OPTIONS OF THE ENVIRONMENT
  env NAME="$1" METHODS="$2" MIXTURES="${2// /,}" "${@:3}" "$here/gpu_basketball.sh"
}
mixture basketball_seeds "$three" BUDGET=0.2 SEEDS="${SEEDS:-0 1 2 3 4}" SEEDS_AT_ONCE=2 &
mixture basketball_budget_10 "$three" BUDGET=0.1 SEEDS=0 &
mixture basketball_joint "moegs-ex4dgs moegs-stg" BUDGET=0.2 SEEDS=0 JOINT=yes &
wait -n -f
mixture basketball_budget_50 "$three" BUDGET=0.5 SEEDS=0 &
wait
