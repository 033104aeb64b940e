"""MoE-GS, a mixture of dynamic Gaussian splatting experts, as a nerfstudio plugin."""
