"""Figures of MoE-GS, drawn from finished runs on held-out images."""
