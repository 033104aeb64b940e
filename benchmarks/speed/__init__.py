"""What one operation, one training step or one frame costs."""
