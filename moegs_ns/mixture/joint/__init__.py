"""Experts and router trained together (MoE-GS, appendix B.1)."""
