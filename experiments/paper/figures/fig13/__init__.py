"""What tuning the profile table is worth."""

from experiments.paper.figures.fig13.figure import FIGURE

__all__ = ["FIGURE"]
