"""The tables of the MoE-GS paper on any scene: what they train, measure, and say."""
