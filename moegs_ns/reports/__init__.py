"""Figures and images of trained runs."""
