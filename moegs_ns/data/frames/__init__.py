"""Frames: decoding, the frame store, the data set over it."""
