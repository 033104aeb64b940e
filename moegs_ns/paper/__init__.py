"""Tables and figures of the MoE-GS paper on any scene: what they train, measure, draw and say."""
