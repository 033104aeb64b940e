"""E-D3DGS: per-Gaussian embeddings (Bae et al., ECCV 2024)."""
