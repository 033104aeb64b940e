"""FreeTimeGS (Wang et al., CVPR 2025): Gaussians that live at times of their own."""
