"""Dynamic3DGaussians (Luiten et al., 3DV 2024), all frames at once: Gaussians are tracked."""
