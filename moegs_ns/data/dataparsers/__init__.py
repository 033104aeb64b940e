"""Data sets: cameras, frames and initial points of each layout."""
