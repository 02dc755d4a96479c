"""Figure 14: the whole comparison."""

from experiments.paper.figures.fig14.figure import FIGURE

__all__ = ["FIGURE"]
