"""The demo scene: a small moving world, ray-traced."""
