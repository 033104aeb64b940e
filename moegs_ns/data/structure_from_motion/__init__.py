"""Cameras of a rig from its own recordings, without a calibration."""
