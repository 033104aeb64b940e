"""Runs on disk: checkpoints, compact checkpoints, stored results."""
