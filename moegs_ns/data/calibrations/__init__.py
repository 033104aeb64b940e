"""Calibrations that other tools write, each read as the cameras of a rig.

One file for each format; `formats` tells them apart.
"""
