"""Measurements into a platform profile."""
