"""Frames: decoding, the frame store, batches of training images."""
