"""`ns-train moegs-router-technicolor`: the router (MoE-GS) with its Technicolor rates.

Numbers: 0.1 for w and 0.01 for w_time and Φ, a fifth of those of N3V, in the authors' released
code. That code gives w_dir the rate of w_time; here it has that of w, as the paper says.
"""

from moegs_ns.method_configs.moegs_router import router_method

method = router_method(
    "moegs-router-technicolor",
    "Mixture: moegs-router with the lower rates released for Technicolor.",
    weights=0.1,
    time=0.01,
    phi=0.01,
)
