"""Sweeps: one experiment at many settings, computed side by side, resumed where it was left."""
