"""Ex4DGS: explicit key frames (Lee et al., NeurIPS 2024)."""
