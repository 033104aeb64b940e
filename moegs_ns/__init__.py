"""MoE-GS, a mixture of dynamic Gaussian splatting experts, as a nerfstudio plugin."""

import os
import sys

if "torch" not in sys.modules:
    # Threads that wait must not spin: torch's and Numba's would take each other's cores. OpenMP
    # reads this once, when torch loads it. For nerfstudio's commands, which have loaded it by now,
    # see launch/nerfstudio_commands.py.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
