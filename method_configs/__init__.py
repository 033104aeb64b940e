"""Configurations of the methods that `ns-train` lists, one file per family."""
