"""What is wrong with the footage of a multi-camera scene, found before training."""
