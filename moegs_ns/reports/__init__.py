"""Figures and pictures of trained runs."""
