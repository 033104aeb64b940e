"""4DGaussians (Wu et al., CVPR 2024)."""
