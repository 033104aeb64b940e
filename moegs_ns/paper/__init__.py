"""Tables and figures of MoE-GS from finished runs."""
