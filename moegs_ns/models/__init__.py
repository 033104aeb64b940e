"""The nerfstudio side of training: models, pipeline, trainer, checkpoints. No maths."""
