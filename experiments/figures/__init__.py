"""Figures: first plain data, then the drawing."""
