"""nerfstudio's trainer, pipeline and viewer controls for our models."""
