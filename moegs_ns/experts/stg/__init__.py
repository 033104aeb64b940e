"""Spacetime Gaussians (Li et al., CVPR 2024)."""
