"""Metrics of images, depth, motion and routing; tables of results."""
